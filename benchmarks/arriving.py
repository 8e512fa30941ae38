"""Entries that arrive while something else is measured."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

from keyfob.base.identifiers import Position
from keyfob.revocation.entry import Entry, Reach, Scope, next_chain
from keyfob.revocation.live_entries import LiveEntries

RATE = 5_000  # entries a second
AT_ONCE = 25  # entries that come together


class Arriving:
    """Applies entries from a thread of its own while it is entered, one after another, as the reader of a feed does."""

    def __init__(self, live: LiveEntries, *, lifetime: timedelta) -> None:
        self._live = live
        self._lifetime = lifetime
        self._ended = threading.Event()
        self._thread = threading.Thread()
        self._seconds = 0.0
        self._begun = 0.0
        self.applied = 0

    @property
    def rate(self) -> float:
        """How many were applied a second."""
        return self.applied / self._seconds if self._seconds else 0.0

    def __enter__(self) -> None:
        self._ended.clear()
        self._begun = time.perf_counter()
        self._thread = threading.Thread(target=self._apply, daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._seconds += time.perf_counter() - self._begun

    def _apply(self) -> None:
        pause = AT_ONCE / RATE
        due = time.perf_counter()
        while not self._ended.wait(max(0.0, due - time.perf_counter())):
            due += pause
            for _ in range(AT_ONCE):
                self._live.apply([self._next()])
                self.applied += 1

    def _next(self) -> Entry:
        head, now = self._live.head, datetime.now(UTC)
        facts = {
            "position": Position(head.position + 1),
            "at": now,
            "scope": Scope.SESSION,
            "id": f"{head.position:032x}",
            "reach": Reach.END,
            "spared": None,
            "until": now + self._lifetime,
        }
        return Entry(**facts, chain=next_chain(head.chain, **facts))
