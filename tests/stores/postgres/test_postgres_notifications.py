"""How other processes learn that the feed has moved, whatever happens to a notification."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from keyfob.revocation.entry import Scope
from keyfob.stores.opening import open_store
from keyfob.stores.postgres import listening
from keyfob.stores.postgres.database import Database
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import revocation

PATIENCE = 20  # seconds
WITHIN = 10.0  # seconds: a deadline, not an expectation


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


@pytest.mark.parametrize("fails", ["_look", "_is_called", "_listen"])
async def test_a_listener_goes_on_whatever_goes_wrong(
    database: Database,
    store: Store,
    clock: FrozenClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fails: str,
) -> None:
    """What nobody has thought of ends one turn, not the task: it would go unseen."""
    monkeypatch.setattr(listening, "POLL_INTERVAL", 0.05)
    listener, failed = database._listener, asyncio.Event()
    works = getattr(listener, fails)

    async def fail() -> None:
        failed.set()
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, "keyfob.postgres"):
        monkeypatch.setattr(listener, fails, fail)
        await listener._hang_up()
        await asyncio.wait_for(failed.wait(), WITHIN)
        monkeypatch.setattr(listener, fails, works)
        woken = asyncio.Event()
        stop = database.subscribe(woken.set)
        await store.sessions.end(revocation(Scope.TOKEN, "jti", clock.now()), now=clock.now())
        await asyncio.wait_for(woken.wait(), WITHIN)
        stop()
    assert "listening failed" in caplog.text
