"""What every store on another machine does when that is silent, gone, or asked from elsewhere."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress

import pytest

from keyfob.base.errors import StoreUnavailable
from keyfob.base.identifiers import SessionId
from keyfob.revocation.entry import Scope
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.line import Line
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import ALICE, found, put_new, revocation

WITHIN = 10.0  # seconds: a deadline, not an expectation
_AT_ONCE, _TURNS = (
    9,
    12,
)  # look-ups: more batches, and more of them at once, than such a store has connections here


class RemoteStoreContract:
    """Subclass it with the fixtures `store`, `clock`, `line` and `remote`: a store of few connections and a short deadline, behind that line."""

    async def test_a_silent_server_is_given_up_by_the_deadline_and_used_again(
        self, remote: Store, line: Line, clock: FrozenClock
    ) -> None:
        session = await put_new(remote, clock)
        line.fall_silent()
        began = time.monotonic()
        orders = [
            remote.sessions.find(session.session_id),
            remote.feed.head(),
            rotate(remote, session.session_id, 0, clock.now()),
            remote.sessions.end(revocation(Scope.SUBJECT, ALICE, clock.now()), now=clock.now()),
        ]
        answers = await asyncio.gather(*orders, return_exceptions=True)
        assert time.monotonic() - began < WITHIN
        assert all(isinstance(answer, StoreUnavailable) for answer in answers)
        line.speak()
        await answers_again(remote)
        await every_connection_works(remote)

    async def test_a_server_that_hangs_up_is_used_again_without_a_restart(
        self, remote: Store, line: Line, clock: FrozenClock
    ) -> None:
        session = await put_new(remote, clock)
        await line.close()
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="does not answer"):
                await remote.sessions.find(session.session_id)
        await line.open()
        await answers_again(remote)
        assert await found(remote, session.session_id) == session
        await every_connection_works(remote)

    async def test_another_event_loop_may_use_it(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        answers: list[int | bool] = []

        async def ask() -> None:
            answers.append((await store.feed.head()).position)
            answers.append((await store.sessions.find(session.session_id)) is not None)

        thread = threading.Thread(target=lambda: asyncio.run(ask()))
        thread.start()
        await asyncio.to_thread(thread.join, WITHIN)
        assert answers == [0, True]

    async def test_a_closed_store_refuses(self, store: Store, clock: FrozenClock) -> None:
        await store.close()
        await store.close()
        for attempt in (store.feed.head(), store.sessions.find(SessionId("0" * 32))):
            with pytest.raises(StoreUnavailable, match="closed"):
                await attempt
        with pytest.raises(StoreUnavailable, match="closed"):
            store.feed.subscribe(lambda: None)


async def answers_again(store: Store) -> None:
    """Wait until *store* answers."""
    async with asyncio.timeout(WITHIN):
        while True:
            with suppress(StoreUnavailable):
                await store.feed.head()
                return
            await asyncio.sleep(0.01)


async def every_connection_works(store: Store) -> None:
    """See that no connection leaked: one that did would be missed."""
    for _ in range(_TURNS):
        await asyncio.gather(*(store.feed.head() for _ in range(_AT_ONCE)))
