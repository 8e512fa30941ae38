"""What PostgreSQL can keep as a text: everything but NUL, and nothing that is no UTF-8."""

from __future__ import annotations

from keyfob.stores.rows import Value

_NUL = "\0"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def can_be_kept(text: str) -> bool:
    """Say whether there can be a row with *text*; what cannot be kept is not found."""
    return _NUL not in text and (text.isascii() or _is_utf8(text))


def storable(value: Value) -> Value:
    """Return *value* with whatever cannot be kept replaced, for texts that nobody looks up by."""
    if not isinstance(value, str) or can_be_kept(value):
        return value
    return value.encode("utf-8", "replace").decode().replace(_NUL, _REPLACEMENT)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
