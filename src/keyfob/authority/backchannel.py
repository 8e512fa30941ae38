"""Telling OpenID clients that sessions are over, whatever ended them (OpenID Connect Back-Channel Logout 1.0).

Whoever ends something appends an entry to the feed and waits for no client. What comes of it is in `logout_queue` and `logout_delivery`.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Final

from keyfob.authority.backchannel_rules import waits_since
from keyfob.authority.logout_delivery import LogoutDelivery
from keyfob.authority.logout_queue import LogoutQueue
from keyfob.base.clock import Clock
from keyfob.grants.store import OutboxStore

LOOK_INTERVAL: Final = 5.0  # seconds between looks at what is due, where the feed has not moved


class Backchannel:
    """Queues and delivers logout tokens, a step at a time, for as long as its authority is open."""

    def __init__(
        self, queue: LogoutQueue, delivery: LogoutDelivery, outbox: OutboxStore, *, clock: Clock
    ) -> None:
        self.queue = queue
        self.delivery = delivery
        self._outbox = outbox
        self._clock = clock
        self._looked_at = -math.inf

    async def step(self) -> None:
        """Queue what the feed has new, and begin to deliver what is due; where neither can be, no I/O.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        has_moved = await self.queue.fill()
        now = self._clock.elapsed()
        if has_moved or now >= min(self._looked_at + LOOK_INTERVAL, self.delivery.due_again_at):
            self._looked_at = now
            await self.delivery.begin_due()

    async def oldest(self) -> tuple[int, timedelta]:
        """Return how many deliveries wait, and since when the first of them; with none, no time.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        waiting = await self._outbox.waiting()
        return waiting.deliveries, waits_since(waiting, self._clock.now())

    async def stop(self) -> None:
        """Break off what is under way."""
        await self.delivery.stop()
