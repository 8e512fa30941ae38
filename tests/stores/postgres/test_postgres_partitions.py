"""Expired sessions leave by partitions, once, and nothing that lives leaves with them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from keyfob.base.clock import to_seconds
from keyfob.revocation.entry import Scope
from keyfob.stores.postgres.locks import LockClass
from keyfob.stores.postgres.partitions import DAYS_BEYOND, MAX_AHEAD, PARTITIONS_AHEAD, missing
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import LIFETIME, found, put_new, revocation

DAY = timedelta(days=1)
TODAY = 20_000


async def _partitions(raw: Any) -> list[str]:
    rows = await raw.fetch(
        "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'keyfob.sessions'::regclass AND c.relname <> 'sessions_other' ORDER BY 1"
    )
    return [row[0] for row in rows]


async def _made(store: Store, clock: FrozenClock) -> None:
    await store.feed.extend_retention(credential=timedelta(minutes=10), session=LIFETIME)
    assert await store.sessions.delete_expired(clock.now(), 100) == 0


async def test_a_day_that_is_over_leaves_whole(store: Store, raw: Any, clock: FrozenClock) -> None:
    await _made(store, clock)
    assert len(await _partitions(raw)) > 3
    first = [await put_new(store, clock) for _ in range(3)]
    await store.sessions.write_data(first[0].session_id, b"x", version=0, now=clock.now())
    clock.advance(12 * DAY)
    assert await store.sessions.delete_expired(clock.now(), 100) == 0  # as is done each minute
    late = await put_new(store, clock)
    assert await raw.fetchval("SELECT count(*) FROM keyfob.sessions_other") == 0
    clock.set(first[0].expires_at)
    assert await store.sessions.delete_expired(clock.now(), 100) == 0  # they are over, their days are not
    clock.advance(5 * DAY)
    assert await store.sessions.delete_expired(clock.now(), 100) == 3
    assert await store.sessions.delete_expired(clock.now(), 100) == 0
    assert [await store.sessions.find(one.session_id) for one in first] == [None] * 3
    assert await raw.fetchval("SELECT count(*) FROM keyfob.session_data") == 0
    assert await found(store, late.session_id) == late


async def test_they_are_there_before_the_first_login(
    store: Store, open_another: Callable[[], Awaitable[Store]], raw: Any, clock: FrozenClock
) -> None:
    stores = [store, await open_another(), await open_another()]
    await store.feed.extend_retention(credential=timedelta(minutes=10), session=LIFETIME)
    assert await _partitions(raw) == []
    # Each returns when they are there, also those that found somebody else at it.
    for done in asyncio.as_completed([one.prepare() for one in stores if one.prepare is not None]):
        await done
        made = await _partitions(raw)
        assert len(made) > 3
    assert await _partitions(raw) == made
    await put_new(store, clock)
    assert await raw.fetchval("SELECT count(*) FROM keyfob.sessions_other") == 0


async def test_who_keeps_the_table_for_long_does_not_keep_a_server_from_starting(
    store: Store, raw: Any, clock: FrozenClock
) -> None:
    await store.feed.extend_retention(credential=timedelta(minutes=10), session=LIFETIME)
    assert store.prepare is not None
    async with raw.transaction():
        await raw.fetch("SELECT 1 FROM keyfob.sessions")
        await store.prepare()
        assert await _partitions(raw) == []
    assert await store.sessions.delete_expired(clock.now(), 100) == 0
    assert len(await _partitions(raw)) > 3


async def test_several_servers_make_and_drop_them_once(
    open_another: Callable[[], Awaitable[Store]], raw: Any, clock: FrozenClock
) -> None:
    stores = [await open_another() for _ in range(3)]
    await stores[0].feed.extend_retention(credential=timedelta(minutes=10), session=LIFETIME)
    for _ in range(2):
        await asyncio.gather(*(store.sessions.delete_expired(clock.now(), 100) for store in stores))
    session = await put_new(stores[0], clock)
    clock.set(session.expires_at + 6 * DAY)
    gone = await asyncio.gather(*(store.sessions.delete_expired(clock.now(), 100) for store in stores))
    assert sum(gone) + await stores[0].sessions.delete_expired(clock.now(), 100) == 1


async def test_of_several_days_that_are_over_one_leaves_at_a_time(
    store: Store, raw: Any, clock: FrozenClock
) -> None:
    await _made(store, clock)
    for _ in range(2):
        last = await put_new(store, clock)
        clock.advance(5 * DAY)
        await store.sessions.delete_expired(clock.now(), 100)
    clock.set(last.expires_at + 6 * DAY)
    before = len(await _partitions(raw))
    gone = []
    while count := await store.sessions.delete_expired(clock.now(), 100):
        gone.append(count)
    assert gone == [1, 1]
    assert len(await _partitions(raw)) > before - 8  # those of the days to come are there


async def test_while_one_server_cleans_the_others_leave_it_to_that_one(
    store: Store, raw: Any, clock: FrozenClock
) -> None:
    await store.sessions.end(revocation(Scope.SUBJECT, "nobody", clock.now()), now=clock.now())
    await store.throttle.attempt(["key"], now=clock.now())
    clock.advance(40 * DAY)
    async with raw.transaction():
        await raw.execute("SELECT pg_advisory_xact_lock($1, 0)", LockClass.CLEANING.value)
        for table in (store.feed, store.throttle, store.audit):
            assert await table.delete_expired(clock.now(), 100) == 0
    assert await store.feed.delete_expired(clock.now(), 100) > 0
    assert await store.throttle.delete_expired(clock.now(), 100) == 1
    assert await store.audit.delete_expired(clock.now(), 100) == 1


async def test_a_partition_with_something_alive_stays(store: Store, raw: Any, clock: FrozenClock) -> None:
    await _made(store, clock)
    session = await put_new(store, clock)
    await raw.execute("UPDATE keyfob.sessions SET expires_at = expires_at + 40::bigint * 86400 * 1000000")
    clock.set(session.expires_at + 6 * DAY)
    assert await store.sessions.delete_expired(clock.now(), 100) == 0
    assert await store.sessions.find(session.session_id) is not None


async def test_days_that_the_default_partition_holds_stay_there(
    store: Store, raw: Any, clock: FrozenClock
) -> None:
    before = await put_new(store, clock)
    await _made(store, clock)
    assert await raw.fetchval("SELECT count(*) FROM keyfob.sessions_other") == 1
    clock.set(before.expires_at)
    assert await store.sessions.delete_expired(clock.now(), 100) == 1


async def test_nobody_queues_behind_one_that_waits_for_the_table(
    store: Store, raw: Any, clock: FrozenClock
) -> None:
    await _made(store, clock)
    session = await put_new(store, clock)
    clock.set(session.expires_at + 6 * DAY)
    async with raw.transaction():
        await raw.fetch("SELECT 1 FROM keyfob.sessions")  # a reader that takes its time
        assert await store.sessions.delete_expired(clock.now(), 100) == 0
    assert await store.sessions.delete_expired(clock.now(), 100) == 1


@given(
    longest=st.integers(0, 500),
    there=st.lists(st.tuples(st.integers(-5, 60), st.integers(1, 9)), max_size=4),
)
def test_every_day_to_come_has_one_partition(longest: int, there: list[tuple[int, int]]) -> None:
    days = {(TODAY + first, TODAY + first + width) for first, width in there}
    made = missing(days, TODAY, longest)
    covered = {day for first, end in days for day in range(first, end)}
    new = [day for first, end in made for day in range(first, end)]
    assert len(new) == len(set(new))
    assert not covered & set(new)
    ahead = min(longest, MAX_AHEAD) + DAYS_BEYOND
    assert set(range(TODAY, TODAY + ahead + 1)) <= covered | set(new)
    if not days and longest <= MAX_AHEAD:
        assert len(made) <= PARTITIONS_AHEAD + DAYS_BEYOND + 1


def test_a_session_id_lies_in_the_partition_of_its_end(clock: FrozenClock) -> None:
    from keyfob.base.identifiers import Subject, new_session_id
    from keyfob.stores.postgres.reading import day_of

    end = clock.now() + LIFETIME
    key = bytes.fromhex(new_session_id(bytes(32), Subject("alice"), end))
    assert day_of(key) == to_seconds(end) // 86_400
