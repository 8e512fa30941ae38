"""Positions on PostgreSQL: in the order of commits, whoever begins first, and seen without a gap by whoever follows."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from keyfob.base.identifiers import Position, Subject
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import AlreadyEnded, CutOff, Ended
from keyfob.stores.opening import open_store
from keyfob.stores.postgres import listening, open_postgres_store, read_url
from keyfob.stores.postgres.listening import CHANNEL
from keyfob.stores.postgres.locks import LockClass, lock_names
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import (
    ALICE,
    LIFETIME,
    a_session,
    assert_chained,
    entries,
    is_live,
    put,
    put_new,
    revocation,
)

PATIENCE = 20  # seconds
LOCK_META = "SELECT position FROM keyfob.meta FOR UPDATE"


@asynccontextmanager
async def holding(connection: Any, statement: str, *values: object) -> AsyncIterator[None]:
    """Hold what *statement* locks, for the block."""
    async with connection.transaction():
        await connection.execute(statement, *values)
        yield


async def until_waiting(connection: Any, count: int = 1) -> None:
    """Wait until *count* others wait for a lock."""
    async with asyncio.timeout(PATIENCE):
        while (
            await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            < count
        ):
            await asyncio.sleep(0)


async def test_who_begins_first_and_commits_last_has_the_later_position(
    store: Store, clock: FrozenClock, postgres_url: str, raw: Any
) -> None:
    first, second = await put_new(store, clock), await put_new(store, clock)
    other = await open_store(postgres_url, clock=clock)
    now = clock.now()
    # The first has begun, and waits for its row; the second begins after it and is done before it.
    async with holding(
        raw,
        "SELECT 1 FROM keyfob.sessions WHERE session_id = $1 FOR UPDATE",
        bytes.fromhex(first.session_id),
    ):
        slow = asyncio.ensure_future(
            store.sessions.end(revocation(Scope.SESSION, first.session_id, now), now=now)
        )
        await until_waiting(raw)
        quick = await other.sessions.end(revocation(Scope.SESSION, second.session_id, now), now=now)
        assert isinstance(quick, Ended)
        assert quick.entry.position == 1
        assert [entry.position for entry in await entries(store)] == [1]
        assert not slow.done()
    late = await asyncio.wait_for(slow, PATIENCE)
    assert isinstance(late, Ended)
    assert late.entry.position == 2
    assert_chained(await entries(store))
    await other.close()


async def test_a_follower_never_sees_a_gap_while_two_append(
    store: Store, clock: FrozenClock, postgres_url: str
) -> None:
    other = await open_store(postgres_url, clock=clock)
    now, each = clock.now(), 60
    seen: list[Position] = []

    async def follow() -> None:
        while len(seen) < 2 * each:
            read = await store.feed.read_after(Position(len(seen)), 1000)
            seen.extend(entry.position for entry in read)

    async def append(by: Store, name: str) -> None:
        for number in range(0, each, 3):
            await asyncio.gather(
                *(
                    by.sessions.end(revocation(Scope.TOKEN, f"{name}-{number + one}", now), now=now)
                    for one in range(3)
                )
            )

    await asyncio.wait_for(asyncio.gather(follow(), append(store, "a"), append(other, "b")), PATIENCE)
    assert seen == list(range(1, 2 * each + 1))
    assert_chained(await entries(store))
    await other.close()


async def test_many_that_end_at_once_are_chained_and_wake_once(
    store: Store, clock: FrozenClock, raw: Any
) -> None:
    sessions = [await put_new(store, clock) for _ in range(30)]
    calls: list[str] = []
    await raw.add_listener(CHANNEL, lambda *call: calls.append(call[2]))
    now = clock.now()
    outcomes = await asyncio.gather(
        *(
            store.sessions.end(revocation(Scope.SESSION, session.session_id, now), now=now)
            for session in sessions
        )
    )
    assert [outcome.entry.position for outcome in outcomes if isinstance(outcome, Ended)] == list(
        range(1, 31)
    )
    assert all(outcome.sessions == 1 for outcome in outcomes if isinstance(outcome, Ended))
    assert_chained(await entries(store))
    assert not any([await is_live(store, session.session_id, now) for session in sessions])
    head = await store.feed.head()
    assert head.chain == (await entries(store))[-1].chain
    await raw.fetchval("SELECT 1")  # what was notified comes before the answer
    assert len(calls) == 1
    events = await store.audit.list(code="revoked", limit=100)
    assert len(events.events) == 30


@pytest.mark.parametrize("parent_first", [True, False])
async def test_parent_and_child_end_in_one_batch_as_they_would_in_turn(
    store: Store, clock: FrozenClock, parent_first: bool
) -> None:
    parent = await put_new(store, clock)
    child = replace(a_session(store, clock), parent_session_id=parent.session_id)
    await put(store, child)
    now = clock.now()
    order = [parent, child] if parent_first else [child, parent]
    outcomes = await asyncio.gather(
        *(store.sessions.end(revocation(Scope.SESSION, one.session_id, now), now=now) for one in order)
    )
    first, second = outcomes
    assert isinstance(first, Ended)
    if parent_first:
        assert first.sessions == 2
        assert second == AlreadyEnded(first.entry.position)
    else:
        assert isinstance(second, Ended)
        assert (first.sessions, second.sessions) == (1, 1)
        assert second.entry.position == first.entry.position + 1
    assert not await is_live(store, child.session_id, now)


@pytest.fixture
async def patient(postgres_url: str, clock: FrozenClock) -> AsyncIterator[Store]:
    """A store that waits for locks longer than these tests do: what waits behind one does not come to its answer."""
    long = timedelta(seconds=5 * PATIENCE)
    options = dataclasses.replace(
        read_url(postgres_url), lock_timeout=long, statement_timeout=long, deadline=long
    )
    store = await open_postgres_store(options, clock=clock)
    yield store
    await store.close()


async def test_a_session_that_somebody_holds_holds_up_no_other(
    patient: Store, clock: FrozenClock, raw: Any
) -> None:
    store = patient
    held, *others = [await put_new(store, clock) for _ in range(12)]
    now = clock.now()

    def end(session_id: str) -> Any:
        return store.sessions.end(revocation(Scope.SESSION, session_id, now), now=now)

    async with holding(
        raw,
        "SELECT 1 FROM keyfob.sessions WHERE session_id = $1 FOR UPDATE",
        bytes.fromhex(held.session_id),
    ):
        waiting = asyncio.ensure_future(end(held.session_id))
        ends = asyncio.gather(*(end(other.session_id) for other in others))
        outcomes = await asyncio.wait_for(ends, PATIENCE)
        assert all(isinstance(outcome, Ended) for outcome in outcomes)
        assert not waiting.done()
    assert isinstance(await asyncio.wait_for(waiting, PATIENCE), Ended)


async def test_a_login_that_somebody_holds_up_holds_up_no_other(
    patient: Store, clock: FrozenClock, raw: Any
) -> None:
    store = patient
    await store.feed.extend_retention(credential=LIFETIME, session=LIFETIME)
    other = a_session(store, clock, Subject("other"))
    async with raw.transaction():
        await lock_names(raw, LockClass.SUBJECT, [ALICE])
        waiting = asyncio.ensure_future(put(store, a_session(store, clock)))
        quick = asyncio.ensure_future(put(store, other))
        await asyncio.wait_for(quick, PATIENCE)
        assert not waiting.done()
    await asyncio.wait_for(waiting, PATIENCE)


async def test_a_cut_off_that_comes_while_a_longer_life_is_granted_voids_it(
    store: Store, clock: FrozenClock, raw: Any
) -> None:
    await store.feed.extend_retention(credential=LIFETIME / 2, session=LIFETIME / 2)
    now = clock.now()
    # The cut-off of a shorter life has the head; the login has looked already, and waits to raise the longest one.
    async with raw.transaction():
        await raw.execute(LOCK_META)
        login = asyncio.ensure_future(put(store, a_session(store, clock)))
        await until_waiting(raw)
        await raw.execute("UPDATE keyfob.meta SET position = 1")
        await raw.execute(
            "INSERT INTO keyfob.cut_offs (scope, id, position, at, until) VALUES ('subject', $1, 1, 0, 1)",
            ALICE,
        )
    assert await asyncio.wait_for(login, PATIENCE) == CutOff()
    listed = await store.sessions.list(ALICE, now=now, after=None, limit=10)
    assert not listed.sessions


async def test_another_process_is_notified(
    store: Store,
    clock: FrozenClock,
    postgres_url: str,
    until_listening: Callable[[int], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listening, "POLL_INTERVAL", 3 * PATIENCE)  # only a notification can wake in time
    other = await open_store(postgres_url, clock=clock)
    called = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wake() -> None:
        loop.call_soon_threadsafe(called.set)

    remove = other.feed.subscribe(wake)
    await until_listening(2)
    called.clear()
    await store.sessions.end(revocation(Scope.TOKEN, "jti", clock.now()), now=clock.now())
    await asyncio.wait_for(called.wait(), PATIENCE)
    remove()
    await other.close()
