"""Where stores can be made for a benchmark: files of SQLite, databases of a PostgreSQL server and of a Valkey of one's own.

Sessions are written as the rows that the store itself would write, thousands in a transaction: by its verbs a million logins would take minutes.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.figures import BenchmarkFailed
from keyfob.sessions.session import Session
from keyfob.stores.opening import migrate_store
from keyfob.stores.rows import session_to
from keyfob.stores.sqlite import sessions as sqlite_sessions

# Durable as in a deployment: what is acknowledged is on the disk.
_SETTINGS = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "512MB"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A kind of store. `make` returns the URL of a new, empty one, `write` puts sessions into it, `settle` is called when all of them are there."""

    name: str
    make: Callable[[], Awaitable[str]]
    bytes_used: Callable[[str], Awaitable[int]]
    drop: Callable[[str], Awaitable[None]]
    write: Callable[[str, Sequence[Session]], Awaitable[None]]
    settle: Callable[[str], Awaitable[None]]


@contextmanager
def places(folder: Path) -> Iterator[tuple[list[Place], list[str]]]:
    """Give every kind of store that can be had here, and why the others cannot."""
    found: list[Place] = [_sqlite(folder)]
    absent: list[str] = []
    with ExitStack() as stack:
        for make in (_postgres, _redis):
            try:
                found.append(make(stack))
            except (ModuleNotFoundError, FileNotFoundError) as error:
                absent.append(str(error))
        yield found, absent


def _postgres(stack: ExitStack) -> Place:
    from keyfob.testing.postgres_server import PostgresServer

    server = stack.enter_context(PostgresServer(settings=_SETTINGS))

    async def make() -> str:
        url = server.url(await server.create_database())
        await migrate_store(url)
        return url

    async def drop(url: str) -> None:
        await server.drop_database(url.rpartition("/")[2].partition("?")[0])

    return Place(
        name="postgresql",
        make=make,
        bytes_used=_postgres_bytes,
        drop=drop,
        write=_write_postgres,
        settle=_analyze,
    )


def _redis(stack: ExitStack) -> Place:
    from keyfob.testing.redis_server import RedisServer

    # Every second on the disk, as most deployments have it; every answer comes after the write to the file.
    server = stack.enter_context(RedisServer(settings={"appendfsync": "everysec"}))
    numbers = count()

    async def make() -> str:
        return f"redis://127.0.0.1:{server.port}/{next(numbers)}"

    async def drop(url: str) -> None:
        async with _redis_client(url) as client:
            await client.flushdb()

    async def settle(url: str) -> None:
        return None

    return Place(
        name="redis", make=make, bytes_used=_redis_bytes, drop=drop, write=_write_redis, settle=settle
    )


@asynccontextmanager
async def _redis_client(url: str) -> AsyncIterator[Any]:
    from redis.asyncio import Redis

    client = Redis.from_url(url)
    try:
        yield client
    finally:
        await client.aclose()


async def _redis_bytes(url: str) -> int:
    async with _redis_client(url) as client:
        return int((await client.info("memory"))["used_memory"])


async def _write_redis(url: str, sessions: Sequence[Session]) -> None:
    from keyfob.stores.redis.connecting import connect, take_leave
    from keyfob.stores.redis.packing import session_row
    from keyfob.stores.redis.pieces import cut
    from keyfob.stores.redis.places import field_of, sessions_at, tag_of_session
    from keyfob.stores.redis.url import read_url

    commands: list[tuple[object, ...]] = []
    for session in sessions:
        key = sessions_at(tag_of_session(session.session_id))
        pieces = cut(field_of(session.session_id), session_row(session))
        commands += [
            (b"HSET", key, *(part for pair in pieces.items() if pair[1] for part in pair)),
            (b"EXPIRE", key, int((session.expires_at - session.created_at).total_seconds())),
        ]
    connection = await connect(read_url(url))
    await connection.ask_all(commands)
    await take_leave(connection)


def _sqlite(folder: Path) -> Place:
    numbers = count()

    async def make() -> str:
        return f"sqlite:///{folder / f'bench-{next(numbers)}.db'}"

    async def bytes_used(url: str) -> int:
        path = Path(_path(url))
        return await asyncio.to_thread(
            lambda: sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))
        )

    async def drop(url: str) -> None:
        path = Path(_path(url))
        for each in path.parent.glob(f"{path.name}*"):
            await asyncio.to_thread(each.unlink)

    return Place(
        name="sqlite", make=make, bytes_used=bytes_used, drop=drop, write=_write_sqlite, settle=_checkpoint
    )


async def _write_sqlite(url: str, sessions: Sequence[Session]) -> None:
    def write() -> None:
        with closing(sqlite3.connect(_path(url), timeout=30)) as connection, connection:
            connection.executemany(sqlite_sessions._INSERT, [session_to(session) for session in sessions])

    await asyncio.to_thread(write)


async def _checkpoint(url: str) -> None:
    def checkpoint() -> None:
        with closing(sqlite3.connect(_path(url), timeout=30)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    await asyncio.to_thread(checkpoint)


def _path(url: str) -> str:
    return url.removeprefix("sqlite:///")


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    import asyncpg  # type: ignore[import-untyped]  # it ships no types

    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def _postgres_bytes(url: str) -> int:
    async with _connected(url) as connection:
        return int(await connection.fetchval("SELECT pg_database_size(current_database())"))


async def _write_postgres(url: str, sessions: Sequence[Session]) -> None:
    from keyfob.stores.postgres.reading import insert_sessions

    async with _connected(url) as connection:
        written = await insert_sessions(connection, sessions)
    if len(written) != len(sessions):
        raise BenchmarkFailed("a session that was not written")


async def _analyze(url: str) -> None:
    # Autovacuum would, a minute later.
    async with _connected(url) as connection:
        await connection.execute("ANALYZE")
