"""Stores on a database of the test's own."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest

from keyfob.stores.postgres import read_url
from keyfob.stores.postgres.database import Database
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock

if TYPE_CHECKING:
    from asyncpg import Connection

    from keyfob.testing.postgres_server import PostgresServer

PGBOUNCER = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
NOBODY = 65534
SERVER_CONNECTIONS = 3  # fewer than a store's pool has: transactions change places all the time

Opener = Callable[[], Awaitable[Store]]
PATIENCE = 20  # seconds
LISTENERS = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND state = 'idle' AND query LIKE 'LISTEN %'"
)


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
async def open_another(postgres_url: str, clock: FrozenClock) -> AsyncIterator[Opener]:
    """Open stores on the same database, each with a pool of its own."""
    from keyfob.stores.opening import open_store

    async with AsyncExitStack() as stack:

        async def opened() -> Store:
            store = await open_store(postgres_url, clock=clock)
            stack.push_async_callback(store.close)
            return store

        yield opened


@pytest.fixture
async def store(open_another: Opener) -> Store:
    return await open_another()


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    database = await Database.open(read_url(postgres_url))
    yield database
    await database.close()


@pytest.fixture
async def raw(postgres_url: str) -> AsyncIterator[Connection]:
    """Give a connection past the store: for what an operator, or bad luck, may do."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@pytest.fixture
def until_listening(raw: Connection) -> Callable[[int], Awaitable[None]]:
    """Give what waits until so many stores listen to this database."""

    async def wait(count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while await raw.fetchval(LISTENERS) < count:
                await asyncio.sleep(0)

    return wait


@pytest.fixture(scope="session")
def pooler(postgres_server: PostgresServer) -> Iterator[int]:
    """Give the port of a pooler for every database of the server."""
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed")
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
    process = subprocess.Popen(
        [PGBOUNCER, "-q", str(settings)],
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


@pytest.fixture
def pooled_url(postgres_url: str, pooler: int) -> str:
    """Return the URL of a new migrated database by way of the pooler."""
    direct = urlsplit(postgres_url)
    return f"postgresql://keyfob@127.0.0.1:{pooler}{direct.path}?pooler=127.0.0.1:{direct.port}"
