"""Positions are in commit order, and followers are woken, whatever happens to a notification."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from keyfob.base.identifiers import Position
from keyfob.revocation.entry import Entry, Scope
from keyfob.sessions.store import Ended
from keyfob.stores.postgres.database import Database, Transaction
from keyfob.stores.postgres.revoking import end
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import assert_chained, entries, revocation

WITHIN = 10.0  # seconds: a deadline, not an expectation


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


async def _woken(store: Store, move: Callable[[], Awaitable[object]]) -> bool:
    loop, woken = asyncio.get_running_loop(), asyncio.Event()
    stop = store.feed.subscribe(lambda: loop.call_soon_threadsafe(woken.set))
    try:
        woken.clear()
        await move()
        await asyncio.wait_for(woken.wait(), WITHIN)
    finally:
        stop()
    return True


async def test_a_follower_in_another_process_is_woken(
    store: Store, open_another: Callable[[], Awaitable[Store]], clock: FrozenClock
) -> None:
    other = await open_another()
    order = revocation(Scope.TOKEN, "jti", clock.now())
    assert await _woken(other, lambda: store.sessions.end(order, now=clock.now()))


async def test_a_lost_notification_costs_a_poll_interval(store: Store, raw: Any) -> None:
    """Somebody moves the feed who notifies nobody: the table is the truth."""
    assert await _woken(store, lambda: raw.execute("UPDATE keyfob.meta SET position = position + 1"))


async def test_a_listener_that_is_cut_off_listens_again(store: Store, raw: Any, clock: FrozenClock) -> None:
    async def listeners() -> list[int]:
        rows = await raw.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
        return [row[0] for row in rows]

    async with asyncio.timeout(WITHIN):
        while not (before := await listeners()):
            await asyncio.sleep(0.01)
    for pid in before:
        await raw.execute("SELECT pg_terminate_backend($1)", pid)
    async with asyncio.timeout(WITHIN):
        while not set(await listeners()) - set(before):
            await asyncio.sleep(0.01)
    order = revocation(Scope.TOKEN, "jti", clock.now())
    assert await _woken(store, lambda: store.sessions.end(order, now=clock.now()))
