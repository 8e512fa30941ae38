"""The file of a SQLite store: how it is made, migrated, recognised and closed."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.clients.client import Client
from keyfob.clients.store import UsedAssertion
from keyfob.revocation.entry import Scope
from keyfob.stores.opening import SchemaChange, migrate_store, open_store
from keyfob.stores.sqlite import SCHEMA_VERSION
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import START, FrozenClock
from keyfob.testing.grant_store_contract import a_device
from keyfob.testing.outbox_store_contract import at
from keyfob.testing.racers import ProcessRacers
from keyfob.testing.store_contract import ALICE, SHOP, an_event, found, position, put_new, revocation


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


async def opened(path: Path) -> Store:
    return await open_store(url_of(path), clock=FrozenClock())


async def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keyfob.db"
    store = await opened(path)
    await put_new(store, FrozenClock())
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {file.name for file in tmp_path.iterdir()} == {"keyfob.db", "keyfob.db-wal", "keyfob.db-shm"}
    await store.close()


async def test_closing_leaves_one_file_and_may_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "keyfob.db"
    store = await opened(path)
    store.feed.subscribe(lambda: None)
    await put_new(store, FrozenClock())
    await asyncio.gather(store.close(), store.close())
    await store.close()
    assert [file.name for file in tmp_path.iterdir()] == ["keyfob.db"]


async def test_what_was_kept_is_there_again(tmp_path: Path) -> None:
    path, clock = tmp_path / "keyfob.db", FrozenClock()
    store = await opened(path)
    session, head, salt = await put_new(store, clock), await store.feed.head(), store.salt
    await store.close()
    store = await opened(path)
    assert store.salt == salt
    assert await store.feed.head() == head
    assert await found(store, session.session_id) == session
    await store.close()


async def test_commits_are_durable_by_default(tmp_path: Path) -> None:
    for query, expected in (("", 2), ("?synchronous=full", 2), ("?synchronous=normal", 1)):
        store = await open_store(f"{url_of(tmp_path / 'keyfob.db')}{query}", clock=FrozenClock())
        database = store.sessions._database  # type: ignore[attr-defined]
        found = await database.write(lambda step: step.connection.execute("PRAGMA synchronous").fetchone()[0])
        mode = await database.write(lambda step: step.connection.execute("PRAGMA journal_mode").fetchone()[0])
        assert (found, mode) == (expected, "wal")
        await store.close()


async def test_a_closed_store_answers_nothing(tmp_path: Path) -> None:
    clock = FrozenClock()
    store = await opened(tmp_path / "keyfob.db")
    session = await put_new(store, clock)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.sessions.find(session.session_id)
    with pytest.raises(StoreUnavailable):
        await store.feed.head()
    with pytest.raises(StoreUnavailable):
        await store.feed.live(clock.now())
    with pytest.raises(StoreUnavailable):
        await store.throttle.forget(["a"])
    with pytest.raises(StoreUnavailable):
        store.feed.subscribe(lambda: None)


# migration


async def test_a_migration_is_told_and_repeated_without_harm(tmp_path: Path) -> None:
    url = url_of(tmp_path / "keyfob.db")
    assert await migrate_store(url) == SchemaChange(before=0, after=SCHEMA_VERSION)
    assert await migrate_store(url) == SchemaChange(before=SCHEMA_VERSION, after=SCHEMA_VERSION)


async def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "keyfob.db"
    path.touch(mode=0o600)
    store = await opened(path)
    assert await position(store) == 0
    await store.close()


async def test_a_file_of_the_first_schema_is_brought_up_and_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "keyfob.db"
    store = await opened(path)
    await store.sessions.end(revocation(Scope.SUBJECT, ALICE, START), now=START)
    client = Client(client_id=SHOP, created_at=START, secret_digests=(bytes(32),), scopes=frozenset("ab"))
    await store.clients.add(client, an_event(START))
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        later = ("verifiers", "canaries", "move", "changes", "assertions")
        later += ("one_times", "consents", "deliveries", "cursors")
        connection.executescript(
            "".join(f"DROP TABLE {table};" for table in later)
            + "ALTER TABLE clients DROP COLUMN details; PRAGMA user_version = 1"
        )
    assert await migrate_store(url_of(path)) == SchemaChange(before=1, after=SCHEMA_VERSION)
    store = await opened(path)
    assert await position(store) == 1
    assert (await store.reports.reports()).verifiers == []
    assert await store.clients.find(SHOP) == client
    assert await store.clients.take_assertion(UsedAssertion(bytes(32), START))
    assert await store.grants.add(a_device(FrozenClock()))
    assert await store.consents.give(ALICE, SHOP, frozenset("a"), event=an_event(START)) is not None
    assert await store.outbox.enqueue("logout", [], cursor_from=None, cursor_to=at(1))
    await store.close()


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "keyfob.db"
    await migrate_store(url_of(path))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    for attempt in (opened(path), migrate_store(url_of(path))):
        with pytest.raises(ConfigurationError, match="newer Keyfob"):
            await attempt
    assert path.read_bytes() == before


async def test_a_database_of_somebody_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE sessions (id)")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="no Keyfob database"):
        await opened(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["theirs.db"]


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"remember the milk\n" * 500)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="no SQLite database"):
        await opened(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("name", "message"), [("none/keyfob.db", "no folder"), ("folder", "no file")])
async def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigurationError, match=message):
        await opened(tmp_path / name)


def test_many_threads_make_one_store(tmp_path: Path) -> None:
    async def salt() -> bytes:
        store = await opened(tmp_path / "keyfob.db")
        await store.close()
        return store.salt

    with ThreadPoolExecutor(8) as pool:
        salts = set(pool.map(lambda _: asyncio.run(salt()), range(16)))
    assert len(salts) == 1


async def open_and_close(store: Store, path: Path) -> bytes:
    other = await opened(path)
    await other.close()
    return other.salt


async def _memory() -> Store:
    return await open_store("memory://", clock=FrozenClock())


def test_many_processes_make_one_store(tmp_path: Path) -> None:
    racers = ProcessRacers(count=2)
    racers.open(_memory)
    for number in range(40):
        salts = racers.race(open_and_close, [tmp_path / f"{number}.db"] * 6)
        assert len(set(salts)) == 1
    racers.close()


OPENED_BY_PYTHON = """
import asyncio, sys
from pathlib import Path
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
from keyfob.stores.sqlite import migrate_sqlite_store
asyncio.run(migrate_sqlite_store(Path(sys.argv[1])))
print(Path(sys.argv[1]).stat().st_size > 0, sys.argv[1] in opened)
"""


def test_sqlite_alone_opens_the_file_since_closing_it_would_drop_the_locks_of_others(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", OPENED_BY_PYTHON, str(tmp_path / "keyfob.db")]
    said = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=60).stdout
    assert said == "True False\n"
