"""The latest that a follower heard and that held, as it was signed: what it hands back when it comes again.

An authority that was started on an older copy of its store looks to itself like any other. Its own signature tells it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

MOST_KEPT: Final = 40_000
"""Characters of batches: some 100 entries. An authority reads bodies of 64 KiB."""
_MOST_BATCHES: Final = 64


class Evidence:
    """Keeps one heartbeat, and the batches up to it and past it, within bounds. For one thread."""

    def __init__(self) -> None:
        self._heartbeat: str | None = None
        self._batches: deque[str] = deque()
        self._kept = 0

    def level(self, heartbeat: str) -> None:
        """Keep the *heartbeat* at which the follower is level."""
        self._heartbeat = heartbeat

    def heard(self, batch: str) -> None:
        """Keep a *batch* that continues what is held; the oldest are dropped where there are too many."""
        self._batches.append(batch)
        self._kept += len(batch)
        while self._kept > MOST_KEPT or len(self._batches) > _MOST_BATCHES:
            self._kept -= len(self._batches.popleft())

    def jumped(self) -> None:
        """A snapshot was taken: the batches before it no longer continue into what comes."""
        self._batches.clear()
        self._kept = 0

    def document(self) -> bytes | None:
        """Return the body of `POST /feed/evidence`; None before the first heartbeat."""
        if self._heartbeat is None:
            return None
        return msgspec.json.encode({"heartbeat": self._heartbeat, "entries": list(self._batches)})
