"""Guards at the authority itself: the same as a verifier's, over the entries that this process holds."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from keyfob.authority.checks import Checks
from keyfob.base.clock import Clock
from keyfob.base.errors import Cause, Denied
from keyfob.base.principal import Principal
from keyfob.revocation.feed import Feed
from keyfob.revocation.live_entries import LiveEntries
from keyfob.verifier.guard import Guard

_DEFAULT_LIMIT = timedelta(seconds=5)


class AuthorityView:
    """What the authority knows of its own feed."""

    def __init__(self, feed: Feed, clock: Clock) -> None:
        self._feed = feed
        self._clock = clock

    @property
    def live(self) -> LiveEntries:
        """The entries that this process applied."""
        return self._feed.live

    @property
    def time(self) -> AuthorityView:
        """This process's clock is the authority's."""
        return self

    def now(self) -> float:
        """Return seconds since the epoch."""
        return self._clock.time()

    @property
    def last_level_at(self) -> float:
        """When the entries were last known to be level with the store."""
        return self._clock.time() - self._feed.staleness()


def guard(
    principal: Principal,
    *,
    feed: Feed,
    checks: Checks,
    clock: Clock,
    limit: timedelta | None,
    task: asyncio.Task[object] | None,
) -> Guard:
    """Return a guard for *principal*; without *limit* it bears five seconds without a sign of the store."""

    def checked(token: str) -> Principal:
        renewed = checks.cached(token)
        if renewed is None:
            raise Denied(
                Cause.UNKNOWN_SESSION, "not in the cache: authenticate it before the guard is renewed"
            )
        return renewed

    seconds = (_DEFAULT_LIMIT if limit is None else limit).total_seconds()
    return Guard(principal, view=AuthorityView(feed, clock), limit=seconds, verify=checked, task=task)
