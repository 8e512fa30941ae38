"""A file that is locked, full, read-only, damaged or gone is never a wrong answer, and says what to do."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from keyfob.base.errors import StoreUnavailable
from keyfob.revocation.entry import Scope
from keyfob.sessions.session import Session
from keyfob.sessions.store import Ended
from keyfob.stores.opening import open_store
from keyfob.stores.sqlite import SqliteOptions, open_sqlite_store
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import ALICE, found, is_live, position, put_new, revocation

IMPATIENT = SqliteOptions(busy_timeout=timedelta(milliseconds=20))
DEADLINE = 5.0  # seconds
NOBODY = 65534


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyfob.db"


@pytest.fixture
async def store(path: Path, clock: FrozenClock) -> AsyncIterator[Store]:
    store = await open_sqlite_store(path, clock=clock, options=IMPATIENT)
    yield store
    await store.close()


def database(store: Store):
    return store.sessions._database  # type: ignore[attr-defined]


async def end_alice(store: Store, clock: FrozenClock) -> Ended:
    outcome = await store.sessions.end(revocation(Scope.SUBJECT, ALICE, clock.now()), now=clock.now())
    assert isinstance(outcome, Ended)
    return outcome


async def test_locked(store: Store, clock: FrozenClock, path: Path) -> None:
    session = await put_new(store, clock)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match=r"locked by another process.*SQLITE_BUSY"):
            await end_alice(store, clock)
        assert await found(store, session.session_id) == session
        other.execute("ROLLBACK")
    assert (await end_alice(store, clock)).entry.position == 1


async def test_locked_at_the_opening(store: Store, path: Path, clock: FrozenClock, tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await open_sqlite_store(path, clock=clock, options=IMPATIENT)
    second = await open_sqlite_store(path, clock=clock, options=IMPATIENT)
    await second.close()


async def test_full(store: Store, clock: FrozenClock) -> None:
    sessions = [await put_new(store, clock) for _ in range(3)]
    pages = await database(store).write(
        lambda step: step.connection.execute("PRAGMA page_count").fetchone()[0]
    )
    await database(store).write(
        lambda step: step.connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    )
    added: list[Session] = []
    with pytest.raises(StoreUnavailable, match="full; make room"):
        await add_until_refused(store, clock, added)
    for session in sessions + added:
        assert await found(store, session.session_id) == session
    await database(store).write(
        lambda step: step.connection.execute("PRAGMA max_page_count = 1000000").fetchone()
    )
    assert (await end_alice(store, clock)).sessions == len(sessions + added)
    assert len((await store.audit.list(limit=2000)).events) == len(sessions + added) + 1


async def test_full_fails_everything_in_its_transaction_or_itself_alone(
    store: Store, clock: FrozenClock
) -> None:
    await put_new(store, clock)
    pages = await database(store).write(
        lambda step: step.connection.execute("PRAGMA page_count").fetchone()[0]
    )
    await database(store).write(
        lambda step: step.connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    )
    outcomes = await asyncio.gather(*(put_new(store, clock) for _ in range(200)), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert refused
    assert all(isinstance(outcome, StoreUnavailable) for outcome in refused)
    kept = {session.session_id for session in await _all(store, clock)}
    acknowledged = {outcome.session_id for outcome in outcomes if not isinstance(outcome, BaseException)}
    assert acknowledged <= kept
    assert len(kept) == len(acknowledged) + 1


async def add_until_refused(store: Store, clock: FrozenClock, added: list[Session]) -> None:
    while len(added) < 1000:
        added.append(await put_new(store, clock))


async def read_until_refused(store: Store, session: Session) -> None:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        await found(store, session.session_id)


async def _all(store: Store, clock: FrozenClock):
    return (await store.sessions.list(None, now=clock.now(), after=None, limit=1000)).sessions


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder that can be reached by a user without privileges, who we are from now on."""
    folder = Path(tempfile.mkdtemp(prefix="keyfob-test-"))
    folder.chmod(0o755)
    yield folder
    if os.geteuid() != os.getuid():
        os.seteuid(os.getuid())
    shutil.rmtree(folder)


