"""The latest entries of a feed, for followers that were away for a moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from keyfob.base.identifiers import Position
from keyfob.revocation.entry import Entry, Head


@dataclass(slots=True)
class RecentBatch:
    """Consecutive entries, and their frame once somebody needed it."""

    entries: tuple[Entry, ...]
    frame: bytes | None = field(default=None, repr=False)


class RecentEntries:
    """A ring of the latest batches with at least *capacity* entries, once there have been so many."""

    def __init__(self, position: Position, *, capacity: int) -> None:
        self._capacity = capacity
        self._batches: deque[RecentBatch] = deque()
        self._count = 0
        self.start = position
        """Every entry after this position is here."""

    def add(self, entries: Sequence[Entry]) -> RecentBatch:
        """Add a batch that continues the last one."""
        batch = RecentBatch(tuple(entries))
        self._batches.append(batch)
        self._count += len(batch.entries)
        while self._count - len(self._batches[0].entries) >= self._capacity:
            oldest = self._batches.popleft()
            self._count -= len(oldest.entries)
            self.start = oldest.entries[-1].position
        return batch

    def entries(self) -> list[Entry]:
        """Return all entries that are kept, in order."""
        return [entry for batch in self._batches for entry in batch.entries]

    def latest(self, count: int) -> list[Entry]:
        """Return the last *count* entries that are kept, in order, or all of them if there are fewer."""
        found: list[Entry] = []
        for batch in reversed(self._batches):
            found[:0] = batch.entries
            if len(found) >= count:
                break
        return found[-count:]

    def holds(self, head: Head) -> bool:
        """Say whether *head* is one of these entries, with this chain."""
        for batch in reversed(self._batches):
            first = batch.entries[0].position
            if head.position >= first:
                place = head.position - first
                return place < len(batch.entries) and batch.entries[place].chain == head.chain
        return False

    def after(self, position: Position) -> list[RecentBatch]:
        """Return the batches after *position*, which is at least `start`; the first one is cut where *position* lies within it."""
        found = []
        for batch in reversed(self._batches):
            if batch.entries[-1].position <= position:
                break
            found.append(batch)
        found.reverse()
        if found and found[0].entries[0].position <= position:
            skipped = position - found[0].entries[0].position + 1
            found[0] = RecentBatch(found[0].entries[skipped:])
        return found
