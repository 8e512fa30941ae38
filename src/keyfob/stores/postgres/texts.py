"""How a text is kept that nobody looks up by."""

from __future__ import annotations

from keyfob.stores.rows import Value
from keyfob.stores.texts import can_be_kept

_NUL = "\0"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def storable(value: Value) -> Value:
    """Return *value* with whatever cannot be kept replaced, for texts that nobody looks up by."""
    if not isinstance(value, str) or can_be_kept(value):
        return value
    return value.encode("utf-8", "replace").decode().replace(_NUL, _REPLACEMENT)
