"""Positions on PostgreSQL: in the order of commits, whoever begins first, and seen without a gap by whoever follows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from keyfob.base.identifiers import Position
from keyfob.revocation.entry import Entry, Scope
from keyfob.sessions.store import AlreadyEnded, Ended
from keyfob.stores.opening import open_store
from keyfob.stores.postgres.database import Database, Transaction
from keyfob.stores.postgres.listening import CHANNEL
from keyfob.stores.postgres.revoking import end
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import (
    a_session,
    assert_chained,
    entries,
    is_live,
    put,
    put_new,
    revocation,
)

PATIENCE = 20  # seconds
WITHIN = 10.0  # seconds: a deadline, not an expectation


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


async def test_who_appends_first_commits_first(store: Store, database: Database, clock: FrozenClock) -> None:
    """The first transaction is held open after it has appended; a second one begins, and would be faster."""
    has_appended, may_commit = asyncio.Event(), asyncio.Event()

    async def slowly(transaction: Transaction) -> Entry:
        outcome = await end(transaction, revocation(Scope.TOKEN, "slow", clock.now()), clock.now())
        assert isinstance(outcome, Ended)
        has_appended.set()
        await may_commit.wait()
        return outcome.entry

    slow = asyncio.create_task(database.transact(slowly))
    await has_appended.wait()
    fast = asyncio.create_task(
        store.sessions.end(revocation(Scope.TOKEN, "fast", clock.now()), now=clock.now())
    )
    done, _ = await asyncio.wait([fast], timeout=0.3)
    assert not done, "the second one has committed before the first, whose position is lower"
    assert await store.feed.read_after(Position(0), 10) == []
    assert (await store.feed.head()).position == 0

    may_commit.set()

    first, second = await asyncio.wait_for(asyncio.gather(slow, fast), WITHIN)
    assert first.position == 1
    assert isinstance(second, Ended)
    assert second.entry.position == 2
    assert_chained(await entries(store))


async def test_what_fails_after_it_has_appended_leaves_no_gap(
    store: Store, database: Database, clock: FrozenClock
) -> None:
    async def fail(transaction: Transaction) -> None:
        await end(transaction, revocation(Scope.TOKEN, "lost", clock.now()), clock.now())
        raise LookupError

    with pytest.raises(LookupError):
        await database.transact(fail)
    await store.sessions.end(revocation(Scope.TOKEN, "kept", clock.now()), now=clock.now())
    assert [(entry.position, entry.id) for entry in await entries(store)] == [(1, "kept")]


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


async def test_many_at_once_leave_one_chain(
    open_another: Callable[[], Awaitable[Store]], clock: FrozenClock
) -> None:
    stores = [await open_another() for _ in range(2)]
    orders = [revocation(Scope.TOKEN, f"jti-{number}", clock.now()) for number in range(200)]
    outcomes = await asyncio.gather(
        *(stores[number % 2].sessions.end(order, now=clock.now()) for number, order in enumerate(orders))
    )
    found = await entries(stores[0])
    assert_chained(found)
    assert {entry.id for entry in found} == {order.id for order in orders}
    by_position = {entry.position: entry for entry in found}
    for outcome in outcomes:
        assert isinstance(outcome, Ended)
        assert by_position[outcome.entry.position] == outcome.entry


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
