"""Stores on a server of the test's own, and what an operator or bad luck may do to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.asyncio import Redis

from keyfob.stores.opening import open_store
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.redis_server import RedisServer, redis_program, valkey_program

Opener = Callable[[str], Awaitable[Store]]


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
async def opened(clock: FrozenClock) -> AsyncIterator[Opener]:
    """Open stores that are closed at the end."""
    async with AsyncExitStack() as stack:

        async def opened(url: str) -> Store:
            store = await open_store(url, clock=clock)
            stack.push_async_callback(store.close)
            return store

        yield opened


@pytest.fixture
async def store(opened: Opener, redis_url: str) -> Store:
    return await opened(redis_url)


@pytest.fixture
async def raw(redis_server: RedisServer) -> AsyncIterator[Any]:
    """Give a client past the store."""
    async with Redis(port=redis_server.port) as client:
        yield client


@pytest.fixture(params=["valkey", "redis"])
def own_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Give a server that the test may kill: Valkey, and Debian's Redis where it is installed."""
    program = valkey_program() if request.param == "valkey" else redis_program()
    if program is None:
        pytest.skip(f"no {request.param}-server is installed")
    with RedisServer(program=program) as server:
        yield server


@pytest.fixture
def until() -> Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]:
    """Give what waits until something is so."""

    async def until(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(10):
            while not await condition():
                await asyncio.sleep(0.01)

    return until
