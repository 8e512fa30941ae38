"""A server that comes back without the end of its data: what was ended stays ended, whoever holds what was lost, and if nobody does."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from keyfob.base.errors import StoreUnavailable
from keyfob.base.identifiers import SessionId
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Added, Ended
from keyfob.stores.redis import open_redis_store, read_url
from keyfob.stores.redis.connecting import take_leave
from keyfob.stores.redis.rescue import GRACE
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.redis_server import RedisServer
from keyfob.testing.store_contract import (
    BOB,
    a_session,
    assert_chained,
    codes,
    entries,
    is_live,
    put,
    put_new,
    revocation,
)

WITHIN = 10.0  # seconds: a deadline, not an expectation


@pytest.fixture
async def two(own_server: RedisServer, clock: FrozenClock) -> AsyncIterator[tuple[Store, Store]]:
    """Two authorities' stores on a server that the test may kill."""
    options = replace(read_url(own_server.url), deadline=timedelta(seconds=1.5))
    one, other = [await open_redis_store(options, clock=clock) for _ in range(2)]
    yield one, other
    await one.close()
    await other.close()


class Past:
    """What a server's files were at some moment, to which it can be made to go back as a lost disk write would."""

    def __init__(self, server: RedisServer, copy: Path) -> None:
        self._server = server
        self._copy = copy
        shutil.copytree(server.folder, copy)

    def return_to(self) -> None:
        self._server.stop()
        shutil.rmtree(self._server.folder)
        shutil.copytree(self._copy, self._server.folder)
        self._server.start()


async def end(store: Store, session_id: SessionId, clock: FrozenClock) -> None:
    order = revocation(Scope.SESSION, session_id, clock.now())
    assert isinstance(await store.sessions.end(order, now=clock.now()), Ended)


async def eventually(store: Store) -> None:
    async with asyncio.timeout(WITHIN):
        while True:
            with suppress(StoreUnavailable):
                await store.feed.head()
                return
            await asyncio.sleep(0.01)


async def test_whoever_ended_a_session_ends_it_again(
    two: tuple[Store, Store], own_server: RedisServer, clock: FrozenClock, tmp_path: Path
) -> None:
    store, _ = two
    session, kept = await put_new(store, clock), await put_new(store, clock, BOB)
    past = Past(own_server, tmp_path / "past")
    await end(store, session.session_id, clock)
    before = await store.feed.head()
    past.return_to()

    await eventually(store)
    assert not await is_live(store, session.session_id, clock.now())
    assert await is_live(store, kept.session_id, clock.now()), "what was not ended lives on"
    assert await store.feed.head() == before
    assert_chained(await entries(store))
    assert (await codes(store))[-1] == "feed_reappended"


async def test_each_gives_back_what_it_has_appended(
    two: tuple[Store, Store], own_server: RedisServer, clock: FrozenClock, tmp_path: Path
) -> None:
    one, other = two
    sessions = [await put_new(one, clock) for _ in range(4)]
    past = Past(own_server, tmp_path / "past")
    for store, session in zip((one, other, other, one), sessions, strict=True):
        await end(store, session.session_id, clock)
    await other.feed.read_after((await other.feed.head()).position, 10)
    before = await one.feed.head()
    past.return_to()

    # Neither holds all of it: the first has entries 1 and 4, the second 2 and 3. So everything is cut off, after a moment.
    for store in two:
        with pytest.raises(StoreUnavailable):
            await store.sessions.find(sessions[0].session_id)
    clock.advance(GRACE)
    await eventually(one)
    await eventually(other)
    after = await one.feed.head()
    assert after.timeline != before.timeline
    assert after == await other.feed.head()
    for store in two:
        for session in sessions:
            assert not await is_live(store, session.session_id, clock.now())


async def test_entries_that_followers_read_are_given_back_too(
    two: tuple[Store, Store], own_server: RedisServer, clock: FrozenClock, tmp_path: Path
) -> None:
    one, other = two
    sessions = [await put_new(one, clock) for _ in range(4)]
    start = await one.feed.head()
    past = Past(own_server, tmp_path / "past")
    for store, session in zip((one, other, other, one), sessions, strict=True):
        await end(store, session.session_id, clock)
    await one.feed.read_after(start.position, 10)  # as an authority does all the time
    before = await one.feed.head()
    past.return_to()

    await eventually(one)
    assert await one.feed.head() == before
    for session in sessions:
        assert not await is_live(other, session.session_id, clock.now())


async def test_a_history_that_others_have_continued_is_cut_off(
    two: tuple[Store, Store], own_server: RedisServer, clock: FrozenClock, tmp_path: Path
) -> None:
    one, other = two
    session, second = await put_new(one, clock), await put_new(one, clock, BOB)
    await other.feed.head()
    past = Past(own_server, tmp_path / "past")
    await end(one, session.session_id, clock)
    past.return_to()
    clock.advance(1)
    await eventually(other)  # it knew nothing of the entry that was lost
    await end(other, second.session_id, clock)

    await eventually(one)
    for gone in (session, second):
        assert not await is_live(one, gone.session_id, clock.now())
    assert (await codes(one))[-1] == "feed_begun_anew"
    fresh = changed(a_session(one, clock), as_of=(await one.feed.head()).position)
    assert await put(one, fresh) == Added(), "signing in again works"


async def test_connections_that_are_made_in_the_middle_of_load_see_nothing_amiss(
    redis_url: str, clock: FrozenClock
) -> None:
    store = await open_redis_store(replace(read_url(redis_url), connections=8), clock=clock)
    numbers = iter(range(1_200))

    async def work() -> None:
        for number in numbers:
            order = revocation(Scope.TOKEN, str(number), clock.now())
            assert isinstance(await store.sessions.end(order, now=clock.now()), Ended)

    async def connect() -> None:
        server = store.sessions._server
        for _ in range(150):
            await take_leave(await server.connect())

    await asyncio.gather(*(work() for _ in range(40)), connect(), connect())
    await store.close()
