"""The slots of a cluster: where a key lies, and a key for each of them."""

from __future__ import annotations

from binascii import crc_hqx
from functools import cache
from typing import Final

COUNT: Final = 16_384


def slot_of(key: bytes) -> int:
    """Return the slot of *key*: of what stands between its first braces, where anything does."""
    start = key.find(b"{") + 1
    end = key.find(b"}", start) if start else -1
    return crc_hqx(key[start:end] if end > start else key, 0) % COUNT


@cache
def tags() -> tuple[bytes, ...]:
    """Return a hash tag for each slot: the least number that leads there, which is the same for ever."""
    found: dict[int, bytes] = {}
    number = 0
    while len(found) < COUNT:
        tag = str(number).encode()
        found.setdefault(crc_hqx(tag, 0) % COUNT, tag)
        number += 1
    return tuple(tag for _, tag in sorted(found.items()))
