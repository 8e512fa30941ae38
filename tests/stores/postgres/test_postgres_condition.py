"""What is found at real servers: each thing that an operator may have got wrong, and that looking changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from keyfob.base.clock import SystemClock
from keyfob.base.identifiers import Position
from keyfob.revocation.entry import Scope
from keyfob.stores.condition import Encryption, HostRole, PostgresCondition
from keyfob.stores.opening import inspect_store
from keyfob.stores.postgres import SCHEMA_VERSION, inspect_postgres_store, read_url
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.postgres_server import PostgresServer
from keyfob.testing.store_contract import LIFETIME, put_new, revocation

DAY = timedelta(days=1)


async def condition_of(url: str, clock: Any = None) -> PostgresCondition:
    found = await inspect_store(url, clock=clock or SystemClock())
    assert found is not None
    return found


async def test_a_server_is_described_and_left_as_it_was(postgres_url: str, raw: Any) -> None:
    async def state() -> Any:
        return await raw.fetch("SELECT * FROM keyfob.meta")

    before = await state()
    found = await condition_of(postgres_url)
    assert found.fault is None
    assert found.is_usable
    assert list(found.hosts.roles.values()) == [HostRole.PRIMARY]
    assert found.hosts.encryption is Encryption.NEEDLESS
    assert not found.hosts.is_pooled
    assert found.server is not None
    assert int(found.server.settings["server_version_num"]) >= 140_000
    assert found.server.settings["fsync"] == "off"
    assert found.server.synchronous_standbys == 0
    assert found.server.is_superuser
    assert abs(found.server.clock_ahead) < timedelta(seconds=2)
    assert found.server.notified_after is not None
    assert found.schema is not None
    assert (found.schema.version, found.schema.missing_days) == (SCHEMA_VERSION, 0)
    assert found.schema.overdue_since is None
    assert found.connections == 11
    assert await state() == before
    mine = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with asyncio.timeout(20):
        while await raw.fetchval(mine):
            await asyncio.sleep(0)


async def test_a_host_that_is_away_and_a_standby_are_told_apart(postgres_url: str, standby: str) -> None:
    options = read_url(postgres_url)
    there = options.addresses[0]
    away = ("127.0.0.1", 1)
    database = postgres_url.rpartition("/")[2]
    async with asyncio.timeout(20):  # until the standby has the database
        while HostRole.AWAY in (await condition_of(f"{standby}{database}")).hosts.roles.values():
            await asyncio.sleep(0)
    behind = read_url(f"{standby}{database}").addresses[0]
    found = await inspect_postgres_store(
        replace(options, addresses=(away, there, behind)), clock=SystemClock()
    )
    assert list(found.hosts.roles.values()) == [HostRole.AWAY, HostRole.PRIMARY, HostRole.STANDBY]
    assert found.fault is None
    alone = await inspect_postgres_store(replace(options, addresses=(behind,)), clock=SystemClock())
    assert alone.server is None
    assert "no primary" in str(alone.fault)
    gone = await inspect_postgres_store(replace(options, addresses=(away,)), clock=SystemClock())
    assert set(gone.hosts.roles.values()) == {HostRole.AWAY}
    assert gone.fault is not None


@pytest.fixture(scope="module")
def standby(postgres_server: PostgresServer) -> Iterator[str]:
    replica = PostgresServer()
    try:
        replica.follow(postgres_server)
        yield replica.url("")
    finally:
        replica.remove()


async def test_a_pooler_is_recognised_whether_it_was_named_or_not(pooled_url: str, raw: Any) -> None:
    found = await condition_of(pooled_url)
    assert (found.hosts.has_pooler, found.hosts.is_pooled, found.hosts.listens_through_pooler) == (
        True,
        True,
        False,
    )
    assert found.server is not None
    assert found.server.notified_after is not None
    assert found.server.settings["lock_timeout"] == "0"  # nobody has told the role

    pooler, _, server = pooled_url.partition("?pooler=")
    unnamed = await condition_of(pooler)
    assert unnamed.hosts.is_pooled
    assert not unnamed.hosts.has_pooler
    assert "pooler=" in str(unnamed.fault)
    port = pooler.partition("@127.0.0.1:")[2].partition("/")[0]
    twice = await condition_of(f"{pooler}?pooler=127.0.0.1:{port}")
    assert twice.hosts.listens_through_pooler
    none = await condition_of(f"{pooler.replace(port, server.rpartition(':')[2])}?pooler={server}")
    assert none.hosts.has_pooler
    assert not none.hosts.is_pooled


async def test_a_database_without_a_schema_or_with_somebody_else_s(
    postgres_server: PostgresServer,
) -> None:
    name = await postgres_server.create_database()
    empty = await condition_of(postgres_server.url(name))
    assert empty.schema is not None
    assert empty.schema.version == 0
    assert not empty.is_usable
    await postgres_server.execute("CREATE SCHEMA keyfob", database=name)
    other = await condition_of(postgres_server.url(name))
    assert other.server is not None
    assert "not Keyfob's" in str(other.fault)
    await postgres_server.drop_database(name)


async def test_a_store_that_has_moved_says_so(postgres_url: str, raw: Any) -> None:
    await raw.execute("ALTER TABLE keyfob.meta RENAME TO meta_closed")
    await raw.execute(
        "INSERT INTO keyfob.move VALUES (1, 'moved', 'copy', 'postgresql://elsewhere/keyfob', '')"
    )
    found = await condition_of(postgres_url)
    assert found.server is not None
    assert "has moved to postgresql://elsewhere/keyfob" in str(found.fault)
    assert not found.is_usable


async def test_a_password_is_in_no_fault(postgres_server: PostgresServer) -> None:
    url = postgres_server.url("nowhere").replace("keyfob@", "keyfob:hunter2@")
    found = await condition_of(url)
    assert found.fault is not None
    assert "hunter2" not in repr(found)


async def test_missing_partitions_and_what_nobody_cleans_up_are_found(
    store: Store, postgres_url: str, clock: FrozenClock
) -> None:
    await store.feed.extend_retention(credential=timedelta(minutes=10), session=LIFETIME)

    async def schema() -> Any:
        found = await condition_of(postgres_url, clock)
        assert found.schema is not None
        return found.schema

    assert (await schema()).missing_days > LIFETIME / DAY
    assert store.prepare is not None
    await store.prepare()
    assert (await schema()).missing_days == 0
    await store.sessions.end(revocation(Scope.SUBJECT, "nobody", clock.now()), now=clock.now())
    (entry,) = await store.feed.read_after(Position(0), 1)
    assert entry.until is not None
    clock.set(entry.until - timedelta(microseconds=1))
    assert (await schema()).overdue_since is None
    clock.set(entry.until)
    assert (await schema()).overdue_since == entry.until
    assert await store.feed.delete_expired(clock.now(), 100) == 1
    session = await put_new(store, clock)
    clock.set(session.expires_at + 6 * DAY)
    overdue = (await schema()).overdue_since
    assert overdue is not None
    assert overdue < clock.now() - DAY
    while await store.sessions.delete_expired(clock.now(), 100) + await store.feed.delete_expired(
        clock.now(), 100
    ):
        pass
    assert (await schema()).overdue_since is None


async def test_a_clock_that_differs_is_found(postgres_url: str) -> None:
    behind = FrozenClock()
    now = SystemClock().now()
    behind.set(now - timedelta(minutes=3))
    found = await condition_of(postgres_url, behind)
    assert found.server is not None
    assert found.server.clock_ahead > timedelta(minutes=2)


async def test_other_stores_have_no_server() -> None:
    for url in ("memory://", "sqlite:///nowhere.db"):
        assert await inspect_store(url, clock=SystemClock()) is None
