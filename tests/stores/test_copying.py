"""A store is carried to another one while it is used: nothing is lost, nothing comes back, and never do two take writes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from keyfob.authority.authority import Authority
from keyfob.base.errors import ConfigurationError, StoreMoved, StoreUnavailable
from keyfob.base.identifiers import SessionId, Subject
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Replayed, Rotated
from keyfob.stores.copying import Copier, Ends
from keyfob.stores.moving import Mark, Role
from keyfob.stores.opening import make_movable, open_movable, open_store, place_of
from keyfob.stores.records import Kind, SessionRow
from keyfob.stores.transfer import tally
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import ALICE, WINDOW, an_event, codes, found, is_live, put_new, revocation
from keyfob.testing.transfer_contract import fill

CHILD = Path(__file__).parent / "copier_child.py"
WRITER = Path(__file__).parent / "sqlite_crash_child.py"


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


WAYS = [
    "sqlite to sqlite",
    "sqlite to postgresql",
    "postgresql to sqlite",
    "sqlite to redis",
    "redis to sqlite",
]
between_servers_too = pytest.mark.parametrize(
    "way", [*WAYS, "redis to postgresql", "postgresql to redis"], indirect=True
)
"""What both ends must agree on; the rest is seen on the way from and to a file."""


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> list[str]:
    """From which kind of store to which."""
    return str(request.param).split(" to ")


@pytest.fixture
def here(request: pytest.FixtureRequest, tmp_path: Path, way: list[str]) -> str:
    if way[0] == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    if way[0] == "redis":
        return str(request.getfixturevalue("redis_url"))
    return f"sqlite:///{tmp_path}/here.db"


@pytest.fixture
def there(request: pytest.FixtureRequest, tmp_path: Path, way: list[str]) -> str:
    if way[1] == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    if way[1] == "redis":
        return str(request.getfixturevalue("redis_url"))
    return f"sqlite:///{tmp_path}/there.db"


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path, way: list[str]) -> str:
    """A third store, of the kind of the second."""
    if way[1] == "postgresql":
        return str(request.getfixturevalue("another_postgres_url"))
    if way[1] == "redis":
        return f"{str(request.getfixturevalue('redis_url')).removesuffix('/0')}/2"
    return f"sqlite:///{tmp_path}/elsewhere.db"


async def triggers(url: str) -> int:
    """Return how many triggers there are."""
    if url.startswith("postgresql"):
        import asyncpg

        connection = await asyncpg.connect(url)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal"))
        finally:
            await connection.close()
    if url.startswith("redis"):
        source = await open_movable(url)
        return int(await source.mark() is not None)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
        return int(file.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchone()[0])


async def spoil(url: str, clock: FrozenClock) -> None:
    """Change a session of a target, as a fault of the copier might."""
    target = await open_movable(url)
    async with target.snapshot(clock.now()) as snapshot:
        row = (await snapshot.read(Kind.SESSIONS, after=None, limit=1))[0]
    assert isinstance(row, SessionRow)
    session = structs.replace(row.session, generation=row.session.generation + 1)
    await target.load([structs.replace(row, session=session)])
    await target.close()


@asynccontextmanager
async def copier(here: str, there: str, clock: FrozenClock) -> AsyncIterator[Copier]:
    source, target = await open_movable(here), await make_movable(there)
    try:
        async with source.exclusively():
            ends = Ends(source, target, place_of(here), place_of(there))
            yield Copier(ends, clock=clock)
    finally:
        await source.close()
        await target.close()


async def move(here: str, there: str, clock: FrozenClock) -> None:
    async with copier(here, there, clock) as copying:
        await copying.copy()
        await copying.switch()


@between_servers_too
async def test_a_store_moves_with_all_that_it_holds(here: str, there: str, clock: FrozenClock) -> None:
    store = await open_store(here, clock=clock)
    session = await fill(store, clock)
    assert store.transfer is not None
    async with store.transfer.snapshot(clock.now()) as snapshot:
        before = await tally(snapshot)
    await move(here, there, clock)
    moved = await open_store(there, clock=clock)
    assert moved.transfer is not None
    async with moved.transfer.snapshot(clock.now()) as snapshot:
        assert await tally(snapshot) == before
    assert moved.salt == store.salt
    assert await is_live(moved, session.session_id, clock.now())
    await moved.close()
    await store.close()


@between_servers_too
async def test_what_happens_during_the_copy_is_in_force_after_it(
    here: str, there: str, clock: FrozenClock
) -> None:
    store = await open_store(here, clock=clock)
    revoked, rotated, ended = [await put_new(store, clock, Subject(f"s{n}")) for n in range(3)]
    async with copier(here, there, clock) as copying:
        await copying.copy()
        await store.sessions.end(revocation(Scope.SESSION, revoked.session_id, clock.now()), now=clock.now())
        await store.sessions.end(revocation(Scope.SUBJECT, ended.subject, clock.now()), now=clock.now())
        assert isinstance(await rotate(store, rotated.session_id, 0, clock.now()), Rotated)
        new = await put_new(store, clock)
        await store.sessions.write_data(new.session_id, b"cart", version=0, now=clock.now())
        await copying.copy()
        await store.sessions.write_data(new.session_id, b"more", version=1, now=clock.now())
        await copying.switch()
    await store.close()
    moved = await open_store(there, clock=clock)
    assert (await found(moved, revoked.session_id)).ended_position == 1
    assert (await found(moved, ended.session_id)).ended_position == 2
    assert isinstance(await rotate(moved, rotated.session_id, 0, clock.now()), Replayed)
    clock.advance(WINDOW)
    assert isinstance(await rotate(moved, rotated.session_id, 1, clock.now()), Rotated)
    data = await moved.sessions.read_data(new.session_id)
    assert data is not None
    assert (data.data, data.version) == (b"more", 2)
    await moved.close()


@between_servers_too
async def test_every_kind_of_change_is_carried(here: str, there: str, clock: FrozenClock) -> None:
    store = await open_store(here, clock=clock)
    async with copier(here, there, clock) as copying:
        await copying.copy()
        await fill(store, clock)
        await copying.copy()
        await store.accounts.delete(ALICE, revocation=revocation(Scope.SUBJECT, ALICE, clock.now()))
        await store.throttle.forget(["account"])
        held = await copying.switch()
    assert all(one.count > 0 for one in held.values())
    await store.close()


@between_servers_too
async def test_a_text_that_not_every_store_can_keep_does_not_stop_a_move(
    here: str, there: str, clock: FrozenClock
) -> None:
    store = await open_store(here, clock=clock)
    event = structs.replace(an_event(clock.now(), "odd"), reason="a\0b\ud800c")
    await store.audit.add(event)
    await store.close()
    await move(here, there, clock)
    moved = await open_store(there, clock=clock)
    (kept,) = (await moved.audit.list(limit=9)).events
    assert kept.reason == "a\N{REPLACEMENT CHARACTER}b?c"
    await moved.close()


async def test_writers_are_held_off_while_it_switches_and_readers_after_it(
    here: str, there: str, clock: FrozenClock
) -> None:
    store = await open_store(here, clock=clock)
    stop = store.feed.subscribe(lambda: None)
    session = await fill(store, clock)
    source = await open_movable(here)
    async with copier(here, there, clock) as copying:
        await copying.copy()
        mark = await source.mark()
        assert mark is not None
        fenced = Mark(role=Role.FENCED, copy_id=mark.copy_id, place=mark.place)
        assert await source.set_mark(fenced, replaces=mark)
        for write in (
            put_new(store, clock),
            rotate(store, session.session_id, 1, clock.now()),
            store.sessions.end(revocation(Scope.SUBJECT, ALICE, clock.now()), now=clock.now()),
            store.sessions.write_data(session.session_id, b"x", version=1, now=clock.now()),
            store.throttle.attempt(["new"], now=clock.now()),
            store.audit.delete_expired(clock.now() + WINDOW, 9),
        ):
            with pytest.raises(StoreUnavailable, match="being moved"):
                await write
        assert await is_live(store, session.session_id, clock.now())
        await copying.switch()
    with pytest.raises(StoreMoved, match=f"has moved to {place_of(there)};"):
        await store.sessions.find(session.session_id)
    with pytest.raises(StoreUnavailable):
        await put_new(store, clock)
    with pytest.raises(StoreMoved):
        await store.accounts.find(ALICE)
    stop()
    await store.close()
    await source.close()
    with pytest.raises(ConfigurationError, match=f"has moved to {place_of(there)};"):
        await open_store(here, clock=clock)


async def test_a_target_is_closed_until_it_is_whole(here: str, there: str, clock: FrozenClock) -> None:
    await (await open_store(here, clock=clock)).close()
    async with copier(here, there, clock) as copying:
        await copying.copy()
        with pytest.raises(ConfigurationError, match="being filled"):
            await open_store(there, clock=clock)
        await copying.switch()
    await (await open_store(there, clock=clock)).close()


async def test_a_store_that_was_used_is_never_filled(here: str, there: str, clock: FrozenClock) -> None:
    for url in (here, there):
        store = await open_store(url, clock=clock)
        await fill(store, clock)
        await store.close()
    with pytest.raises(ConfigurationError, match="was used before"):
        await move(here, there, clock)
    for url in (here, there):
        await (await open_store(url, clock=clock)).close()
        other = await open_movable(url)
        assert await other.mark() is None
        await other.close()


async def test_a_store_is_not_copied_onto_itself(here: str, clock: FrozenClock, tmp_path: Path) -> None:
    await (await open_store(here, clock=clock)).close()
    if here.startswith("sqlite"):
        (tmp_path / "link.db").symlink_to(tmp_path / "here.db")
        same = f"sqlite:///{tmp_path}/link.db"
    else:
        same = f"{here}?connections=3"
    with pytest.raises(ConfigurationError, match="the store itself"):
        await move(here, same, clock)
    await (await open_store(here, clock=clock)).close()


async def test_a_password_is_in_no_place() -> None:
    url = "postgresql://user:secret@db.example:5432/keyfob?password=secret"
    assert place_of(url) == "postgresql://db.example:5432/keyfob"


async def test_of_two_copiers_one_works(here: str, there: str, clock: FrozenClock) -> None:
    await (await open_store(here, clock=clock)).close()
    async with copier(here, there, clock):
        with pytest.raises(ConfigurationError, match="another copy"):
            await move(here, there, clock)
    await move(here, there, clock)


async def test_a_store_goes_to_one_place_only(
    here: str, there: str, elsewhere: str, clock: FrozenClock
) -> None:
    await (await open_store(here, clock=clock)).close()
    async with copier(here, there, clock) as copying:
        await copying.copy()
    with pytest.raises(ConfigurationError, match=f"is being copied to {place_of(there)};"):
        await move(here, elsewhere, clock)
    with pytest.raises(ConfigurationError, match="is itself being filled"):
        await move(there, elsewhere, clock)
    await move(here, there, clock)
    with pytest.raises(ConfigurationError, match=f"has moved to {place_of(there)} "):
        await move(here, there, clock)


@between_servers_too
async def test_a_difference_stops_the_switch_and_writers_go_on(
    here: str, there: str, clock: FrozenClock
) -> None:
    store = await open_store(here, clock=clock)
    await fill(store, clock)
    async with copier(here, there, clock) as copying:
        await copying.copy()
        await spoil(there, clock)
        with pytest.raises(ConfigurationError, match="differ in sessions"):
            await copying.switch()
        await put_new(store, clock)
        await copying.abandon()
    await put_new(store, clock)
    await store.close()
    assert await triggers(here) == 0


async def test_a_copy_that_is_given_up_leaves_the_source_as_it_was(
    here: str, there: str, clock: FrozenClock
) -> None:
    store = await open_store(here, clock=clock)
    async with copier(here, there, clock) as copying:
        with pytest.raises(ConfigurationError, match="nothing to abandon"):
            await copying.abandon()
        await copying.copy()
        assert await triggers(here) > 0
        await put_new(store, clock)
        await copying.abandon()
        with pytest.raises(ConfigurationError):
            await copying.switch()
    assert await triggers(here) == 0
    await store.close()
    with pytest.raises(ConfigurationError, match="being filled"):
        await open_store(there, clock=clock)


async def test_a_change_that_comes_while_changes_are_carried_is_kept(here: str, clock: FrozenClock) -> None:
    store = await open_store(here, clock=clock)
    source = await open_movable(here)
    assert await source.set_mark(Mark(role=Role.SOURCE, copy_id="c", place="p"), replaces=None)
    session = await put_new(store, clock)
    first = await source.changes(99)
    await rotate(store, session.session_id, 0, clock.now())
    await source.forget_changes(first.through)
    second = await source.changes(99)
    assert [record.key for record in second.put if record.kind is Kind.SESSIONS] == [session.session_id]
    await source.close()
    await store.close()


async def test_of_two_that_set_a_mark_one_does(here: str, clock: FrozenClock) -> None:
    await (await open_store(here, clock=clock)).close()
    source = await open_movable(here)
    first, second = (Mark(role=Role.SOURCE, copy_id=name, place="p") for name in ("first", "second"))
    assert await source.set_mark(first, replaces=None)
    assert not await source.set_mark(second, replaces=None)
    assert not await source.set_mark(None, replaces=second)
    assert await source.mark() == first
    await source.close()


async def test_a_copier_that_is_killed_anywhere_goes_on(
    here: str, there: str, way: list[str], clock: FrozenClock
) -> None:
    store = await open_store(here, clock=clock)
    await fill(store, clock)
    sessions = [await put_new(store, clock, Subject(f"s{number}")) for number in range(60)]
    chance = random.Random(" ".join(way))
    for attempt in range(40):
        process = subprocess.Popen(
            [sys.executable, str(CHILD), here, there], stdout=subprocess.PIPE, env=dict(os.environ)
        )
        assert process.stdout is not None
        for _ in range(chance.randrange(1, 12)):
            await asyncio.to_thread(process.stdout.readline)
        victim = sessions[attempt]
        await store.sessions.end(revocation(Scope.SESSION, victim.session_id, clock.now()), now=clock.now())
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
        process.stdout.close()
        if process.returncode == 0 or attempt == 4:
            break
    assert await codes(store)
    async with store.transfer.snapshot(clock.now()) as snapshot:  # type: ignore[union-attr]
        before = await tally(snapshot)
    await move(here, there, clock)
    moved = await open_store(there, clock=clock)
    async with moved.transfer.snapshot(clock.now()) as snapshot:  # type: ignore[union-attr]
        assert await tally(snapshot) == before
    for number, session in enumerate(sessions):
        assert await is_live(moved, session.session_id, clock.now()) == (number > attempt)
    await moved.close()
    await store.close()


@between_servers_too
async def test_a_switch_that_was_interrupted_is_finished_or_given_up(
    here: str, there: str, elsewhere: str, clock: FrozenClock
) -> None:
    store = await open_store(here, clock=clock)
    session = await fill(store, clock)
    source = await open_movable(here)
    async with copier(here, there, clock) as copying:
        await copying.copy()
        mark = await source.mark()
        assert mark is not None
        fenced = replace(mark, role=Role.FENCED)
        assert await source.set_mark(fenced, replaces=mark)
    async with copier(here, there, clock) as copying:
        await copying.abandon()
    await put_new(store, clock)
    await store.close()
    await source.close()
    source = await open_movable(here)
    async with copier(here, elsewhere, clock) as copying:
        await copying.copy()
        mark = await source.mark()
        assert mark is not None
        assert await source.set_mark(replace(mark, role=Role.MOVED), replaces=mark)
        with pytest.raises(ConfigurationError):
            await copying.abandon()
    await source.close()
    with pytest.raises(ConfigurationError, match="being filled"):
        await open_store(elsewhere, clock=clock)
    await move(here, elsewhere, clock)
    moved = await open_store(elsewhere, clock=clock)
    assert await is_live(moved, session.session_id, clock.now())
    await moved.close()


async def test_whatever_was_acknowledged_under_load_is_there_after_the_switch(
    here: str, there: str, clock: FrozenClock
) -> None:
    """Two other processes log in, rotate and end all the time."""
    await (await open_store(here, clock=clock)).close()
    writers = [Writer(here) for _ in range(2)]
    async with copier(here, there, clock) as copying:
        for heard in (20, 200, 400):
            for writer in writers:
                await asyncio.to_thread(writer.wait_for_lines, heard)
            await copying.copy()
        held = await copying.switch()
    lines = [line.split() for writer in writers for line in writer.end()]
    moved = await open_store(there, clock=clock)
    head = (await moved.feed.head()).position
    kinds = {line[0] for line in lines}
    for kind, session_id, *rest in lines:
        session = await found(moved, SessionId(session_id))
        if kind == "rotated":
            assert session.generation >= int(rest[0])
        if kind == "ended":
            assert session.ended_position == int(rest[0]) <= head
    assert kinds == {"added", "rotated", "ended"}
    assert held[Kind.SESSIONS].count >= sum(line[0] == "added" for line in lines)
    await moved.close()


class Writer:
    """A process that writes until it is refused, and what it has said so far."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(WRITER), url], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as said:
            for line in said:
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()

    def wait_for_lines(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._lines) >= count, timeout=60)

    def end(self) -> list[str]:
        """Return all that it said, once it was refused and ended by itself."""
        assert self._process.wait(60) == 1
        self._thread.join()
        return self._lines


