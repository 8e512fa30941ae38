"""PostgreSQL behind pgbouncer in transaction mode: each transaction may be on another connection, and nobody can listen through it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from keyfob.base.identifiers import Subject
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Added, Ended, Rotated
from keyfob.stores.opening import open_store
from keyfob.stores.postgres import listening
from keyfob.stores.store import Store
from keyfob.testing.feed_store_contract import FeedStoreContract
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.postgres_server import PostgresServer
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import a_session, assert_chained, entries, is_live, put, revocation

PROGRAM = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
PATIENCE = 20  # seconds
NOBODY = 65534
SERVER_CONNECTIONS = 3  # fewer than a store's pool has: transactions change places all the time

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")


@pytest.fixture(scope="module")
def pooler(postgres_server: PostgresServer) -> Iterator[int]:
    """Give the port of a pooler for every database of the server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    settings = postgres_server.folder / "pgbouncer.ini"
    users = postgres_server.folder / "pgbouncer.users"
    users.write_text('"keyfob" ""\n')
    settings.write_text(
        f"[databases]\n* = host=127.0.0.1 port={postgres_server.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = trust\nauth_file = {users}\n"
        f"pool_mode = transaction\ndefault_pool_size = {SERVER_CONNECTIONS}\nserver_lifetime = 1\n"
    )
    assert PROGRAM is not None
    process = subprocess.Popen(
        [PROGRAM, "-q", str(settings)],
        cwd=postgres_server.folder,
        stderr=subprocess.DEVNULL,
        user=NOBODY if os.geteuid() == 0 else None,
    )
    try:
        _await_port(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise AssertionError("pgbouncer does not listen")


def pooled(url: str, port: int) -> str:
    """Return *url* by way of the pooler at *port*."""
    direct = urlsplit(url)
    return f"postgresql://keyfob@127.0.0.1:{port}{direct.path}?pooler=127.0.0.1:{direct.port}"


class OnPooler:
    @pytest.fixture
    async def store(self, clock: FrozenClock, postgres_url: str, pooler: int) -> AsyncIterator[Store]:
        store = await open_store(pooled(postgres_url, pooler), clock=clock)
        yield store
        await store.close()


class TestFeedThroughPooler(OnPooler, FeedStoreContract):
    pass


class TestJourneysThroughPooler(OnPooler):
    @pytest.fixture
    def clock(self) -> FrozenClock:
        return FrozenClock()

    async def test_many_at_once_change_places_and_nothing_is_mixed_up(
        self, store: Store, clock: FrozenClock
    ) -> None:
        sessions = [a_session(store, clock, Subject(f"subject-{number}")) for number in range(60)]
        added = await asyncio.gather(*(put(store, session) for session in sessions))
        assert added == [Added()] * 60
        clock.advance(timedelta(minutes=1))
        now = clock.now()
        found = await asyncio.gather(*(store.sessions.find(session.session_id) for session in sessions))
        assert [one and one.session.subject for one in found] == [session.subject for session in sessions]
        rotated = await asyncio.gather(*(rotate(store, session.session_id, 0, now) for session in sessions))
        assert all(isinstance(outcome, Rotated) for outcome in rotated)
        ended = await asyncio.gather(
            *(
                store.sessions.end(revocation(Scope.SESSION, session.session_id, now), now=now)
                for session in sessions[::2]
            )
        )
        assert all(isinstance(outcome, Ended) for outcome in ended)
        assert_chained(await entries(store))
        live = [await is_live(store, session.session_id, now) for session in sessions]
        assert live == [False, True] * 30

    async def test_another_process_is_told_by_the_server_itself(
        self,
        store: Store,
        clock: FrozenClock,
        postgres_url: str,
        pooler: int,
        until_listening: Callable[[int], Awaitable[None]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(listening, "POLL_INTERVAL", 3 * PATIENCE)  # only a notification can wake in time
        other = await open_store(pooled(postgres_url, pooler), clock=clock)
        woken = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(woken.set)

        remove = other.feed.subscribe(wake)
        await until_listening(2)
        woken.clear()
        await store.sessions.end(revocation(Scope.TOKEN, "jti", clock.now()), now=clock.now())
        await asyncio.wait_for(woken.wait(), PATIENCE)
        remove()
        await other.close()
