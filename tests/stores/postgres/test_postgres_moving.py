"""What a move does to a PostgreSQL store: no writer is missed, none is lost, and a closed store is closed to everybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from msgspec import structs

from keyfob.base.errors import ConfigurationError, StoreMoved, StoreUnavailable
from keyfob.base.identifiers import Subject
from keyfob.stores.copying import Copier, Ends
from keyfob.stores.moving import Mark, Role
from keyfob.stores.opening import make_movable, migrate_store, open_movable, open_store
from keyfob.stores.postgres import schema, transfer
from keyfob.stores.postgres.holding_off import Hold, hold_off
from keyfob.stores.postgres.listening import CHANNEL
from keyfob.stores.postgres.locks import LockClass
from keyfob.stores.postgres.moving import PostgresMovable
from keyfob.stores.record_rows import FORMS
from keyfob.stores.records import AccountRow, FeedRow, Kind, SessionRow
from keyfob.stores.store import Store
from keyfob.stores.transfer import pages
from keyfob.testing.account_store_contract import an_account
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.race_verbs import add_account
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import ALICE, LIFETIME, an_event, entries, is_live, put_new
from keyfob.testing.transfer_contract import carry, fill

Opener = Callable[[], Awaitable[Store]]
SOURCE = Mark(role=Role.SOURCE, copy_id="c", place="elsewhere")
FENCED = replace(SOURCE, role=Role.FENCED)
MOVED = replace(SOURCE, role=Role.MOVED)
PATIENCE = 20.0  # seconds


@pytest.fixture
async def movable(postgres_url: str) -> AsyncIterator[PostgresMovable]:
    movable = await open_movable(postgres_url)
    assert isinstance(movable, PostgresMovable)
    yield movable
    await movable.close()


async def noted(movable: PostgresMovable, kind: Kind) -> list[str]:
    changes = await movable.changes(99)
    put = [record.key for record in changes.put if record.kind is kind]
    return put + [key for of_kind, key in changes.removed if of_kind is kind]


async def waits_for_a_lock(raw: Any) -> None:
    """Return when somebody waits for a lock in this database."""
    async with asyncio.timeout(PATIENCE):
        while not await raw.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0)


async def test_what_was_under_way_is_in_place_before_the_mark_is(
    store: Store, movable: PostgresMovable, raw: Any, postgres_url: str, clock: FrozenClock
) -> None:
    session = await put_new(store, clock)
    other = await asyncpg.connect(postgres_url)
    under_way = other.transaction()
    await under_way.start()
    await other.execute("UPDATE keyfob.sessions SET generation = 7")
    marking = asyncio.create_task(movable.set_mark(SOURCE, replaces=None))
    await waits_for_a_lock(raw)
    assert not marking.done()
    await under_way.commit()
    await other.close()
    assert await marking
    async with movable.snapshot(clock.now()) as snapshot:
        (row,) = await snapshot.read(Kind.SESSIONS, after=None, limit=9)
    assert isinstance(row, SessionRow)
    assert (row.key, row.session.generation) == (session.session_id, 7)
    assert not await noted(movable, Kind.SESSIONS)


async def test_a_fence_waits_for_whoever_is_inside(
    store: Store, movable: PostgresMovable, raw: Any, postgres_url: str, clock: FrozenClock
) -> None:
    session = await put_new(store, clock)
    assert await movable.set_mark(SOURCE, replaces=None)
    other = await asyncpg.connect(postgres_url)
    under_way = other.transaction()
    await under_way.start()
    await other.execute("UPDATE keyfob.sessions SET replays = 4")
    fencing = asyncio.create_task(movable.set_mark(FENCED, replaces=SOURCE))
    await waits_for_a_lock(raw)
    await other.execute("UPDATE keyfob.sessions SET replays = 8")
    await under_way.commit()
    await other.close()
    assert await fencing
    assert await noted(movable, Kind.SESSIONS) == [session.session_id]


async def test_a_change_that_commits_late_under_an_early_number_is_not_forgotten(
    store: Store, movable: PostgresMovable, raw: Any, clock: FrozenClock
) -> None:
    early, late = await put_new(store, clock), await put_new(store, clock, Subject("late"))
    assert await movable.set_mark(SOURCE, replaces=None)
    slow = raw.transaction()
    await slow.start()
    await raw.execute("UPDATE keyfob.sessions SET replays = 4 WHERE subject = $1", early.subject)
    await rotate(store, late.session_id, 0, clock.now())
    changes = await movable.changes(99)
    assert [record.key for record in changes.put] == [late.session_id]
    await slow.commit()
    await movable.forget_changes(changes.through)
    assert await noted(movable, Kind.SESSIONS) == [early.session_id]


async def test_a_change_that_is_noted_again_meanwhile_is_waited_for_by_nobody(
    store: Store, movable: PostgresMovable, raw: Any, clock: FrozenClock
) -> None:
    session = await put_new(store, clock)
    assert await movable.set_mark(SOURCE, replaces=None)
    await rotate(store, session.session_id, 0, clock.now())
    changes = await movable.changes(99)
    again = raw.transaction()
    await again.start()
    await raw.execute("UPDATE keyfob.sessions SET replays = 4")
    await asyncio.wait_for(movable.forget_changes(changes.through), PATIENCE)
    await again.commit()
    assert await noted(movable, Kind.SESSIONS) == [session.session_id]


@pytest.mark.parametrize("mark", [SOURCE, FENCED])
async def test_a_partition_and_whoever_writes_into_it_by_its_name_are_not_missed(
    store: Store, movable: PostgresMovable, raw: Any, clock: FrozenClock, mark: Mark
) -> None:
    before = await put_new(store, clock)
    await store.feed.extend_retention(credential=timedelta(minutes=10), session=LIFETIME)
    assert await movable.set_mark(mark, replaces=None)
    if mark is FENCED:
        with pytest.raises(asyncpg.PostgresError, match="moving"):
            await raw.execute("DELETE FROM keyfob.sessions_other")
        return
    assert await store.sessions.delete_expired(clock.now(), 9) == 0  # makes partitions
    clock.advance(timedelta(days=2))
    after = await put_new(store, clock)
    assert await raw.fetchval("SELECT count(*) FROM keyfob.sessions_other") == 1
    await raw.execute("DELETE FROM keyfob.sessions_other")
    assert sorted(await noted(movable, Kind.SESSIONS)) == sorted([before.session_id, after.session_id])


async def test_no_partition_is_dropped_while_the_store_is_copied(
    store: Store, movable: PostgresMovable, clock: FrozenClock
) -> None:
    await store.feed.extend_retention(credential=timedelta(minutes=10), session=LIFETIME)
    assert await store.sessions.delete_expired(clock.now(), 9) == 0
    session = await put_new(store, clock)
    clock.set(session.expires_at + timedelta(days=9))
    assert await movable.set_mark(SOURCE, replaces=None)
    assert await store.sessions.delete_expired(clock.now(), 9) == 0
    assert await movable.set_mark(None, replaces=SOURCE)
    assert await store.sessions.delete_expired(clock.now(), 9) == 1


async def test_a_store_that_moved_is_closed_to_every_reader_at_once(
    store: Store, movable: PostgresMovable, raw: Any, postgres_url: str, clock: FrozenClock
) -> None:
    session = await fill(store, clock)
    assert await movable.set_mark(MOVED, replaces=None)
    with pytest.raises(asyncpg.UndefinedTableError):  # as a server of whichever version asks
        await raw.fetchval("SELECT position FROM keyfob.meta")
    for verb in (
        store.sessions.find(session.session_id),
        store.feed.head(),
        store.accounts.find(ALICE),
        store.audit.list(limit=1),
    ):
        with pytest.raises(StoreMoved, match="has moved to elsewhere"):
            await verb
    for attempt in (open_store(postgres_url, clock=clock), migrate_store(postgres_url)):
        with pytest.raises(ConfigurationError, match="has moved to elsewhere"):
            await attempt


async def test_whoever_follows_a_store_that_moved_is_called(movable: PostgresMovable, raw: Any) -> None:
    called = asyncio.Event()
    await raw.add_listener(CHANNEL, lambda *_: called.set())
    assert await movable.set_mark(MOVED, replaces=None)
    await asyncio.wait_for(called.wait(), PATIENCE)


async def test_whoever_had_an_empty_store_open_before_it_was_filled_is_refused(
    store: Store, movable: PostgresMovable, clock: FrozenClock
) -> None:
    target = Mark(role=Role.TARGET, copy_id="c", place="elsewhere")
    assert await movable.set_mark(target, replaces=None)
    with pytest.raises(StoreUnavailable, match="being filled"):
        await put_new(store, clock)
    assert await movable.set_mark(None, replaces=target)
    with pytest.raises(StoreUnavailable, match="being filled"):  # it has another salt
        await store.feed.head()


async def test_a_long_dump_puts_the_switch_off_and_writers_go_on(
    store: Store,
    postgres_url: str,
    empty_postgres_url: str,
    raw: Any,
    clock: FrozenClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await fill(store, clock)
    async with copier(postgres_url, empty_postgres_url, clock) as copying:
        await copying.copy()
        async with raw.transaction():
            await raw.fetch("SELECT 1 FROM keyfob.meta")
            with monkeypatch.context() as impatient:
                impatient.setattr(transfer, "WAITS", (timedelta(milliseconds=50),) * 2)
                with pytest.raises(StoreUnavailable, match="in use for too long"):
                    await copying.switch()
            await put_new(store, clock)
        await copying.switch()


async def test_a_target_that_goes_away_during_the_switch_holds_no_writer_off(
    store: Store, postgres_url: str, empty_postgres_url: str, clock: FrozenClock
) -> None:
    async with copier(postgres_url, empty_postgres_url, clock) as copying:
        await copying.copy()
        await put_new(store, clock)
        gone = await asyncpg.connect(empty_postgres_url)
        await gone.execute("ALTER TABLE keyfob.sessions RENAME TO sessions_gone")
        with pytest.raises(StoreUnavailable):
            await copying.switch()
        session = await put_new(store, clock)
        await gone.execute("ALTER TABLE keyfob.sessions_gone RENAME TO sessions")
        await gone.close()
        await copying.switch()
    moved = await open_store(empty_postgres_url, clock=clock)
    assert await is_live(moved, session.session_id, clock.now())
    await moved.close()


async def test_a_copier_that_lost_its_connection_changes_nothing_any_more(
    store: Store, movable: PostgresMovable, raw: Any, postgres_url: str
) -> None:
    other = await open_movable(postgres_url)
    async with movable.exclusively():
        with pytest.raises(ConfigurationError, match="another copy"):
            async with other.exclusively():
                raise AssertionError("both are at work")
        await raw.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1",
            LockClass.COPYING.value,
        )
        async with other.exclusively():
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    await movable.set_mark(SOURCE, replaces=None)
            assert await other.mark() is None
    await other.close()


async def test_sessions_that_are_loaded_lie_in_partitions(
    store: Store, another_postgres_url: str, clock: FrozenClock
) -> None:
    await store.feed.extend_retention(credential=timedelta(minutes=10), session=LIFETIME)
    for number in range(5):
        await put_new(store, clock, Subject(f"s{number}"))
        clock.advance(timedelta(days=1))
    other = await open_store(another_postgres_url, clock=clock)
    await carry(store, other, clock)  # type: ignore[arg-type]  # both can be moved
    raw = await asyncpg.connect(another_postgres_url)
    assert await raw.fetchval("SELECT count(*) FROM keyfob.sessions") == 5
    assert await raw.fetchval("SELECT count(*) FROM keyfob.sessions_other") == 0
    await raw.close()
    await other.close()


async def test_events_go_on_behind_those_that_were_loaded(
    store: Store, another_postgres_url: str, clock: FrozenClock
) -> None:
    await fill(store, clock)
    other = await open_store(another_postgres_url, clock=clock)
    await carry(store, other, clock)  # type: ignore[arg-type]  # both can be moved
    before = (await other.audit.list(limit=99)).events
    await other.audit.add(an_event(clock.now(), "later"))
    after = (await other.audit.list(limit=99)).events
    assert [event.code for event in after] == ["later", *(event.code for event in before)]
    await other.close()


async def test_a_name_that_was_given_to_another_account_since_is_loaded(
    store: Store, movable: PostgresMovable, clock: FrozenClock
) -> None:
    await add_account(store, an_account(clock, ALICE, "alice"))
    async with movable.snapshot(clock.now()) as snapshot:
        (row,) = await snapshot.read(Kind.ACCOUNTS, after=None, limit=9)
    assert isinstance(row, AccountRow)
    await movable.load([structs.replace(row, subject=Subject("usr_new"))])
    found = await store.accounts.find_by_name("alice")
    assert found is None or found.subject == "usr_new"
    async with movable.snapshot(clock.now()) as snapshot:
        assert [one.key for one in await snapshot.read(Kind.ACCOUNTS, after=None, limit=9)] == ["usr_new"]


async def test_what_is_replaced_is_seen_whole_or_not_at_all_and_writers_wait(
    store: Store, movable: PostgresMovable, raw: Any, clock: FrozenClock
) -> None:
    await fill(store, clock)
    async with movable.snapshot(clock.now()) as snapshot:
        kept = [page async for page in pages(snapshot, Kind.CLIENTS)]
        (feed,) = await snapshot.read(Kind.FEED, after=None, limit=1)
    assert isinstance(feed, FeedRow)
    seen: list[int] = []
    loop = asyncio.get_running_loop()
    writing: list[asyncio.Task[Any]] = []

    async def look() -> None:
        seen.append(await raw.fetchval("SELECT count(*) FROM keyfob.clients"))
        writing.append(loop.create_task(put_new(store, clock)))
        await waits_for_a_lock(raw)

    def slowly() -> Any:
        asyncio.run_coroutine_threadsafe(look(), loop).result(PATIENCE)
        yield from kept

    await raw.execute("DELETE FROM keyfob.clients WHERE client_id = 'app'")
    head = await store.feed.head()
    assert await movable.replace(slowly(), kinds={Kind.CLIENTS}, instead_of=head)
    await writing[0]
    assert seen == [1]
    assert await raw.fetchval("SELECT count(*) FROM keyfob.clients") == 2
    assert await entries(store)


async def test_a_database_without_a_store_is_no_source_and_is_left_as_it_is(empty_postgres_url: str) -> None:
    with pytest.raises(ConfigurationError, match="holds no store"):
        await open_movable(empty_postgres_url)
    raw = await asyncpg.connect(empty_postgres_url)
    assert await raw.fetchval("SELECT to_regnamespace('keyfob')") is None
    await (await make_movable(empty_postgres_url)).close()
    assert await raw.fetchval("SELECT to_regclass('keyfob.meta')") is not None
    await raw.execute("UPDATE keyfob.meta SET version = version - 1")
    with pytest.raises(ConfigurationError, match="run `keyfob migrate`"):
        await make_movable(empty_postgres_url)
    await raw.close()


async def test_a_store_that_is_copied_is_not_migrated_meanwhile(
    movable: PostgresMovable, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def expand(connection: Any) -> None:
        await connection.execute("CREATE TABLE keyfob.later (id integer)")

    assert await movable.set_mark(SOURCE, replaces=None)
    assert (await migrate_store(postgres_url)).before == schema.SCHEMA_VERSION  # nothing to do is no harm
    with monkeypatch.context() as later:
        later.setattr(schema, "_STEPS", (*schema._STEPS, expand))
        later.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
        with pytest.raises(ConfigurationError, match="being copied to elsewhere"):
            await migrate_store(postgres_url)
        assert await movable.set_mark(None, replaces=SOURCE)
        await migrate_store(postgres_url)


async def test_every_table_moves_and_is_held_off(raw: Any) -> None:
    rows = await raw.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'keyfob'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
    )
    tables = {row[0] for row in rows} - {"move", "changes"}
    assert tables == {form.table for form in FORMS.values()} | {"session_data"}
    async with raw.transaction():
        await hold_off(raw, Hold.WRITERS, timedelta(seconds=1))
        held = await raw.fetch(
            "SELECT relname FROM pg_locks JOIN pg_class ON pg_class.oid = relation WHERE pid = pg_backend_pid() AND mode = 'ExclusiveLock'"
        )
    assert tables <= {row[0] for row in held}


@asynccontextmanager
async def copier(here: str, there: str, clock: FrozenClock) -> AsyncIterator[Copier]:
    source, target = await open_movable(here), await make_movable(there)
    async with source.exclusively():
        yield Copier(Ends(source, target, "here", "there"), clock=clock)
    await target.close()
