"""Deleting what is over, beside everything else that a store does: a little at a time, and for a part of the time alone.

Whoever waits for the store meanwhile waits for one small step at most. After each step the cleaner pauses for as long as keeps it at its
share of the time, so a slow store is asked less, not more. If it does not get done for minutes, more is over each second than its share
deletes: then the share doubles, up to a half, rather than that the store grows without end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from keyfob.base.clock import Clock
from keyfob.stores.store import Store

BATCH: Final = 200  # rows deleted in one step: a few milliseconds
SHARE: Final = 0.05  # of the time
LARGEST_SHARE: Final = 0.5
PATIENCE: Final = 120.0  # seconds of one cleaning after which the share doubles, and again after as many
LONGEST_PAUSE: Final = 15.0  # seconds: after a step that waited for others, or for a store that is overloaded
AUDIT_RETENTION = timedelta(days=365)


class Cleaning:
    """Cleans one store."""

    def __init__(
        self, store: Store, *, clock: Clock, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """*pause* returns after so many seconds."""
        self.deleted = 0
        """Rows that went since this was made, also in a cleaning that was cancelled."""
        self._store = store
        self._clock = clock
        self._pause = pause

    async def clean(self, now: datetime) -> int:
        """Delete whatever is over at *now*; return how many rows went.

        Raises:
            StoreUnavailable: the store does not answer; what was deleted until then is.
        """
        store = self._store
        verbs: tuple[Callable[[], Awaitable[int]], ...] = (
            lambda: store.sessions.delete_expired(now, BATCH),
            lambda: store.feed.delete_expired(now, BATCH),
            lambda: store.throttle.delete_expired(now, BATCH),
            lambda: store.clients.delete_expired(now, BATCH),
            lambda: store.audit.delete_expired(now - AUDIT_RETENTION, BATCH),
            lambda: store.reports.delete_expired(now, BATCH),
            lambda: store.grants.delete_expired(now, BATCH),
            lambda: store.consents.delete_expired(now, BATCH),
            lambda: store.outbox.delete_expired(now, BATCH),
        )
        begin, before = self._clock.elapsed(), self.deleted
        while verbs:  # in turn, so that a store with millions of sessions to delete does not keep its entries until then
            steps = [(verb, await self._step(verb, begin)) for verb in verbs]
            verbs = tuple(verb for verb, gone in steps if gone > 0)
        return self.deleted - before

    async def _step(self, verb: Callable[[], Awaitable[int]], begin: float) -> int:
        start = self._clock.elapsed()
        gone = await verb()
        end = self._clock.elapsed()
        self.deleted += gone
        await self._pause(pause_after(end - start, working_for=end - begin))
        return gone


def pause_after(took: float, *, working_for: float) -> float:
    """Return how long to pause after a step that *took* so long, in a cleaning that has gone on for *working_for*; all in seconds.

    At exactly `PATIENCE` the share is doubled already.
    """
    share = min(SHARE * 2 ** min(working_for // PATIENCE, 10.0), LARGEST_SHARE)
    return min(took * (1 / share - 1), LONGEST_PAUSE)
