"""From the outbox to the clients: logout tokens, until they are taken or a day is over.

1. What is due is leased: nobody else has it meanwhile, and whoever dies with it leaves it to the others.
2. A client that was deleted, or wants to be told no more, is not told.
3. A fresh logout token is signed and posted.
4. Taken, the delivery is removed; else it is due again, later each time.

A crash between the answer and 4 has a client told twice, which does no harm: the session that it names is over already. No client holds up
another: each has few deliveries under way at once, and one that fails is left alone for a while.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final

import msgspec

from keyfob.authority.backchannel_rules import is_last_attempt, notice_of, retry_after
from keyfob.authority.logout_post import NotDelivered, PostLogoutToken
from keyfob.base.clock import Clock
from keyfob.base.errors import KeyfobError, StoreUnavailable
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId
from keyfob.clients.client import Client
from keyfob.clients.store import ClientStore
from keyfob.grants.delivery import Delivery
from keyfob.grants.store import OutboxStore

LEASE: Final = timedelta(minutes=1)
"""How long a delivery is one process's: far longer than an attempt takes, which `DEADLINE` ends."""
BEGIN_WITHIN: Final = LEASE / 2
"""A process that stood still for longer than this since its lease posts nothing: another may have it soon."""
UNDER_WAY: Final = 64  # deliveries of one process at once
PER_CLIENT: Final = 4  # of these to one client
ROOM_AGAIN: Final = timedelta(seconds=1)
"""When a delivery is looked at again for which its client had no room."""

_log = logging.getLogger("keyfob.backchannel")

SignLogoutToken = Callable[[Client, Delivery], str]
"""Makes the token that says what a delivery says, now."""


