"""The store in PostgreSQL: for many authorities over one primary."""

from __future__ import annotations

from datetime import timedelta

from keyfob.base.clock import Clock
from keyfob.base.errors import ConfigurationError
from keyfob.stores.condition import PostgresCondition
from keyfob.stores.postgres.accounts import PostgresAccountStore
from keyfob.stores.postgres.audit import PostgresAuditStore
from keyfob.stores.postgres.clients import PostgresClientStore
from keyfob.stores.postgres.consents import PostgresConsentStore
from keyfob.stores.postgres.database import Database
from keyfob.stores.postgres.feed import PostgresFeedStore
from keyfob.stores.postgres.grants import PostgresGrantStore
from keyfob.stores.postgres.inspecting import inspect
from keyfob.stores.postgres.keys import PostgresKeyStore
from keyfob.stores.postgres.moving import PostgresMovable
from keyfob.stores.postgres.options import PostgresOptions
from keyfob.stores.postgres.outbox import PostgresOutboxStore
from keyfob.stores.postgres.partitions import Partitions
from keyfob.stores.postgres.reports import PostgresReportStore
from keyfob.stores.postgres.schema import SCHEMA_VERSION, migrate, version_at
from keyfob.stores.postgres.sessions import PostgresSessionStore
from keyfob.stores.postgres.throttle import PostgresThrottleStore
from keyfob.stores.postgres.transfer import PostgresTransfer
from keyfob.stores.postgres.url import read_url
from keyfob.stores.store import Store

__all__ = [
    "SCHEMA_VERSION",
    "PostgresOptions",
    "inspect_postgres_store",
    "make_postgres_movable",
    "migrate_postgres_store",
    "open_postgres_movable",
    "open_postgres_store",
    "read_url",
]


async def migrate_postgres_store(options: PostgresOptions, *, patience: timedelta) -> int:
    """Bring the database to this version's schema, making it if there is none; return the version that it had (0: new).

    It waits for each lock for *patience*, and whoever comes after it waits for it.

    Raises:
        ConfigurationError: the database cannot be used; the message says why.
        StoreUnavailable: no primary answers.
    """
    return await migrate(options, patience=patience)


async def inspect_postgres_store(options: PostgresOptions, *, clock: Clock) -> PostgresCondition:
    """Look at the server and the database without opening the store; nothing is changed there."""
    return await inspect(options, clock=clock)


async def open_postgres_movable(options: PostgresOptions) -> PostgresMovable:
    """Open the database for a move, whatever its mark says. Its schema must be that of this version.

    Raises:
        ConfigurationError: the database cannot be used, holds no store, or asks for `keyfob migrate`.
        StoreUnavailable: no primary answers.
    """
    _require_current(options, await version_at(options))
    return PostgresMovable(options)


async def make_postgres_movable(options: PostgresOptions) -> PostgresMovable:
    """Do as `open_postgres_movable`, and make the schema where there is none.

    Raises:
        ConfigurationError: the database cannot be used, or asks for `keyfob migrate`.
        StoreUnavailable: no primary answers.
    """
    version = await version_at(options) or await _made(options)
    _require_current(options, version)
    return PostgresMovable(options)


async def open_postgres_store(options: PostgresOptions, *, clock: Clock) -> Store:
    """Open the database, whose schema must be that of this version.

    The store belongs to the event loop that opened it, and to its process; it may be used from other loops while that one runs.

    Raises:
        ConfigurationError: the database cannot be used, or asks for `keyfob migrate`.
        StoreUnavailable: no primary answers.
    """
    database = await Database.open(options)
    partitions = Partitions(database)
    transfer = PostgresTransfer(options)

    async def close() -> None:
        await transfer.close()
        await database.close()

    return Store(
        sessions=PostgresSessionStore(database, partitions, clock=clock),
        feed=PostgresFeedStore(database),
        keys=PostgresKeyStore(database),
        accounts=PostgresAccountStore(database),
        throttle=PostgresThrottleStore(database),
        clients=PostgresClientStore(database),
        audit=PostgresAuditStore(database),
        reports=PostgresReportStore(database),
        grants=PostgresGrantStore(database),
        consents=PostgresConsentStore(database),
        outbox=PostgresOutboxStore(database),
        salt=database.salt,
        close=close,
        transfer=transfer,
        prepare=lambda: partitions.make(clock.now()),
    )


async def _made(options: PostgresOptions) -> int:
    await migrate(options, patience=options.deadline)  # nobody else is there yet
    return SCHEMA_VERSION


def _require_current(options: PostgresOptions, version: int) -> None:
    """Refuse to move what this version does not know whole."""
    if not version:
        raise ConfigurationError(f"the database {options.name} holds no store of Keyfob")
    if version < SCHEMA_VERSION:
        raise ConfigurationError(
            f"the database {options.name} has schema {version}, this Keyfob needs {SCHEMA_VERSION}: run `keyfob migrate`"
        )
    if version > SCHEMA_VERSION:
        raise ConfigurationError(
            f"the database {options.name} has schema {version}, and a move needs the Keyfob of that version"
        )
