"""Sessions read from the store, or introspected, that may be answered from memory for a while. Free of I/O and of the rule."""

from __future__ import annotations

from datetime import datetime

from keyfob.base.identifiers import Position
from keyfob.base.principal import Principal
from keyfob.verifier.generations import Generations


class CachedSession:
    """One session as it was read.

    `principal.as_of` must be the feed position known *before* the read. `cached_at` is a moment before the read, too. From `stale_at` on
    it is to be read anew (its age, at most 5 minutes; or an earlier limit of the caller); `idle_at` is when the session becomes idle if
    it is not used again (None: never); at `principal.expires_at` it is over. All in seconds since the epoch, by the clock that the
    caller judges with.

    `checked`, `report_at`, `report_every` and `idle` are the caller's: the change counter of the feed at which the rule last said nothing
    covers it, when its use is next to be reported, how often, and for how long it may be left unused (None: for ever).
    """

    __slots__ = (
        "cached_at",
        "checked",
        "expires_at",
        "fresh_until",
        "idle",
        "idle_at",
        "principal",
        "report_at",
        "report_every",
        "stale_at",
    )

    def __init__(
        self,
        principal: Principal,
        *,
        cached_at: float,
        stale_at: float,
        idle_at: float | None,
        report_at: float = 0.0,
        report_every: float = 0.0,
        idle: float | None = None,
    ) -> None:
        self.principal = principal
        self.cached_at = cached_at
        self.stale_at = stale_at
        self.idle_at = idle_at
        self.report_at = report_at
        self.report_every = report_every
        self.idle = idle
        self.expires_at = principal.expires_at.timestamp()
        self.fresh_until = min(self.expires_at, stale_at, *(() if idle_at is None else (idle_at,)))
        """The first of its limits: before it one comparison answers."""
        self.checked = -1

    @property
    def as_of(self) -> Position:
        """The feed position known before the read."""
        return self.principal.as_of

    def touched(self, idle_at: datetime | float) -> None:
        """Note that the session was used, so that it idles only at *idle_at*."""
        self.idle_at = idle_at if isinstance(idle_at, float | int) else idle_at.timestamp()
        self.fresh_until = min(self.expires_at, self.stale_at, self.idle_at)


class SessionCache(Generations[str, CachedSession]):
    """Cached sessions by their token's text, bounded."""

    def __init__(self, capacity: int = 100_000) -> None:
        super().__init__(capacity)