def _give_up_privileges() -> None:
    if os.getuid() == 0:
        os.seteuid(NOBODY)


async def test_read_only(unprivileged: Path, clock: FrozenClock) -> None:
    path = unprivileged / "keyfob.db"
    store = await open_store(f"sqlite:///{path}", clock=clock)
    await store.close()
    path.chmod(0o444)
    _give_up_privileges()
    with pytest.raises(StoreUnavailable, match=r"write access|writable"):
        await open_store(f"sqlite:///{path}", clock=clock)


async def test_read_only_while_another_has_it_open(unprivileged: Path, clock: FrozenClock) -> None:
    path = unprivileged / "keyfob.db"
    store = await open_store(f"sqlite:///{path}", clock=clock)
    session = await put_new(store, clock)
    for file in unprivileged.iterdir():
        file.chmod(0o644)
    _give_up_privileges()
    reader = await open_store(f"sqlite:///{path}", clock=clock)
    assert await found(reader, session.session_id) == session
    with pytest.raises(StoreUnavailable, match="read-only here; give this user write access"):
        await end_alice(reader, clock)
    await reader.close()
    await store.close()


async def test_damaged(path: Path, clock: FrozenClock) -> None:
    store = await open_store(f"sqlite:///{path}", clock=clock)
    sessions = [await put_new(store, clock) for _ in range(100)]
    await store.close()
    damage(path)
    with pytest.raises(StoreUnavailable, match=r"damaged; stop every process|damaged: no SQLite"):
        await read_and_write(path, clock, [session.session_id for session in sessions])


def damage(path: Path) -> None:
    """Overwrite everything behind the first pages, where the schema and the head lie."""
    raw = bytearray(path.read_bytes())
    for place in range(4096 * 5, len(raw), 2):
        raw[place] = 0xA5
    path.write_bytes(raw)


async def read_and_write(path: Path, clock: FrozenClock, session_ids: list) -> None:
    store = await open_store(f"sqlite:///{path}", clock=clock)
    try:
        for session_id in session_ids:
            await found(store, session_id)
        await end_alice(store, clock)
    finally:
        await store.close()


async def test_gone(store: Store, clock: FrozenClock, path: Path) -> None:
    session = await put_new(store, clock)
    path.unlink()
    with pytest.raises(StoreUnavailable, match="is gone"):
        await end_alice(store, clock)
    with pytest.raises(StoreUnavailable, match="is gone"):
        await found(store, session.session_id)


async def test_gone_is_noticed_by_those_who_only_read(store: Store, clock: FrozenClock, path: Path) -> None:
    session = await put_new(store, clock)
    path.unlink()
    with pytest.raises(StoreUnavailable, match="is gone"):
        await read_until_refused(store, session)


async def test_replaced(store: Store, clock: FrozenClock, path: Path, tmp_path: Path) -> None:
    await put_new(store, clock)
    other = tmp_path / "other.db"
    second = await open_store(f"sqlite:///{other}", clock=clock)
    await second.close()
    other.replace(path)
    with pytest.raises(StoreUnavailable, match="replaced while open; restart"):
        await end_alice(store, clock)
    with pytest.raises(StoreUnavailable, match="replaced while open"):
        await position(store)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_fork_does_not_inherit_the_store(store: Store, clock: FrozenClock) -> None:
    session = await put_new(store, clock)
    child = os.fork()
    if child == 0:
        try:
            store.sessions.find(session.session_id).send(None)
        except StoreUnavailable as error:
            os._exit(7 if "before a fork" in str(error) else 8)
        finally:
            os._exit(9)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert await is_live(store, session.session_id, clock.now())


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x90", b"\x93\x01\x02\x03"])
async def test_a_row_that_cannot_be_read(store: Store, clock: FrozenClock, raw: bytes) -> None:
    session = await put_new(store, clock)
    await database(store).write(
        lambda step: step.connection.execute("UPDATE sessions SET details = ?", (raw,))
    )
    with pytest.raises(StoreUnavailable, match="is damaged"):
        await found(store, session.session_id)
    with pytest.raises(StoreUnavailable, match="is damaged"):
        await end_alice(store, clock)
    assert await position(store) == 0