class LogoutDelivery:
    """Delivers logout tokens. Any number of servers do so on one store."""

    def __init__(
        self,
        outbox: OutboxStore,
        clients: ClientStore,
        *,
        sign: SignLogoutToken,
        post: PostLogoutToken,
        clock: Clock,
        tell: Callable[[Event], None],
    ) -> None:
        self.delivered = 0
        self.failed = 0
        """Attempts that were not taken."""
        self.given_up = 0
        """Deliveries that were not taken within a day."""
        self.dropped = 0
        """Deliveries to clients that want to be told no more."""
        self.due_again_at = math.inf
        """When something that this process put back is due, by `Clock.elapsed`, as far as it knows."""
        self._outbox = outbox
        self._clients = clients
        self._sign = sign
        self._post = post
        self._clock = clock
        self._tell = tell
        self._under_way: Counter[ClientId] = Counter()
        self._tasks: dict[asyncio.Task[None], Delivery] = {}
        self._failures: dict[ClientId, int] = {}
        self._left_alone_until: dict[ClientId, float] = {}

    async def begin_due(self) -> None:
        """Begin to deliver whatever is due, as far as there is room; what was begun goes on behind this call.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        self.due_again_at = math.inf
        while (room := UNDER_WAY - len(self._tasks)) > 0:
            now = self._clock.now()
            leased = await self._outbox.lease(now, until=now + LEASE, limit=room)
            leased_at = self._clock.elapsed()
            for delivery in leased:
                wait = self._wait_for(delivery.client_id)
                if wait is None:
                    self._begin(delivery, leased_at)
                elif is_last_attempt(delivery, now):
                    await self._give_up(delivery, "its client has taken nothing for long")
                else:
                    await self._due_again(delivery, wait)
            if len(leased) < room:
                return

    async def settled(self) -> None:
        """Return when nothing is under way."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def stop(self) -> None:
        """Break off what is under way, and leave it to others at once; where the store does not answer, when its lease is over."""
        broken_off = dict(self._tasks)
        for task in broken_off:
            task.cancel()
        await self.settled()
        with suppress(StoreUnavailable):
            for task, delivery in broken_off.items():
                if task.cancelled():
                    await self._due_again(delivery, timedelta(0))

    def _wait_for(self, client_id: ClientId) -> timedelta | None:
        """Return after how long the client is to be asked; None: at once."""
        alone = self._left_alone_until.get(client_id, 0.0) - self._clock.elapsed()
        if alone > 0:
            return timedelta(seconds=alone) + ROOM_AGAIN * random.random()  # noqa: S311 - no secret
        # One that failed last time is asked once before all else that waits for it.
        room = 1 if client_id in self._failures else PER_CLIENT
        return ROOM_AGAIN if self._under_way[client_id] >= room else None

    def _begin(self, delivery: Delivery, leased_at: float) -> None:
        self._under_way[delivery.client_id] += 1
        task = asyncio.create_task(self._attempt(delivery, leased_at), name="keyfob logout token")
        self._tasks[task] = delivery
        task.add_done_callback(lambda done: self._ended(done, delivery.client_id))

    def _ended(self, task: asyncio.Task[None], client_id: ClientId) -> None:
        del self._tasks[task]
        self._under_way[client_id] -= 1
        if not self._under_way[client_id]:
            del self._under_way[client_id]

    async def _attempt(self, delivery: Delivery, leased_at: float) -> None:
        try:
            await self._deliver(delivery, leased_at)
        except KeyfobError as error:  # it is due again when its lease is over
            _log.warning("a logout token to client %s: %s", delivery.client_id, error)
        except Exception:  # noqa: BLE001 - the edge of a task: nobody else would hear of it
            _log.exception("a logout token to client %s", delivery.client_id)

    async def _deliver(self, delivery: Delivery, leased_at: float) -> None:
        client = await self._clients.find(delivery.client_id)
        url = None if client is None else client.backchannel_logout_uri
        if client is None or url is None:
            self.dropped += await self._outbox.delivered(delivery.delivery_id)
            self._forget_failures(delivery.client_id)
            return
        token = self._sign(client, delivery)
        if self._clock.elapsed() - leased_at > BEGIN_WITHIN.total_seconds():
            return
        try:
            await self._post(url, token)
        except NotDelivered as error:
            await self._note_failure(delivery, str(error))
            return
        self.delivered += 1
        self._forget_failures(delivery.client_id)
        await self._outbox.delivered(delivery.delivery_id)

    def _forget_failures(self, client_id: ClientId) -> None:
        self._failures.pop(client_id, None)
        self._left_alone_until.pop(client_id, None)

    async def _note_failure(self, delivery: Delivery, why: str) -> None:
        self.failed += 1
        wait = self._leave_alone(delivery.client_id)
        if is_last_attempt(delivery, self._clock.now()):
            await self._give_up(delivery, why)
            return
        if delivery.attempts == 1:
            self._report("backchannel_logout_failed", delivery, why)
        await self._due_again(delivery, wait)

    async def _give_up(self, delivery: Delivery, why: str) -> None:
        self.given_up += await self._outbox.delivered(delivery.delivery_id)
        self._report("backchannel_logout_given_up", delivery, why)

    def _leave_alone(self, client_id: ClientId) -> timedelta:
        """Leave the client alone, longer each time, and return for how long; deliveries that failed together count once."""
        now = self._clock.elapsed()
        if now >= self._left_alone_until.get(client_id, 0.0):
            failures = self._failures[client_id] = self._failures.get(client_id, 0) + 1
            wait = retry_after(failures, random.random())  # noqa: S311 - no secret
            self._left_alone_until[client_id] = now + wait.total_seconds()
        return timedelta(seconds=self._left_alone_until[client_id] - now)

    async def _due_again(self, delivery: Delivery, wait: timedelta) -> None:
        self.due_again_at = min(self.due_again_at, self._clock.elapsed() + wait.total_seconds())
        await self._outbox.failed(
            delivery.delivery_id, attempts=delivery.attempts, due_at=self._clock.now() + wait
        )

    def _report(self, code: str, delivery: Delivery, why: str) -> None:
        try:
            notice = notice_of(delivery)
        except msgspec.DecodeError:
            notice = None
        self._tell(
            Event(
                at=self._clock.now(),
                code=code,
                subject=None if notice is None else notice.sub,
                session_id=None if notice is None else notice.sid,
                client_id=delivery.client_id,
                facts={"why": why, "attempts": delivery.attempts},
            )
        )
