"""Clients in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial

from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId
from keyfob.clients.client import Client
from keyfob.revocation.entry import Entry
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.store import Ended
from keyfob.stores.revoking import check_client_revocation
from keyfob.stores.rows import CLIENT_COLUMNS, DIGEST_LENGTH, client_from, client_to
from keyfob.stores.sqlite.database import Database
from keyfob.stores.sqlite.events import write_event
from keyfob.stores.sqlite.revoking import end
from keyfob.stores.sqlite.writer import Transaction
from keyfob.stores.texts import require_texts

_SELECT = f"SELECT {CLIENT_COLUMNS} FROM clients"  # noqa: S608 - constants


class SqliteClientStore:
    """A `ClientStore` in a SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, client: Client, event: Event) -> bool:
        """Add *client*; False if its id is taken.

        Raises:
            ValueError: a digest that has not 32 bytes.
        """
        require_texts(client.client_id)
        if any(len(digest) != DIGEST_LENGTH for digest in client.secret_digests):
            raise ValueError(f"a digest has {DIGEST_LENGTH} bytes")
        return await self._database.write(partial(_add, client=client, event=event))

    async def find(self, client_id: ClientId) -> Client | None:
        """Return the client."""
        return self._database.read(_find, client_id)

    async def list(self) -> Sequence[Client]:
        """Return all clients, by id."""
        return self._database.read(_list)

    async def delete(self, client_id: ClientId, *, revocation: Revocation) -> Entry | None:
        """Delete the client and carry out *revocation*."""
        check_client_revocation(revocation, client_id)

        def operation(transaction: Transaction) -> Entry | None:
            gone = transaction.connection.execute("DELETE FROM clients WHERE client_id = ?", (client_id,))
            if not gone.rowcount:
                return None
            outcome = end(transaction, revocation, revocation.event.at)
            assert isinstance(outcome, Ended)
            return outcome.entry

        return await self._database.write(operation)


def _add(transaction: Transaction, client: Client, event: Event) -> bool:
    added = transaction.connection.execute(
        f"INSERT OR IGNORE INTO clients ({CLIENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
        client_to(client),
    )
    if added.rowcount:
        write_event(transaction.connection, event)
    return added.rowcount == 1


def _find(connection: sqlite3.Connection, client_id: ClientId) -> Client | None:
    row = connection.execute(f"{_SELECT} WHERE client_id = ?", (client_id,)).fetchone()
    return None if row is None else client_from(row)


def _list(connection: sqlite3.Connection) -> list[Client]:
    return [client_from(row) for row in connection.execute(f"{_SELECT} ORDER BY client_id")]
