"""What an authority does by itself: write activity, drop what is over, look after its keys, tell clients what is over."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from keyfob.authority.backchannel import Backchannel
from keyfob.authority.cleaning import Cleaning
from keyfob.authority.revocation_slo import RevocationReports
from keyfob.base.clock import Clock
from keyfob.base.errors import KeyfobError
from keyfob.keys.key_ring import KeyRing
from keyfob.sessions.activity import Activity
from keyfob.stores.store import Store

BACKCHANNEL_INTERVAL = 0.25  # seconds between looks at whether the feed has moved
ACTIVITY_INTERVAL = 1.0  # seconds between batches of activity
CLEANING_INTERVAL = 60.0  # seconds between cleanings
KEYS_INTERVAL = 30.0  # seconds between looks at the keys
RETIRED_INTERVAL = 3600.0  # seconds between deletions of keys that nothing can need any more

_log = logging.getLogger("keyfob.housekeeping")


class Housekeeping:
    """Runs the chores of an authority until stopped. A chore that fails is logged, and done again at its next time."""

    def __init__(
        self,
        store: Store,
        activity: Activity,
        keys: KeyRing,
        reports: RevocationReports,
        backchannel: Backchannel,
        *,
        clock: Clock,
    ) -> None:
        self._activity = activity
        self._keys = keys
        self._reports = reports
        self._backchannel = backchannel
        self._clock = clock
        self._cleaning = Cleaning(store, clock=clock)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin. Called twice, it does nothing the second time."""
        if self._tasks:
            return
        chores: tuple[tuple[Callable[[], Awaitable[object]], float], ...] = (
            (self._activity.write, ACTIVITY_INTERVAL),
            (self._backchannel.step, BACKCHANNEL_INTERVAL),
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
        self._tasks.append(asyncio.create_task(self._keep_clean(), name="keyfob cleaning"))

    async def stop(self) -> None:
        """End the chores and write the last activity."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._backchannel.stop()
        await _once(self._activity.write)

    async def clean(self) -> int:
        """Delete whatever is over, a little at a time; return how many rows went."""
        return await self._cleaning.clean(self._clock.now())

    async def _keep_clean(self) -> None:
        # Servers and workers that were started together do not clean together.
        await asyncio.sleep(CLEANING_INTERVAL * random.random())  # noqa: S311 - no secret
        await _once(self.clean)
        await _repeat(self.clean, CLEANING_INTERVAL)


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
