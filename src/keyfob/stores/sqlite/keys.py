"""Keys in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from functools import partial

from keyfob.base.clock import from_micros, to_micros
from keyfob.base.identifiers import KeyId
from keyfob.keys.store import KeyPurpose, Resealed, StoredKey
from keyfob.stores.rows import moment, moment_micros
from keyfob.stores.sqlite.database import Database
from keyfob.stores.sqlite.writer import Transaction


class SqliteKeyStore:
    """A `KeyStore` in a SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: StoredKey, *, after: KeyId | None, beside: bytes | None = None) -> bool:
        """Add *key* if the newest of its purpose is *after*, sealed as *beside*. An id in use is never added again."""
        return await self._database.write(partial(_add, key=key, after=after, beside=beside))

    async def all(self) -> Sequence[StoredKey]:
        """Return every key, oldest (by `created_at`) first."""
        return self._database.read(_all)

    async def set_revoked(self, key_id: KeyId, at: datetime) -> bool:
        """Mark a key compromised; False if it is unknown, or was marked before."""
        return await self._database.write(partial(_set_revoked, key_id=key_id, at=at))

    async def reseal(self, keys: Sequence[Resealed]) -> bool:
        """Put new sealed secrets in place if *keys* are all that there are, each sealed as it says."""
        return await self._database.write(partial(_reseal, keys=keys))

    async def delete(self, key_id: KeyId) -> bool:
        """Delete a key; say whether it was there."""
        return await self._database.write(partial(_delete, key_id=key_id))


def _add(transaction: Transaction, key: StoredKey, after: KeyId | None, beside: bytes | None) -> bool:
    connection = transaction.connection
    newest = connection.execute(
        "SELECT key_id, sealed FROM keys WHERE purpose = ? ORDER BY activates_at DESC, number DESC LIMIT 1",
        (key.purpose.value,),
    ).fetchone()
    newest_id, sealed = newest if newest is not None else (None, None)
    if newest_id != after or (beside is not None and sealed != beside):
        return False
    added = connection.execute(
        "INSERT OR IGNORE INTO keys (key_id, purpose, algorithm, sealed, created_at, activates_at, revoked_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            key.key_id,
            key.purpose.value,
            key.algorithm,
            key.sealed,
            to_micros(key.created_at),
            to_micros(key.activates_at),
            moment_micros(key.revoked_at),
        ),
    )
    return added.rowcount == 1


def _all(connection: sqlite3.Connection) -> list[StoredKey]:
    rows = connection.execute(
        "SELECT purpose, key_id, algorithm, sealed, created_at, activates_at, revoked_at FROM keys"
        " ORDER BY created_at, number"
    )
    return [
        StoredKey(
            purpose=KeyPurpose(purpose),
            key_id=KeyId(key_id),
            algorithm=algorithm,
            sealed=sealed,
            created_at=from_micros(created_at),
            activates_at=from_micros(activates_at),
            revoked_at=moment(revoked_at),
        )
        for purpose, key_id, algorithm, sealed, created_at, activates_at, revoked_at in rows
    ]


def _set_revoked(transaction: Transaction, key_id: KeyId, at: datetime) -> bool:
    changed = transaction.connection.execute(
        "UPDATE keys SET revoked_at = ? WHERE key_id = ? AND revoked_at IS NULL", (to_micros(at), key_id)
    )
    return changed.rowcount == 1


def _reseal(transaction: Transaction, keys: Sequence[Resealed]) -> bool:
    connection = transaction.connection
    held = dict(connection.execute("SELECT key_id, sealed FROM keys").fetchall())
    if held != {key.key_id: key.replaces for key in keys}:
        return False
    connection.executemany(
        "UPDATE keys SET sealed = ? WHERE key_id = ?", [(key.sealed, key.key_id) for key in keys]
    )
    return True


def _delete(transaction: Transaction, key_id: KeyId) -> bool:
    return transaction.connection.execute("DELETE FROM keys WHERE key_id = ?", (key_id,)).rowcount == 1
