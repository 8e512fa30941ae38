"""What PostgreSQL can keep as a text: everything but NUL, and nothing that is no UTF-8."""

from __future__ import annotations

_NUL = "\0"


def can_be_kept(text: str) -> bool:
    """Say whether there can be a row with *text*; what cannot be kept is not found."""
    return _NUL not in text and (text.isascii() or _is_utf8(text))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
