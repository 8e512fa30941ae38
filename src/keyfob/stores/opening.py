"""From the URL of a store to the store. Drivers are loaded late: only the one that is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from keyfob.base.clock import Clock, SystemClock
from keyfob.base.errors import ConfigurationError
from keyfob.stores.condition import PostgresCondition, RedisCondition
from keyfob.stores.memory import open_memory_store
from keyfob.stores.moving import Movable
from keyfob.stores.store import Store
from keyfob.stores.two_places import join

if TYPE_CHECKING:
    from keyfob.stores.sqlite import SqliteOptions

_POSSIBLE = (
    "memory://, sqlite:///relative.db, sqlite:////absolute.db, postgresql://user:password@host/database"
    " or redis://user:password@host"
)
_REDIS = {
    *("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"),
    *("valkey", "valkeys"),
}


MIGRATION_PATIENCE = timedelta(seconds=60)
"""How long a migration waits for a table that others use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaChange:
    """The version of the schema that a store had (0: it was new), and the one that it has."""

    before: int
    after: int


async def open_store(url: str, *, clock: Clock) -> Store:
    """Open the store at *url*, making it if there is none.

    `memory://`; `sqlite:///keyfob.db` (relative), `sqlite:////var/lib/keyfob.db` (absolute), with `?synchronous=normal` for commits that
    survive a crash of the process but not a loss of power. A SQLite file of an older schema is migrated first.
    `postgresql://user:password@host:port/database` (docs/reference/postgresql.md), which asks for `keyfob migrate` instead.
    `redis://`, `rediss://`, `redis+sentinel://` and `redis+cluster://` (docs/reference/redis.md).

    Raises:
        ConfigurationError: no such store can be opened; the message says what is possible.
        StoreUnavailable: it does not answer.
    """
    if _scheme(url) == "memory":
        return open_memory_store(clock)
    if _scheme(url) == "postgresql":
        _need_postgres()
        from keyfob.stores.postgres import open_postgres_store, read_url

        return await open_postgres_store(read_url(url), clock=clock)
    if _scheme(url) in _REDIS:
        return await _open_redis(url, clock)
    from keyfob.stores.sqlite import open_sqlite_store

    path, options = _sqlite(url)
    return await open_sqlite_store(path, clock=clock, options=options)


async def open_joined_store(url: str, accounts_url: str, *, clock: Clock) -> Store:
    """Open a store in two places: sessions and the feed at *url*, which is Redis; accounts, clients and keys at *accounts_url*.

    Raises:
        ConfigurationError: one of them cannot be opened, or these two do not go together.
        StoreUnavailable: one of them does not answer.
    """
    if _scheme(url) not in _REDIS or _scheme(accounts_url) not in {"sqlite", "postgresql"}:
        raise ConfigurationError(
            "accounts_store is a store of sqlite:/// or postgresql://, beside a store of redis://"
        )
    sessions = await open_store(url, clock=clock)
    try:
        accounts = await open_store(accounts_url, clock=clock)
    except BaseException:
        await sessions.close()
        raise
    try:
        return await join(sessions, accounts, clock=clock)
    except BaseException:
        await accounts.close()
        await sessions.close()
        raise


async def migrate_store(url: str, *, patience: timedelta = MIGRATION_PATIENCE) -> SchemaChange:
    """Bring the store at *url* to this version's schema, making it if there is none. Repeated, it changes nothing.

    In PostgreSQL it waits for what others hold for *patience*; whoever asks for the same meanwhile waits behind it.

    Raises:
        ConfigurationError: no such store can be opened, or it is one of a newer Keyfob.
        StoreUnavailable: it does not answer.
    """
    if _scheme(url) == "memory":
        return SchemaChange(before=0, after=0)
    if _scheme(url) == "postgresql":
        _need_postgres()
        from keyfob.stores import postgres

        before = await postgres.migrate_postgres_store(postgres.read_url(url), patience=patience)
        return SchemaChange(before=before, after=postgres.SCHEMA_VERSION)
    if _scheme(url) in _REDIS:
        return await _migrate_redis(url)
    from keyfob.stores.sqlite import SCHEMA_VERSION, migrate_sqlite_store

    path, options = _sqlite(url)
    before = await migrate_sqlite_store(path, options=options)
    return SchemaChange(before=before, after=SCHEMA_VERSION)


async def inspect_store(url: str, *, clock: Clock) -> PostgresCondition | None:
    """Look at the server of the store at *url* without opening or changing it; None for a store that has no server.

    Raises:
        ConfigurationError: the URL is malformed, or its driver is missing.
    """
    if _scheme(url) != "postgresql":
        return None
    _need_postgres()
    from keyfob.stores import postgres

    return await postgres.inspect_postgres_store(postgres.read_url(url), clock=clock)


