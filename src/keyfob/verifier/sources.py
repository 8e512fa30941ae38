"""How much each source may make a verifier ask: whoever guesses tokens is slowed down, and nobody else (design.md, precondition 11)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from keyfob.base.errors import RateLimited
from keyfob.verifier.generations import Generations

MAX_IN_FLIGHT = 32
"""Questions of one source at once. An office behind one address that starts its day at once stays below; a flood does not."""
MAX_UNKNOWN = 30
"""Tokens of one source that turned out to be nobody's before it has to wait; one is forgiven each second."""
MAX_SOURCES = 20_000  # remembered; each takes some 200 bytes


@dataclass(slots=True)
class _Source:
    in_flight: int = 0
    unknown: float = 0.0
    at: float = 0.0  # when `unknown` was counted, in seconds of the boot-time clock


class Sources:
    """Counts by source: an address, or whatever else tells callers apart. Safe to use from any thread."""

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self._lock = threading.Lock()
        self._sources: Generations[str, _Source] = Generations(MAX_SOURCES)

    def begin(self, name: str) -> None:
        """Count a question of *name*; an empty name is nobody in particular and is not counted.

        Raises:
            RateLimited: it has `MAX_IN_FLIGHT` under way, or brought `MAX_UNKNOWN` tokens that were nobody's.
        """
        if not name:
            return
        with self._lock:
            source = self._of(name)
            if source.in_flight >= MAX_IN_FLIGHT:
                raise RateLimited(1.0, "Too many tokens are being asked about for you.")
            wait = source.unknown + 1 - MAX_UNKNOWN
            if wait > 0:
                raise RateLimited(wait, "Too many of your tokens were nobody's.")
            source.in_flight += 1

    def end(self, name: str, *, unknown: int) -> None:
        """Count the answer to a question of *name*; *unknown* is 1 where the token was nobody's, else 0."""
        if not name:
            return
        with self._lock:
            source = self._of(name)
            source.in_flight = max(0, source.in_flight - 1)
            source.unknown += unknown

    def _of(self, name: str) -> _Source:
        now = self._elapsed()
        source = self._sources.get(name)
        if source is None:
            source = _Source(at=now)
            self._sources.put(name, source)
        source.unknown = max(0.0, source.unknown - (now - source.at))
        source.at = now
        return source
