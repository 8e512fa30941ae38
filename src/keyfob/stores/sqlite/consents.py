"""Consents in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from keyfob.base.clock import from_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, Subject
from keyfob.grants.consent import Consent
from keyfob.grants.rules import given
from keyfob.stores.grant_rows import CONSENT_COLUMNS, consent_from, consent_to
from keyfob.stores.sqlite.database import Database
from keyfob.stores.sqlite.events import write_event
from keyfob.stores.sqlite.writer import Transaction
from keyfob.stores.texts import can_be_kept, require_texts

_COLUMNS = CONSENT_COLUMNS.split(", ")
_SELECT = (
    f"SELECT {', '.join(f's.{column}' for column in _COLUMNS)} FROM consents AS s"  # noqa: S608 - constants
    " JOIN clients AS c ON c.client_id = s.client_id AND c.created_at = s.client_created_at WHERE s.subject = ?"
)
_REPLACE = f"INSERT OR REPLACE INTO consents ({CONSENT_COLUMNS}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - constants


class SqliteConsentStore:
    """A `ConsentStore` in a SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def give(
        self, subject: Subject, client_id: ClientId, scopes: frozenset[str], *, event: Event
    ) -> Consent | None:
        """Add *scopes* to what *subject* allows."""
        require_texts(subject, client_id, *scopes)

        def operation(transaction: Transaction) -> Consent | None:
            connection = transaction.connection
            client = connection.execute(
                "SELECT created_at FROM clients WHERE client_id = ?", (client_id,)
            ).fetchone()
            if client is None:
                return None
            present = _find(connection, subject, client_id)
            made_at = from_micros(client[0])
            consent = given(present, subject, client_id, made_at=made_at, scopes=scopes, now=event.at)
            connection.execute(_REPLACE, consent_to(consent))
            write_event(connection, event)
            return consent

        return await self._database.write(operation)

    async def find(self, subject: Subject, client_id: ClientId) -> Consent | None:
        """Return what *subject* allows *client_id*."""
        if not (can_be_kept(subject) and can_be_kept(client_id)):
            return None
        return self._database.read(_find, subject, client_id)

    async def withdraw(self, subject: Subject, client_id: ClientId, *, event: Event) -> Consent | None:
        """Take the consent back."""
        if not (can_be_kept(subject) and can_be_kept(client_id)):
            return None

        def operation(transaction: Transaction) -> Consent | None:
            connection = transaction.connection
            consent = _find(connection, subject, client_id)
            if consent is None:
                return None
            connection.execute(
                "DELETE FROM consents WHERE subject = ? AND client_id = ?", (subject, client_id)
            )
            write_event(connection, event)
            return consent

        return await self._database.write(operation)

    async def list(self, subject: Subject) -> Sequence[Consent]:
        """Return all consents of *subject*, by client id."""
        return self._database.read(_list, subject) if can_be_kept(subject) else []

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* consents to clients that are no more."""

        def operation(transaction: Transaction) -> int:
            connection, gone = transaction.connection, 0
            for client_id, made_at in _gone_clients(connection):
                gone += connection.execute(
                    "DELETE FROM consents WHERE (subject, client_id) IN (SELECT subject, client_id FROM consents"
                    " WHERE client_id = ? AND client_created_at = ? LIMIT ?)",
                    (client_id, made_at, limit - gone),
                ).rowcount
                if gone >= limit:
                    break
            return gone

        return await self._database.write(operation)


def _find(connection: sqlite3.Connection, subject: Subject, client_id: ClientId) -> Consent | None:
    row = connection.execute(f"{_SELECT} AND s.client_id = ?", (subject, client_id)).fetchone()
    return None if row is None else consent_from(row)


def _list(connection: sqlite3.Connection, subject: Subject) -> list[Consent]:
    return [consent_from(row) for row in connection.execute(f"{_SELECT} ORDER BY s.client_id", (subject,))]


def _gone_clients(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    """Return the clients to which consents were given and which are no more, by steps through the index: one for each client, not for each consent."""
    gone: list[tuple[str, int]] = []
    place: tuple[str, int] | None = ("", 0)
    while place is not None:
        place = connection.execute(
            "SELECT client_id, client_created_at FROM consents WHERE (client_id, client_created_at) > (?, ?)"
            " ORDER BY client_id, client_created_at LIMIT 1",
            place,
        ).fetchone()
        if place is None:
            break
        known = connection.execute(
            "SELECT 1 FROM clients WHERE client_id = ? AND created_at = ?", place
        ).fetchone()
        if known is None:
            gone.append(place)
    return gone
