"""The mark of a PostgreSQL store that is moved, and how it is closed to everybody but the copier.

A closed store, one that has moved or is being filled, has no table `keyfob.meta`: it is called `keyfob.meta_closed`. What reads a session or
the feed reads that table, so no process, of whichever version, can go on with a store that is closed, and none has to look for it.
"""

from __future__ import annotations

from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.stores.moving import Mark, Role, refusal
from keyfob.stores.postgres.connecting import Connection

META = "keyfob.meta"
CLOSED_META = "keyfob.meta_closed"


async def read_mark(connection: Connection) -> Mark | None:
    """Return the mark of the store."""
    row = await connection.fetchrow("SELECT role, copy_id, place, progress FROM keyfob.move")
    return None if row is None else Mark(role=Role(row[0]), copy_id=row[1], place=row[2], progress=row[3])


async def is_closed(connection: Connection) -> bool:
    """Say whether the store is closed to everybody but the copier."""
    closed: bool = await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", CLOSED_META)
    return closed


async def meta_of(connection: Connection) -> str:
    """Return the name of the table `meta`."""
    return CLOSED_META if await is_closed(connection) else META


async def why_closed(connection: Connection, name: str) -> StoreUnavailable | None:
    """Return why nobody may use the database, which messages call *name*; None where it is not closed."""
    return refusal(await read_mark(connection), name) if await is_closed(connection) else None


async def require_unmarked(connection: Connection, name: str) -> None:
    """Refuse to change the tables of a store that is being copied: what is new in them would not be noted.

    Raises:
        ConfigurationError: it is being copied.
    """
    has_marks = await connection.fetchval("SELECT to_regclass('keyfob.move') IS NOT NULL")
    mark = await read_mark(connection) if has_marks else None
    if mark is not None:
        raise ConfigurationError(
            f"the database {name} is being copied to {mark.place}; finish that, or abandon it, then migrate"
        )


async def require_open(connection: Connection, name: str) -> None:
    """Refuse a store that is closed.

    Raises:
        ConfigurationError: it has moved, or is being filled.
    """
    fault = await why_closed(connection, name)
    if fault is not None:
        raise ConfigurationError(str(fault))
