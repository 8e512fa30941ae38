"""How a feed is served."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from keyfob.base.errors import ConfigurationError

_SHORTEST, _LONGEST = timedelta(seconds=0.1), timedelta(seconds=5)  # heartbeat


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSettings:
    """How a feed is served.

    `heartbeat`: how often the head is signed, 0.1 to 5 s. `recent`: entries in memory for followers that come back; one that missed more
    is served from the store, up to `backlog`, and past that told to resynchronise. `buffer`: bytes that a follower may lag behind. `followers`: how many
    this process serves at once.

    Raises:
        ConfigurationError: a bound is broken.
    """

    heartbeat: timedelta = timedelta(seconds=1)
    recent: int = 10_000
    backlog: int = 50_000
    buffer: int = 8 << 20
    followers: int = 2_000

    def __post_init__(self) -> None:
        if not _SHORTEST <= self.heartbeat <= _LONGEST:
            raise ConfigurationError("feed.heartbeat must be 0.1 to 5 seconds")
        if min(self.recent, self.backlog, self.buffer, self.followers) < 1:
            raise ConfigurationError(
                "feed.recent, feed.backlog, feed.buffer and feed.followers must be at least 1"
            )
