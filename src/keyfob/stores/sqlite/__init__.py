"""The store in a SQLite file: the embedded default, for one machine and several processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from keyfob.base.clock import Clock
from keyfob.stores.sqlite.accounts import SqliteAccountStore
from keyfob.stores.sqlite.audit import SqliteAuditStore
from keyfob.stores.sqlite.clients import SqliteClientStore
from keyfob.stores.sqlite.consents import SqliteConsentStore
from keyfob.stores.sqlite.database import Database
from keyfob.stores.sqlite.feed import SqliteFeedStore
from keyfob.stores.sqlite.grants import SqliteGrantStore
from keyfob.stores.sqlite.keys import SqliteKeyStore
from keyfob.stores.sqlite.moving import SqliteMovable
from keyfob.stores.sqlite.options import SqliteOptions, Synchronous
from keyfob.stores.sqlite.outbox import SqliteOutboxStore
from keyfob.stores.sqlite.reports import SqliteReportStore
from keyfob.stores.sqlite.schema import SCHEMA_VERSION, migrate
from keyfob.stores.sqlite.sessions import SqliteSessionStore
from keyfob.stores.sqlite.throttle import SqliteThrottleStore
from keyfob.stores.sqlite.transfer import SqliteTransfer
from keyfob.stores.store import Store

__all__ = [
    "SCHEMA_VERSION",
    "SqliteOptions",
    "Synchronous",
    "migrate_sqlite_store",
    "open_sqlite_movable",
    "open_sqlite_store",
]


async def migrate_sqlite_store(path: Path, *, options: SqliteOptions | None = None) -> int:
    """Bring the file at *path* to this version's schema, making it if there is none; return the version that it had (0: new).

    Raises:
        ConfigurationError: there is no such folder, the file is no Keyfob database, or one of a newer Keyfob.
        StoreUnavailable: the file is locked, full, read-only or damaged.
    """
    return await asyncio.to_thread(migrate, path, options or SqliteOptions())


async def open_sqlite_movable(path: Path, *, options: SqliteOptions | None = None) -> SqliteMovable:
    """Open the file at *path* for a move, whatever its mark says, making or migrating it first.

    Raises:
        ConfigurationError: there is no such folder, the file is no Keyfob database, or one of a newer Keyfob.
        StoreUnavailable: the file is locked, full, read-only or damaged.
    """
    chosen = options or SqliteOptions()
    await asyncio.to_thread(migrate, path, chosen)
    return SqliteMovable(path, chosen)


async def open_sqlite_store(path: Path, *, clock: Clock, options: SqliteOptions | None = None) -> Store:
    """Open the file at *path*, making or migrating it first.

    The store may be used from any thread and event loop of this process, and the file by any number of processes of this machine, each
    with a store of its own that was opened after any fork.

    Raises:
        ConfigurationError: there is no such folder, the file is no Keyfob database, or one of a newer Keyfob.
        StoreUnavailable: the file is locked, full, read-only or damaged.
    """
    chosen = options or SqliteOptions()
    database = await asyncio.to_thread(_open, path, chosen)

    transfer = SqliteTransfer(path, chosen)

    async def close() -> None:
        await transfer.close()
        await asyncio.to_thread(database.close)

    return Store(
        sessions=SqliteSessionStore(database, clock),
        feed=SqliteFeedStore(database),
        keys=SqliteKeyStore(database),
        accounts=SqliteAccountStore(database),
        throttle=SqliteThrottleStore(database),
        clients=SqliteClientStore(database),
        audit=SqliteAuditStore(database),
        reports=SqliteReportStore(database),
        grants=SqliteGrantStore(database),
        consents=SqliteConsentStore(database),
        outbox=SqliteOutboxStore(database),
        salt=database.salt,
        reads_at_once=True,
        close=close,
        transfer=transfer,
    )


def _open(path: Path, options: SqliteOptions) -> Database:
    migrate(path, options)
    return Database(path, options)