async def test_nobody_is_logged_out_on_the_way_there_and_back(tmp_path: Path, here: str, there: str) -> None:
    """Every live credential is checked after each move."""
    clock = FrozenClock()
    back = f"sqlite:///{tmp_path}/back.db"
    key = bytes(range(32))
    issuer = "https://login.example"
    async with Authority.open(here, issuer=issuer, master_key=key, clock=clock) as authority:
        opaque = await authority.login("alice", strategy="session")
        hybrid = await authority.login("bob", strategy="hybrid")
        gone = await authority.login("carol", strategy="hybrid")
        head = await authority.store.feed.head()
    for source, target in ((here, there), (there, back)):
        async with copier(source, target, clock) as copying:
            await copying.copy()
            if source == here:
                async with Authority.open(source, issuer=issuer, master_key=key, clock=clock) as authority:
                    await authority.revoke("subject", "carol", actor="test")
            await copying.switch()
        async with Authority.open(target, issuer=issuer, master_key=key, clock=clock) as authority:
            assert (await authority.store.feed.head()).timeline == head.timeline
            assert (await authority.authenticate(opaque.session_token)).subject == "alice"
            assert (await authority.authenticate(hybrid.access_token)).subject == "bob"
            hybrid = await authority.refresh(hybrid.refresh_token)
            with pytest.raises(Exception, match="revoked"):
                await authority.refresh(gone.refresh_token)
            with pytest.raises(Exception, match="revoked"):
                await authority.authenticate(gone.access_token)
        clock.advance(WINDOW)
