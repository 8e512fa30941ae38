"""A bounded memory of two generations: what both caches of a verifier are."""

from __future__ import annotations

from typing import Generic, TypeVar

_Kept = TypeVar("_Kept")


class Generations(Generic[_Kept]):
    """Keeps values by text, at most *capacity*, and at least the latest half of that.

    What was not asked for while the younger generation filled is forgotten with the older one. Safe to use from several threads at once:
    each step is atomic, and what two threads may do twice is harmless.
    """

    __slots__ = ("_old", "_young", "capacity")

    def __init__(self, capacity: int) -> None:
        self.capacity = max(2, capacity)
        self._young: dict[str, _Kept] = {}
        self._old: dict[str, _Kept] = {}

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def get(self, token: str) -> _Kept | None:
        """Return what is kept for *token*, however old it is; the caller judges."""
        kept = self._young.get(token)
        if kept is not None:
            return kept
        kept = self._old.get(token)
        if kept is not None:
            self.put(token, kept)
        return kept

    def put(self, token: str, kept: _Kept) -> None:
        """Keep *kept* for *token*, in place of what was there."""
        if len(self._young) * 2 >= self.capacity:
            self._old, self._young = self._young, {}
        self._young[token] = kept

    def forget(self, token: str) -> None:
        """Drop what is kept for *token*, if anything."""
        self._young.pop(token, None)
        self._old.pop(token, None)

    def clear(self) -> None:
        """Drop everything."""
        self._old, self._young = {}, {}