async def inspect_redis(url: str) -> RedisCondition | None:
    """Look at the Redis server of the store at *url* without changing it; None for another store.

    Raises:
        ConfigurationError: the URL is malformed, or its driver is missing.
    """
    if _scheme(url) not in _REDIS:
        return None
    _need_redis()
    from keyfob.stores.redis import inspect_redis_store, read_url

    return await inspect_redis_store(read_url(url))


async def open_movable(url: str) -> Movable:
    """Open the existing store at *url* for a move.

    Raises:
        ConfigurationError: there is none, it cannot be opened, or is in memory, which no other process can see.
        StoreUnavailable: it does not answer.
    """
    _require_movable(url)
    if _scheme(url) in _REDIS:
        return await _redis_movable(url, makes=False)
    path = sqlite_path(url)
    if path is None:
        from keyfob.stores.postgres import open_postgres_movable, read_url

        return await open_postgres_movable(read_url(url))
    if not path.is_file():
        raise ConfigurationError(f"there is no database {path}; give another")
    return await make_movable(url)


async def make_movable(url: str) -> Movable:
    """Open the store at *url* for a move, making it if there is none.

    Raises:
        ConfigurationError: it cannot be opened, or is in memory, which no other process can see.
        StoreUnavailable: it does not answer.
    """
    _require_movable(url)
    if _scheme(url) in _REDIS:
        return await _redis_movable(url, makes=True)
    if _scheme(url) == "postgresql":
        from keyfob.stores.postgres import make_postgres_movable, read_url

        return await make_postgres_movable(read_url(url))
    from keyfob.stores.sqlite import open_sqlite_movable

    path, options = _sqlite(url)
    return await open_sqlite_movable(path, options=options)


def place_of(url: str) -> str:
    """Return *url* without user, password and query: what a message and the other store may say."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def sqlite_path(url: str) -> Path | None:
    """Return the file of a `sqlite://` URL, for what lies beside it; None for another scheme.

    Raises:
        ConfigurationError: the URL is malformed.
    """
    return _sqlite(url)[0] if _scheme(url) == "sqlite" else None


def _scheme(url: str) -> str:
    """Return the scheme of a store that can be opened. The URL itself may hold a password: no message repeats it."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"memory", "sqlite", "postgresql"} | _REDIS:
        raise ConfigurationError(f"the store's URL has no known scheme: use {_POSSIBLE}")
    if scheme == "memory" and rest:
        raise ConfigurationError("a store in memory has no path: use memory://")
    return scheme


async def _open_redis(url: str, clock: Clock) -> Store:
    _need_redis()
    from keyfob.stores.redis import open_redis_store, read_url

    return await open_redis_store(read_url(url), clock=clock)


async def _redis_movable(url: str, *, makes: bool) -> Movable:
    _need_redis()
    from keyfob.stores import redis

    return await redis.open_movable(redis.read_url(url), makes=makes)


async def _migrate_redis(url: str) -> SchemaChange:
    """A store in Redis is made when it is opened: there is nothing to migrate from."""
    store = await _open_redis(url, SystemClock())
    await store.close()
    return SchemaChange(before=1, after=1)


def _need_redis() -> None:
    if find_spec("redis") is None or find_spec("hiredis") is None:
        raise ConfigurationError("a store in Redis needs a driver: pip install 'keyfob[redis]'")


def _require_movable(url: str) -> None:
    if _scheme(url) == "memory":
        raise ConfigurationError("a store in memory is gone with its process: it cannot be copied")
    if _scheme(url) == "postgresql":
        _need_postgres()


def _need_postgres() -> None:
    if find_spec("asyncpg") is None:
        raise ConfigurationError("a store in PostgreSQL needs a driver: pip install 'keyfob[postgres]'")


def _sqlite(url: str) -> tuple[Path, SqliteOptions]:
    from keyfob.stores.sqlite import SqliteOptions, Synchronous

    parts = urlsplit(url)
    name = unquote(parts.path.removeprefix("/"))
    if parts.netloc or parts.fragment or not name or name.startswith(":") or "\0" in name:
        raise ConfigurationError(
            "the store's URL names no file: use sqlite:///relative.db or sqlite:////absolute.db"
        )
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    synchronous = query.pop("synchronous", Synchronous.FULL.value)
    if query or synchronous not in set(Synchronous):
        raise ConfigurationError("the store's URL takes only ?synchronous=full or ?synchronous=normal")
    return Path(name).absolute(), SqliteOptions(synchronous=Synchronous(synchronous))
