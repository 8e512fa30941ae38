"""Stores on a database of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import asyncpg
import pytest

from keyfob.stores.postgres import read_url
from keyfob.stores.postgres.database import Database
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock

if TYPE_CHECKING:
    from asyncpg import Connection

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
