"""The one writer: group commit, one failing alone, nothing told before it is durable."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from keyfob.base.errors import StoreUnavailable
from keyfob.base.identifiers import Position
from keyfob.sessions.session import Session
from keyfob.sessions.store import Added
from keyfob.stores.opening import open_store
from keyfob.stores.sqlite import SqliteOptions, open_sqlite_store
from keyfob.stores.sqlite.writer import MAX_BATCH, MAX_WAITING
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import (
    BOB,
    LIFETIME,
    PLENTY,
    a_session,
    an_event,
    codes,
    found,
    put,
    put_new,
)


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyfob.db"


@pytest.fixture
async def store(path: Path, clock: FrozenClock) -> AsyncIterator[Store]:
    store = await open_sqlite_store(
        path, clock=clock, options=SqliteOptions(busy_timeout=timedelta(seconds=30))
    )
    yield store
    await store.close()


def database(store: Store):
    return store.sessions._database  # type: ignore[attr-defined]


async def traced(store: Store) -> list[str]:
    """Return the list that will hold every statement of the writer from now on."""
    statements: list[str] = []
    await database(store).write(lambda step: step.connection.set_trace_callback(statements.append))
    statements.clear()
    return statements


async def test_what_waits_is_committed_together(store: Store, clock: FrozenClock) -> None:
    statements = await traced(store)
    sessions = [a_session(store, clock) for _ in range(100)]
    outcomes = await asyncio.gather(*(put(store, session) for session in sessions))
    assert outcomes == [Added()] * 100
    assert statements.count("COMMIT") == 1
    assert statements.count("BEGIN IMMEDIATE") == 1


async def test_a_batch_has_a_bound(store: Store, clock: FrozenClock) -> None:
    statements = await traced(store)
    await asyncio.gather(*(store.throttle.forget([str(number)]) for number in range(MAX_BATCH + 1)))
    assert statements.count("COMMIT") == 2


async def test_a_write_alone_does_not_wait(store: Store) -> None:
    statements = await traced(store)
    for _ in range(3):
        await store.throttle.forget(["a"])
    assert statements.count("COMMIT") == 3


async def test_one_that_fails_takes_nothing_from_the_others(store: Store, clock: FrozenClock) -> None:
    statements = await traced(store)
    good = [a_session(store, clock) for _ in range(4)]
    bad = replace(a_session(store, clock), as_of=Position(99))
    late = a_session(store, clock)

    def fail_late(step) -> None:
        step.connection.execute("DELETE FROM sessions")
        step.connection.execute("INSERT INTO nowhere VALUES (1)")

    outcomes = await asyncio.gather(
        put(store, good[0]),
        put(store, good[1]),
        put(store, bad),
        put(store, replace(late, session_id=good[0].session_id)),
        database(store).write(fail_late),
        put(store, good[2]),
        put(store, good[3]),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [
        Added,
        Added,
        ValueError,
        ValueError,
        StoreUnavailable,
        Added,
        Added,
    ]
    assert statements.count("COMMIT") == 1
    for session in good:
        assert await found(store, session.session_id) == session
    assert await store.sessions.find(bad.session_id) is None
    assert await codes(store) == ["login"] * 4


async def test_it_is_durable_when_it_is_told(store: Store, clock: FrozenClock, path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        for number in range(1, 6):
            await put_new(store, clock)
            assert other.execute("SELECT count(*) FROM sessions").fetchone() == (number,)


async def test_the_event_loop_goes_on_while_a_write_waits(
    store: Store, clock: FrozenClock, path: Path
) -> None:
    session = await put_new(store, clock)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(put_new(store, clock))
        for _ in range(100):
            await asyncio.sleep(0)
            assert await found(store, session.session_id) == session
        assert not waiting.done()
        other.execute("COMMIT")
    await waiting


async def test_a_caller_that_gives_up_does_not_stop_the_write(
    store: Store, clock: FrozenClock, path: Path
) -> None:
    given_up, kept = a_session(store, clock), a_session(store, clock)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(put(store, given_up))
        staying = asyncio.ensure_future(put(store, kept))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        other.execute("COMMIT")
    assert await staying == Added()
    assert await found(store, given_up.session_id) == given_up


def test_an_event_loop_that_is_gone_harms_nobody(path: Path, clock: FrozenClock) -> None:
    with asyncio.Runner() as runner:
        store = runner.run(open_store(f"sqlite:///{path}", clock=clock))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with asyncio.Runner() as gone:
                gone.run(_leave_waiting(store, clock))
            other.execute("COMMIT")
        session = runner.run(put_new(store, clock))
        assert runner.run(found(store, session.session_id)) == session
        assert len(runner.run(codes(store))) == 2
        runner.run(store.close())


async def _leave_waiting(store: Store, clock: FrozenClock) -> None:
    waiting = asyncio.ensure_future(put_new(store, clock))
    for _ in range(5):  # so that it is handed over
        await asyncio.sleep(0)
    waiting.cancel()


async def test_many_event_loops_write_at_once(store: Store, clock: FrozenClock) -> None:
    async def several() -> list[Session]:
        return await asyncio.gather(*(put_new(store, clock) for _ in range(20)))

    with ThreadPoolExecutor(4) as pool:
        loop = asyncio.get_running_loop()
        added = await asyncio.gather(*(loop.run_in_executor(pool, asyncio.run, several()) for _ in range(4)))
    listed = await store.sessions.list(None, now=clock.now(), after=None, limit=PLENTY)
    assert {session.session_id for session in listed.sessions} == {
        session.session_id for part in added for session in part
    }


async def test_too_much_that_waits_is_refused_at_once(store: Store, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        blocked = asyncio.ensure_future(store.throttle.forget(["a"]))
        await asyncio.sleep(0)
        waiting = [asyncio.ensure_future(store.throttle.forget(["a"])) for _ in range(MAX_WAITING)]
        for _ in range(3):
            await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="too many writes"):
            await asyncio.gather(*(store.throttle.forget(["a"]) for _ in range(MAX_WAITING)))
        assert not any(future.done() for future in waiting)
        other.execute("COMMIT")
    await asyncio.gather(blocked, *waiting)


async def test_closing_carries_out_what_waits(clock: FrozenClock, path: Path) -> None:
    store = await open_store(f"sqlite:///{path}", clock=clock)
    session = a_session(store, clock)
    writing = asyncio.ensure_future(put(store, session))
    for _ in range(3):
        await asyncio.sleep(0)
    await store.close()
    assert await writing == Added()
    again = await open_store(f"sqlite:///{path}", clock=clock)
    assert await found(again, session.session_id) == session
    await again.close()


async def test_deleting_holds_the_lock_for_few_rows_at_a_time(store: Store, clock: FrozenClock) -> None:
    await asyncio.gather(*(put_new(store, clock) for _ in range(450)))
    await asyncio.gather(*(store.audit.add(an_event(clock.now())) for _ in range(600)))
    statements = await traced(store)
    assert await store.sessions.delete_expired(clock.now() + LIFETIME, 1000) == 450
    assert statements.count("COMMIT") == 3
    statements.clear()
    assert await store.audit.delete_expired(clock.now() + LIFETIME, 1000) == 1000
    assert statements.count("COMMIT") == 2


async def test_a_list_of_few_among_many_looks_at_a_bounded_number(store: Store, clock: FrozenClock) -> None:
    await asyncio.gather(*(put_new(store, clock) for _ in range(100)))
    copies = (
        "INSERT INTO sessions SELECT randomblob(16), subject, client_id, digest, generation, as_of, created_at, expires_at,"
        " last_seen_at, idle_timeout, parent_session_id, replays, rotated_at, ended_at, ended_position, details"
        " FROM sessions"
    )
    for _ in range(5):
        await database(store).write(lambda step: step.connection.execute(copies))
    oldest = replace(a_session(store, clock, BOB), created_at=clock.now() - timedelta(seconds=1))
    assert await put(store, oldest) == Added()
    await database(store).write(
        lambda step: step.connection.execute(
            "UPDATE sessions SET last_seen_at = 0 WHERE session_id <> ?", (bytes.fromhex(oldest.session_id),)
        )
    )
    pages, after = 0, None
    listed: list[Session] = []
    while pages == 0 or after is not None:
        page = await store.sessions.list(None, now=clock.now(), after=after, limit=50)
        listed += page.sessions
        after, pages = page.next, pages + 1
    assert listed == [oldest]
    assert pages == 2


async def test_the_connection_of_a_thread_goes_with_the_thread(store: Store, clock: FrozenClock) -> None:
    session = await put_new(store, clock)
    readers = database(store)._readers._all
    before = len(readers)

    def read() -> None:
        assert asyncio.run(found(store, session.session_id)) == session

    for _ in range(5):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert len(readers) <= before


async def test_a_commit_that_fails_leaves_nothing_and_stops_nothing(store: Store, clock: FrozenClock) -> None:
    connection = database(store)._writer._connection
    connection.execute("PRAGMA foreign_keys = ON")

    def break_the_commit(step) -> None:
        step.connection.execute("CREATE TABLE above (id INTEGER PRIMARY KEY)")
        step.connection.execute("CREATE TABLE below (id REFERENCES above (id) DEFERRABLE INITIALLY DEFERRED)")
        step.connection.execute("INSERT INTO below VALUES (1)")

    lost = a_session(store, clock)
    outcomes = await asyncio.gather(
        put(store, lost), database(store).write(break_the_commit), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 2
    assert await store.sessions.find(lost.session_id) is None
    session = await put_new(store, clock)
    assert await found(store, session.session_id) == session
    assert await codes(store) == ["login"]
