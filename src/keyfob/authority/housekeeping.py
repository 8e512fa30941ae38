"""What an authority does by itself: write activity, drop what is over, look after its keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from keyfob.authority.revocation_slo import RevocationReports
from keyfob.base.clock import Clock
from keyfob.base.errors import KeyfobError
from keyfob.keys.key_ring import KeyRing
from keyfob.sessions.activity import Activity
from keyfob.stores.store import Store

ACTIVITY_INTERVAL = 1.0  # seconds between batches of activity
CLEANING_INTERVAL = 60.0  # seconds between cleanings
KEYS_INTERVAL = 30.0  # seconds between looks at the keys
RETIRED_INTERVAL = 3600.0  # seconds between deletions of keys that nothing can need any more
BATCH = 1_000  # rows deleted in one step, so that no step holds the store for long
AUDIT_RETENTION = timedelta(days=365)

_log = logging.getLogger("keyfob.housekeeping")


class Housekeeping:
    """Runs the chores of an authority until stopped. A chore that fails is logged, and done again at its next time."""

    def __init__(
        self, store: Store, activity: Activity, keys: KeyRing, reports: RevocationReports, *, clock: Clock
    ) -> None:
        self._store = store
        self._activity = activity
        self._keys = keys
        self._reports = reports
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin. Called twice, it does nothing the second time."""
        if self._tasks:
            return
        chores: tuple[tuple[Callable[[], Awaitable[object]], float], ...] = (
            (self._activity.write, ACTIVITY_INTERVAL),
            (self.clean, CLEANING_INTERVAL),
            (self._keys.reload, KEYS_INTERVAL),
            (self._keys.delete_retired, RETIRED_INTERVAL),
        )
        if self._reports.period:
            # Twice a period: whose turn it is the store decides, and nobody's waking is exact.
            chores += ((self._reports.revoke_canary, self._reports.period.total_seconds() / 2),)
        self._tasks = [
            asyncio.create_task(_repeat(chore, seconds), name=f"keyfob {chore.__qualname__}")
            for chore, seconds in chores
        ]

    async def stop(self) -> None:
        """End the chores and write the last activity."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await _once(self._activity.write)

    async def clean(self) -> int:
        """Delete whatever is over, batch by batch; return how many rows went."""
        now = self._clock.now()
        store = self._store
        verbs: tuple[Callable[[], Awaitable[int]], ...] = (
            lambda: store.sessions.delete_expired(now, BATCH),
            lambda: store.feed.delete_expired(now, BATCH),
            lambda: store.throttle.delete_expired(now, BATCH),
            lambda: store.clients.delete_expired(now, BATCH),
            lambda: store.audit.delete_expired(now - AUDIT_RETENTION, BATCH),
            lambda: store.reports.delete_expired(now, BATCH),
        )
        deleted = 0
        for verb in verbs:
            while (batch := await verb()) > 0:
                deleted += batch
                await asyncio.sleep(0)
        return deleted


async def _repeat(chore: Callable[[], Awaitable[object]], seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        await _once(chore)


async def _once(chore: Callable[[], Awaitable[object]]) -> None:
    try:
        await chore()
    except KeyfobError as error:
        _log.warning("housekeeping: %s", error)
    except Exception:  # noqa: BLE001 - the edge of a task: a chore that ends for good would go unseen
        _log.exception("housekeeping")
