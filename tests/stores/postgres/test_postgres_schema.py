"""The schema: made once however many make it, refused where it does not fit, and nothing secret in what is said."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.stores.opening import SchemaChange, migrate_store, open_store
from keyfob.stores.postgres import schema
from keyfob.testing.frozen_clock import FrozenClock

if TYPE_CHECKING:
    from keyfob.testing.postgres_server import PostgresServer

CURRENT = schema.SCHEMA_VERSION


@pytest.fixture
async def empty(postgres_server: PostgresServer) -> AsyncIterator[str]:
    name = await postgres_server.create_database()
    yield postgres_server.url(name)
    await postgres_server.drop_database(name)


def _migrate(url: str) -> SchemaChange:
    return asyncio.run(migrate_store(url))


async def test_several_processes_at_once_migrate_once(empty: str) -> None:
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        changes = await asyncio.gather(
            *(asyncio.get_running_loop().run_in_executor(pool, _migrate, empty) for _ in range(4))
        )
    assert sorted(change.before for change in changes) == [0, CURRENT, CURRENT, CURRENT]
    store = await open_store(empty, clock=FrozenClock())
    assert len(store.salt) == 32
    await store.close()


async def test_many_connections_at_once_migrate_once(empty: str) -> None:
    changes = await asyncio.gather(*(migrate_store(empty) for _ in range(8)))
    assert sorted(change.before for change in changes) == [0, *[CURRENT] * 7]


async def test_an_older_schema_is_brought_up_to_date_and_keeps_what_it_has(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(schema, "_STEPS", schema._STEPS[:1])
        patched.setattr(schema, "SCHEMA_VERSION", 1)
        patched.setattr(schema, "OLDEST_VERSION", 1)
        await migrate_store(empty)
        old = await open_store(empty, clock=FrozenClock())  # an older server, which goes on meanwhile
    with pytest.raises(ConfigurationError, match=r"schema 1, .* run `keyfob migrate`"):
        await open_store(empty, clock=FrozenClock())
    assert await migrate_store(empty) == SchemaChange(before=1, after=CURRENT)
    assert await migrate_store(empty) == SchemaChange(before=CURRENT, after=CURRENT)
    new = await open_store(empty, clock=FrozenClock())
    assert new.salt == old.salt
    assert await new.feed.head() == await old.feed.head()
    await old.close()
    await new.close()


async def test_a_step_that_fails_leaves_the_old_schema(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(connection: Any) -> None:
        await connection.execute("CREATE TABLE keyfob.half (id integer)")
        raise LookupError

    with monkeypatch.context() as patched:
        patched.setattr(schema, "_STEPS", (*schema._STEPS, fail))
        with pytest.raises(LookupError):
            await migrate_store(empty)
    assert await migrate_store(empty) == SchemaChange(before=0, after=CURRENT)


@pytest.mark.parametrize(("oldest", "is_refused"), [(CURRENT, False), (CURRENT + 1, True)])
async def test_a_newer_schema_is_worked_on_if_it_says_so(
    postgres_url: str, raw: Any, oldest: int, is_refused: bool
) -> None:
    await raw.execute("UPDATE keyfob.meta SET version = $1, oldest_version = $2", CURRENT + 1, oldest)
    if is_refused:
        for attempt in (open_store(postgres_url, clock=FrozenClock()), migrate_store(postgres_url)):
            with pytest.raises(ConfigurationError, match="newer Keyfob"):
                await attempt
        return
    store = await open_store(postgres_url, clock=FrozenClock())
    await store.close()
    assert (await migrate_store(postgres_url)).before == CURRENT + 1
    assert await raw.fetchval("SELECT version FROM keyfob.meta") == CURRENT + 1


@pytest.mark.parametrize(
    "theirs", ["CREATE SCHEMA keyfob", "CREATE SCHEMA keyfob; CREATE TABLE keyfob.meta (id integer)"]
)
async def test_somebody_elses_schema_is_left_alone(empty: str, theirs: str) -> None:
    connection = await asyncpg.connect(empty)
    await connection.execute(theirs)
    await connection.close()
    for attempt in (open_store(empty, clock=FrozenClock()), migrate_store(empty)):
        with pytest.raises(ConfigurationError, match="not Keyfob's"):
            await attempt


async def test_commits_that_are_not_durable_are_refused(postgres_url: str, raw: Any) -> None:
    name = await raw.fetchval("SELECT current_database()")
    await raw.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with pytest.raises(ConfigurationError, match="synchronous_commit"):
        await open_store(postgres_url, clock=FrozenClock())


async def test_a_server_that_takes_no_writes_is_refused(postgres_url: str, raw: Any) -> None:
    name = await raw.fetchval("SELECT current_database()")
    await raw.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(StoreUnavailable, match="no primary"):
        await open_store(postgres_url, clock=FrozenClock())


async def test_a_server_that_is_too_old_is_refused(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "OLDEST_SERVER", 990_000)
    with pytest.raises(ConfigurationError, match="14 or newer"):
        await open_store(postgres_url, clock=FrozenClock())


@pytest.mark.parametrize("wrong", ["database", "user", "port"])
async def test_what_is_wrong_is_said_without_the_password(postgres_url: str, wrong: str) -> None:
    secret = postgres_url.replace("keyfob@", "keyfob:hunter2@")
    before, _, _ = secret.rpartition("/")
    url, error = {
        "database": (f"{before}/nowhere", ConfigurationError),
        "user": (secret.replace("keyfob:", "nobody:"), ConfigurationError),
        "port": ("postgresql://keyfob:hunter2@127.0.0.1:1/keyfob", StoreUnavailable),
    }[wrong]
    with pytest.raises(error) as raised:
        await open_store(url, clock=FrozenClock())
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


async def test_a_migration_waits_for_a_table_only_so_long_and_says_what_to_do(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate_store(empty)

    async def widen(connection: Any) -> None:
        await connection.execute("ALTER TABLE keyfob.sessions ADD COLUMN more text")

    monkeypatch.setattr(schema, "_STEPS", (*schema._STEPS, widen))
    monkeypatch.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
    reader = await asyncpg.connect(empty)
    async with reader.transaction():
        await reader.fetch("SELECT 1 FROM keyfob.sessions")
        with pytest.raises(StoreUnavailable, match=r"waited 0\.2 s .* changed nothing.*--wait") as raised:
            await migrate_store(empty, patience=timedelta(seconds=0.2))
        assert "hunter2" not in str(raised.value)
    await reader.close()
    await migrate_store(empty, patience=timedelta(seconds=0.2))
