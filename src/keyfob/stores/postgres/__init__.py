"""The store in PostgreSQL: for many authorities over one primary."""

from __future__ import annotations

from keyfob.base.clock import Clock
from keyfob.stores.condition import PostgresCondition
from keyfob.stores.postgres.accounts import PostgresAccountStore
from keyfob.stores.postgres.audit import PostgresAuditStore
from keyfob.stores.postgres.clients import PostgresClientStore
from keyfob.stores.postgres.database import Database
from keyfob.stores.postgres.feed import PostgresFeedStore
from keyfob.stores.postgres.inspecting import inspect
from keyfob.stores.postgres.keys import PostgresKeyStore
from keyfob.stores.postgres.options import PostgresOptions
from keyfob.stores.postgres.partitions import Partitions
from keyfob.stores.postgres.reports import PostgresReportStore
from keyfob.stores.postgres.schema import SCHEMA_VERSION, migrate
from keyfob.stores.postgres.sessions import PostgresSessionStore
from keyfob.stores.postgres.throttle import PostgresThrottleStore
from keyfob.stores.postgres.url import read_url
from keyfob.stores.store import Store

__all__ = [
    "SCHEMA_VERSION",
    "PostgresOptions",
    "inspect_postgres_store",
    "migrate_postgres_store",
    "open_postgres_store",
    "read_url",
]


async def migrate_postgres_store(options: PostgresOptions) -> int:
    """Bring the database to this version's schema, making it if there is none; return the version that it had (0: new).

    Raises:
        ConfigurationError: the database cannot be used; the message says why.
        StoreUnavailable: no primary answers.
    """
    return await migrate(options)


async def inspect_postgres_store(options: PostgresOptions, *, clock: Clock) -> PostgresCondition:
    """Look at the server and the database without opening the store; nothing is changed there."""
    return await inspect(options, clock=clock)


async def open_postgres_store(options: PostgresOptions, *, clock: Clock) -> Store:
    """Open the database, whose schema must be that of this version.

    The store belongs to the event loop that opened it, and to its process; it may be used from other loops while that one runs.

    Raises:
        ConfigurationError: the database cannot be used, or asks for `keyfob migrate`.
        StoreUnavailable: no primary answers.
    """
    database = await Database.open(options)
    partitions = Partitions(database)
    return Store(
        sessions=PostgresSessionStore(database, partitions, clock=clock),
        feed=PostgresFeedStore(database),
        keys=PostgresKeyStore(database),
        accounts=PostgresAccountStore(database),
        throttle=PostgresThrottleStore(database),
        clients=PostgresClientStore(database),
        audit=PostgresAuditStore(database),
        reports=PostgresReportStore(database),
        salt=database.salt,
        close=database.close,
        prepare=lambda: partitions.make(clock.now()),
    )
