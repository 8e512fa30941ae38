"""A bounded memory of two generations: what both caches of a verifier are."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Kept = TypeVar("_Kept")


class Generations(Generic[_Key, _Kept]):
    """Keeps values by key, at most *capacity*, and at least the latest half of that.

    What was not asked for while the younger generation filled is forgotten with the older one. Safe to use from several threads at once:
    each step is atomic, and what two threads may do twice is harmless.
    """

    __slots__ = ("_old", "_promoted", "_young", "capacity", "evictions")

    def __init__(self, capacity: int) -> None:
        self.capacity = max(2, capacity)
        self.evictions = 0
        """How many were forgotten to make room."""
        self._promoted = 0  # of the older generation, those that are in the younger too
        self._young: dict[_Key, _Kept] = {}
        self._old: dict[_Key, _Kept] = {}

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def get(self, key: _Key) -> _Kept | None:
        """Return what is kept for *key*, however old it is; the caller judges."""
        kept = self._young.get(key)
        if kept is not None:
            return kept
        kept = self._old.get(key)
        if kept is not None:
            self._promoted += 1  # before: it may be what makes the generations change
            self.put(key, kept)
        return kept

    def put(self, key: _Key, kept: _Kept) -> None:
        """Keep *kept* for *key*, in place of what was there."""
        if len(self._young) * 2 >= self.capacity:
            self.evictions += max(0, len(self._old) - self._promoted)
            self._promoted = 0
            self._old, self._young = self._young, {}
        self._young[key] = kept

    def forget(self, key: _Key) -> None:
        """Drop what is kept for *key*, if anything."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def clear(self) -> None:
        """Drop everything."""
        self._promoted = 0
        self._old, self._young = {}, {}
