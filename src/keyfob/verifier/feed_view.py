"""What a verifier knows of the feed, and how fresh that is. The reader writes, everybody else looks."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from keyfob.base.clock import Clock
from keyfob.base.errors import Cause
from keyfob.base.principal import Principal
from keyfob.revocation.live_entries import LiveEntries
from keyfob.verifier.server_time import ServerTime

LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)  # seconds, upper bounds


@dataclass(slots=True)
class LagHistogram:
    """How long entries took from the authority's clock to this process, in seconds; never below 0."""

    count: int = 0
    total: float = 0.0
    longest: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(LAG_BUCKETS) + 1))

    def add(self, lag: float) -> None:
        """Count one entry. The last bucket is for all that took longer than the largest bound."""
        lag = max(lag, 0.0)
        self.count += 1
        self.total += lag
        self.longest = max(self.longest, lag)
        self.buckets[sum(lag > bound for bound in LAG_BUCKETS)] += 1


class FeedView:
    """The live entries, the authority's time, and the moments at which the two were level.

    `level_at` is the signed time inside the last level heartbeat, in seconds since the epoch: minus infinity before the first, and while a
    gap or a forgery is being mended. `last_level_at` is the same and survives the mending, for what has a bound of its own.
    """

    __slots__ = ("_changed", "follows", "lag", "last_level_at", "level_at", "live", "time")

    follows: bool

    def __init__(self, clock: Clock, *, live: LiveEntries | None = None) -> None:
        self.live = LiveEntries() if live is None else live
        self.follows = live is None
        self.time = ServerTime(clock)
        self.level_at = -math.inf
        self.last_level_at = -math.inf
        self.lag = LagHistogram()
        self._changed = threading.Condition()

    @classmethod
    def offline(cls, clock: Clock) -> FeedView:
        """Return the view of a verifier that follows no feed: nothing is ever covered, and nothing ever level."""
        return cls(clock, live=_NoEntries())

    def staleness(self) -> float:
        """Return the seconds since the entries were known to be level, by the authority's clock; infinity if they are not."""
        return max(0.0, self.time.now() - self.level_at)

    def level(self, at: float) -> None:
        """Note that everything that existed at *at* is held."""
        with self._changed:
            self.level_at = self.last_level_at = max(at, self.last_level_at)
            self._changed.notify_all()

    def broken(self) -> None:
        """Note that something is missing or wrong: stale until it is mended."""
        self.level_at = -math.inf

    def wake(self) -> None:
        """Make whoever waits look again."""
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, predicate: Callable[[], bool], *, timeout: float) -> None:
        """Wait until *predicate* holds, looking whenever something changes, for up to *timeout* seconds."""
        with self._changed:
            self._changed.wait_for(predicate, timeout)

    def renew_locks(self) -> None:
        """Make the locks anew in a forked child, where their holder does not exist."""
        self._changed = threading.Condition()
        self.live.renew_locks()


class _NoEntries(LiveEntries):
    """The entries of nobody's feed: cover nothing, of whatever timeline."""

    def cause(self, principal: Principal) -> Cause | None:
        return None

    def is_settled(self, principal: Principal) -> bool:
        return True
