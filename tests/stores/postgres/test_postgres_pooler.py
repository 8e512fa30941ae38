"""PostgreSQL behind pgbouncer in transaction mode: each transaction may be on another connection, and nobody can listen through it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest

from keyfob.base.identifiers import Subject
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Added, Ended, Rotated
from keyfob.stores.opening import open_store
from keyfob.stores.postgres import listening
from keyfob.stores.store import Store
from keyfob.testing.feed_store_contract import FeedStoreContract
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import a_session, assert_chained, entries, is_live, put, revocation

PATIENCE = 20  # seconds


class OnPooler:
    @pytest.fixture
    async def store(self, clock: FrozenClock, pooled_url: str) -> AsyncIterator[Store]:
        store = await open_store(pooled_url, clock=clock)
        yield store
        await store.close()


class TestFeedThroughPooler(OnPooler, FeedStoreContract):
    pass


class TestJourneysThroughPooler(OnPooler):
    @pytest.fixture
    def clock(self) -> FrozenClock:
        return FrozenClock()

    async def test_many_at_once_change_places_and_nothing_is_mixed_up(
        self, store: Store, clock: FrozenClock
    ) -> None:
        sessions = [a_session(store, clock, Subject(f"subject-{number}")) for number in range(60)]
        added = await asyncio.gather(*(put(store, session) for session in sessions))
        assert added == [Added()] * 60
        clock.advance(timedelta(minutes=1))
        now = clock.now()
        found = await asyncio.gather(*(store.sessions.find(session.session_id) for session in sessions))
        assert [one and one.session.subject for one in found] == [session.subject for session in sessions]
        rotated = await asyncio.gather(*(rotate(store, session.session_id, 0, now) for session in sessions))
        assert all(isinstance(outcome, Rotated) for outcome in rotated)
        ended = await asyncio.gather(
            *(
                store.sessions.end(revocation(Scope.SESSION, session.session_id, now), now=now)
                for session in sessions[::2]
            )
        )
        assert all(isinstance(outcome, Ended) for outcome in ended)
        assert_chained(await entries(store))
        live = [await is_live(store, session.session_id, now) for session in sessions]
        assert live == [False, True] * 30

    async def test_another_process_is_told_by_the_server_itself(
        self,
        store: Store,
        clock: FrozenClock,
        pooled_url: str,
        until_listening: Callable[[int], Awaitable[None]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(listening, "POLL_INTERVAL", 3 * PATIENCE)  # only a notification can wake in time
        other = await open_store(pooled_url, clock=clock)
        woken = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(woken.set)

        remove = other.feed.subscribe(wake)
        await until_listening(2)
        woken.clear()
        await store.sessions.end(revocation(Scope.TOKEN, "jti", clock.now()), now=clock.now())
        await asyncio.wait_for(woken.wait(), PATIENCE)
        remove()
        await other.close()
