"""Keys in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from keyfob.base.clock import from_micros, to_micros
from keyfob.base.identifiers import KeyId
from keyfob.keys.store import KeyPurpose, Resealed, StoredKey
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.database import Database, Transaction
from keyfob.stores.postgres.locks import LockClass, lock_names
from keyfob.stores.rows import moment, moment_micros


class PostgresKeyStore:
    """A `KeyStore` in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: StoredKey, *, after: KeyId | None, beside: bytes | None = None) -> bool:
        """Add *key* if the newest of its purpose is *after*, sealed as *beside*. An id in use is never added again."""
        return await self._database.transact(partial(_add, key=key, after=after, beside=beside))

    async def all(self) -> Sequence[StoredKey]:
        """Return every key, oldest (by `created_at`) first."""
        return await self._database.read(_all)

    async def set_revoked(self, key_id: KeyId, at: datetime) -> bool:
        """Mark a key compromised; False if it is unknown, or was marked before."""
        return await self._database.transact(partial(_set_revoked, key_id=key_id, at=at))

    async def reseal(self, keys: Sequence[Resealed]) -> bool:
        """Put new sealed secrets in place if *keys* are all that there are, each sealed as it says."""
        return await self._database.transact(partial(_reseal, keys=keys))

    async def delete(self, key_id: KeyId) -> bool:
        """Delete a key; say whether it was there."""
        return await self._database.transact(partial(_delete, key_id=key_id))


async def _alone(connection: Connection) -> None:
    """Keep everybody else from changing which keys there are, until the transaction ends."""
    await lock_names(connection, LockClass.KEYS, [""])


async def _add(transaction: Transaction, key: StoredKey, after: KeyId | None, beside: bytes | None) -> bool:
    connection = transaction.connection
    await _alone(connection)
    newest = await connection.fetchrow(
        "SELECT key_id, sealed FROM keyfob.keys WHERE purpose = $1 ORDER BY activates_at DESC, number DESC LIMIT 1",
        key.purpose.value,
    )
    newest_id, sealed = newest if newest is not None else (None, None)
    if newest_id != after or (beside is not None and sealed != beside):
        return False
    added = await connection.fetchval(
        "INSERT INTO keyfob.keys (key_id, purpose, algorithm, sealed, created_at, activates_at, revoked_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (key_id) DO NOTHING RETURNING 1",
        key.key_id,
        key.purpose.value,
        key.algorithm,
        key.sealed,
        to_micros(key.created_at),
        to_micros(key.activates_at),
        moment_micros(key.revoked_at),
    )
    return added is not None


async def _all(connection: Connection) -> list[StoredKey]:
    rows = await connection.fetch(
        "SELECT purpose, key_id, algorithm, sealed, created_at, activates_at, revoked_at FROM keyfob.keys"
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


async def _set_revoked(transaction: Transaction, key_id: KeyId, at: datetime) -> bool:
    changed = await transaction.connection.fetchval(
        "UPDATE keyfob.keys SET revoked_at = $1 WHERE key_id = $2 AND revoked_at IS NULL RETURNING 1",
        to_micros(at),
        key_id,
    )
    return changed is not None


async def _reseal(transaction: Transaction, keys: Sequence[Resealed]) -> bool:
    connection = transaction.connection
    await _alone(connection)
    held = {row[0]: row[1] for row in await connection.fetch("SELECT key_id, sealed FROM keyfob.keys")}
    if held != {key.key_id: key.replaces for key in keys}:
        return False
    await connection.execute(
        "UPDATE keyfob.keys AS k SET sealed = w.sealed FROM unnest($1::text[], $2::bytea[]) AS w (key_id, sealed)"
        " WHERE k.key_id = w.key_id",
        [key.key_id for key in keys],
        [key.sealed for key in keys],
    )
    return True


async def _delete(transaction: Transaction, key_id: KeyId) -> bool:
    await _alone(transaction.connection)
    gone = await transaction.connection.fetchval(
        "DELETE FROM keyfob.keys WHERE key_id = $1 RETURNING 1", key_id
    )
    return gone is not None
