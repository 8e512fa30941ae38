"""What a deployment decides about its sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from keyfob.base.errors import ConfigurationError
from keyfob.base.identifiers import Strategy

MAX_REPLAY_WINDOW = timedelta(seconds=300)
MAX_JWT_LIFETIME = timedelta(hours=24)  # no verifier takes an access token that lives longer


class AtLimit(StrEnum):
    """What happens to a login when the subject has as many sessions as allowed."""

    DENY = "deny"
    END_OLDEST = "end_oldest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long a session of one strategy lives. A session ends at the instant its limit is reached, not after it."""

    idle: timedelta | None
    absolute: timedelta


def _default_lifetimes() -> dict[Strategy, Lifetimes]:
    return {
        Strategy.SESSION: Lifetimes(idle=timedelta(minutes=30), absolute=timedelta(hours=12)),
        Strategy.HYBRID: Lifetimes(idle=timedelta(days=14), absolute=timedelta(days=30)),
        Strategy.JWT: Lifetimes(idle=None, absolute=timedelta(minutes=10)),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPolicy:
    """The defaults are those of contract.md.

    `replay_window`: how long the parent of a refresh token still gives the current one; 0 to 300 s. `touch_interval`: how often activity
    is written at most. `max_cache_age`: how long a session read from the store may be cached.

    Raises:
        ConfigurationError: a bound is broken.
    """

    lifetimes: dict[Strategy, Lifetimes] = field(default_factory=_default_lifetimes)
    replay_window: timedelta = timedelta(seconds=30)
    touch_interval: timedelta = timedelta(seconds=60)
    max_cache_age: timedelta = timedelta(minutes=5)
    sessions_per_subject: int = 100
    at_limit: AtLimit = AtLimit.END_OLDEST

    def __post_init__(self) -> None:
        if not timedelta(0) <= self.replay_window <= MAX_REPLAY_WINDOW:
            raise ConfigurationError("refresh.replay_window must be 0 to 300 seconds")
        if self.sessions_per_subject < 1:
            raise ConfigurationError("sessions.per_subject must be at least 1")
        if not timedelta(0) < self.max_cache_age <= timedelta(minutes=5):
            raise ConfigurationError("sessions.max_cache_age must be above 0 and at most 5 minutes")
        if self.touch_interval <= timedelta(0):
            raise ConfigurationError("sessions.touch_interval must be above 0")
        if set(self.lifetimes) != set(Strategy):
            raise ConfigurationError("the lifetimes of a policy name every strategy: session, jwt and hybrid")
        for strategy, lifetimes in self.lifetimes.items():
            limits = [limit for limit in (lifetimes.absolute, lifetimes.idle) if limit is not None]
            if min(limits) <= timedelta(0):
                raise ConfigurationError(f"the lifetimes of strategy {strategy.value} must be above 0")
            if strategy is Strategy.JWT and lifetimes.absolute > MAX_JWT_LIFETIME:
                raise ConfigurationError("a session of strategy jwt lives at most 24 hours")

    @property
    def longest_session(self) -> timedelta:
        """Return the longest that a session of any strategy lives."""
        return max(lifetimes.absolute for lifetimes in self.lifetimes.values())

    def touch_interval_within(self, idle: timedelta | None) -> timedelta:
        """Return how often activity of a session with the limit *idle* is written at most: a quarter of a short one, so that no active
        session idles out between two writes."""
        return self.touch_interval if idle is None else min(self.touch_interval, idle / 4)
