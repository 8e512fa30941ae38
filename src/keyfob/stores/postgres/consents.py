"""Consents in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from keyfob.base.clock import from_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, Subject
from keyfob.grants.consent import Consent
from keyfob.grants.rules import given
from keyfob.stores.grant_rows import CONSENT_COLUMNS, consent_from, consent_to
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.database import Database, Transaction
from keyfob.stores.postgres.deleting import delete_in_portions
from keyfob.stores.postgres.events import write_events
from keyfob.stores.postgres.locks import LockClass, lock_names
from keyfob.stores.texts import can_be_kept, require_texts

_COLUMNS = CONSENT_COLUMNS.split(", ")
_MARKS = ", ".join(f"${number}" for number in range(1, len(_COLUMNS) + 1))
_SELECT = (
    f"SELECT {', '.join(f's.{column}' for column in _COLUMNS)} FROM keyfob.consents AS s"  # noqa: S608 - constants
    " JOIN keyfob.clients AS c ON c.client_id = s.client_id AND c.created_at = s.client_created_at"
    " WHERE s.subject = $1"
)
_PUT = (
    f"INSERT INTO keyfob.consents ({CONSENT_COLUMNS}) VALUES ({_MARKS})"  # noqa: S608 - constants
    f" ON CONFLICT (subject, client_id) DO UPDATE SET ({CONSENT_COLUMNS}) = ROW ({_MARKS})"
)
_GONE_CLIENTS = """
    WITH RECURSIVE given (client_id, made) AS (
        (SELECT client_id, client_created_at FROM keyfob.consents ORDER BY client_id, client_created_at LIMIT 1)
        UNION ALL
        SELECT following.* FROM given CROSS JOIN LATERAL (
            SELECT s.client_id, s.client_created_at FROM keyfob.consents AS s
            WHERE (s.client_id, s.client_created_at) > (given.client_id, given.made)
            ORDER BY s.client_id, s.client_created_at LIMIT 1
        ) AS following
    )
    SELECT client_id, made FROM given
    WHERE NOT EXISTS (SELECT 1 FROM keyfob.clients AS c WHERE c.client_id = given.client_id AND c.created_at = made)
"""


class PostgresConsentStore:
    """A `ConsentStore` in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def give(
        self, subject: Subject, client_id: ClientId, scopes: frozenset[str], *, event: Event
    ) -> Consent | None:
        """Add *scopes* to what *subject* allows."""
        require_texts(subject, client_id, *scopes)

        async def operation(transaction: Transaction) -> Consent | None:
            connection = transaction.connection
            await lock_names(connection, LockClass.SUBJECT, [subject])
            # Whoever deletes the client waits for this step, or this one finds it gone.
            made_at = await connection.fetchval(
                "SELECT created_at FROM keyfob.clients WHERE client_id = $1 FOR KEY SHARE", client_id
            )
            if made_at is None:
                return None
            present = await _find(connection, subject, client_id)
            consent = given(
                present, subject, client_id, made_at=from_micros(made_at), scopes=scopes, now=event.at
            )
            await connection.execute(_PUT, *consent_to(consent))
            await write_events(connection, [event])
            return consent

        return await self._database.transact(operation)

    async def find(self, subject: Subject, client_id: ClientId) -> Consent | None:
        """Return what *subject* allows *client_id*."""
        if not (can_be_kept(subject) and can_be_kept(client_id)):
            return None
        return await self._database.read(lambda connection: _find(connection, subject, client_id))

    async def withdraw(self, subject: Subject, client_id: ClientId, *, event: Event) -> Consent | None:
        """Take the consent back."""
        if not (can_be_kept(subject) and can_be_kept(client_id)):
            return None

        async def operation(transaction: Transaction) -> Consent | None:
            connection = transaction.connection
            await lock_names(connection, LockClass.SUBJECT, [subject])
            consent = await _find(connection, subject, client_id)
            if consent is None:
                return None
            await connection.execute(
                "DELETE FROM keyfob.consents WHERE subject = $1 AND client_id = $2", subject, client_id
            )
            await write_events(connection, [event])
            return consent

        return await self._database.transact(operation)

    async def list(self, subject: Subject) -> Sequence[Consent]:
        """Return all consents of *subject*, by client id."""
        if not can_be_kept(subject):
            return []
        return await self._database.read(lambda connection: _list(connection, subject))

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* consents to clients that are no more, a few hundred in a transaction."""
        return await delete_in_portions(self._database, limit, _delete_gone)


async def _find(connection: Connection, subject: Subject, client_id: ClientId) -> Consent | None:
    row = await connection.fetchrow(f"{_SELECT} AND s.client_id = $2", subject, client_id)
    return None if row is None else consent_from(tuple(row))


async def _list(connection: Connection, subject: Subject) -> list[Consent]:
    rows = await connection.fetch(f"{_SELECT} ORDER BY s.client_id", subject)
    return [consent_from(tuple(row)) for row in rows]


async def _delete_gone(transaction: Transaction, limit: int) -> int:
    connection, gone = transaction.connection, 0
    for client_id, made_at in await connection.fetch(_GONE_CLIENTS):
        rows = await connection.fetch(
            "DELETE FROM keyfob.consents AS s USING (SELECT subject, client_id FROM keyfob.consents"
            " WHERE client_id = $1 AND client_created_at = $2 LIMIT $3 FOR UPDATE SKIP LOCKED) AS over"
            " WHERE s.subject = over.subject AND s.client_id = over.client_id AND s.client_created_at = $2 RETURNING 1",
            client_id,
            made_at,
            limit - gone,
        )
        gone += len(rows)
        if gone >= limit:
            break
    return gone
