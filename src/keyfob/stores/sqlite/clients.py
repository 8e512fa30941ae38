"""Clients in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from functools import partial

from keyfob.base.clock import to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId
from keyfob.clients.change import Changed, ClientChange, changed
from keyfob.clients.client import Client
from keyfob.clients.store import UsedAssertion
from keyfob.revocation.entry import Entry
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.store import Ended
from keyfob.stores.revoking import check_client_revocation
from keyfob.stores.rows import CLIENT_COLUMNS, check_digests, client_from, client_to
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
        check_digests(client.secret_digests)
        return await self._database.write(partial(_add, client=client, event=event))

    async def find(self, client_id: ClientId) -> Client | None:
        """Return the client."""
        return self._database.read(_find, client_id)

    async def list(self) -> Sequence[Client]:
        """Return all clients, by id."""
        return self._database.read(_list)

    async def change(
        self, client_id: ClientId, change: ClientChange, *, order: Event | Revocation
    ) -> Changed | None:
        """Apply *change*, as the port says."""
        check_digests(() if change.new_secret is None else (change.new_secret,))
        if isinstance(order, Revocation):
            check_client_revocation(order, client_id)
        return await self._database.write(partial(_change, client_id=client_id, change=change, order=order))

    async def delete(self, client_id: ClientId, *, revocation: Revocation) -> Entry | None:
        """Delete the client and carry out *revocation*."""
        check_client_revocation(revocation, client_id)

        def operation(transaction: Transaction) -> Entry | None:
            gone = transaction.connection.execute("DELETE FROM clients WHERE client_id = ?", (client_id,))
            return _revoke(transaction, revocation) if gone.rowcount else None

        return await self._database.write(operation)

    async def take_assertion(self, assertion: UsedAssertion) -> bool:
        """Remember *assertion*; False if it is remembered already."""
        check_digests((assertion.digest,))

        def operation(transaction: Transaction) -> bool:
            taken = transaction.connection.execute(
                "INSERT OR IGNORE INTO assertions (digest, until) VALUES (?, ?)",
                (assertion.digest, to_micros(assertion.until)),
            )
            return taken.rowcount == 1

        return await self._database.write(operation)

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Forget up to *limit* assertions whose `until` is reached."""

        def operation(transaction: Transaction) -> int:
            return transaction.connection.execute(
                "DELETE FROM assertions WHERE digest IN (SELECT digest FROM assertions WHERE until <= ? LIMIT ?)",
                (to_micros(now), limit),
            ).rowcount

        return await self._database.write(operation)


def _add(transaction: Transaction, client: Client, event: Event) -> bool:
    row = client_to(client)
    added = transaction.connection.execute(
        f"INSERT OR IGNORE INTO clients ({CLIENT_COLUMNS}) VALUES ({', '.join('?' * len(row))})",  # noqa: S608 - constants
        row,
    )
    if added.rowcount:
        write_event(transaction.connection, event)
    return added.rowcount == 1


def _change(
    transaction: Transaction, client_id: ClientId, change: ClientChange, order: Event | Revocation
) -> Changed | None:
    present = _find(transaction.connection, client_id)
    if present is None:
        return None
    after = changed(present, change)
    row = client_to(after)
    transaction.connection.execute(
        f"INSERT OR REPLACE INTO clients ({CLIENT_COLUMNS}) VALUES ({', '.join('?' * len(row))})",  # noqa: S608 - constants
        row,
    )
    if isinstance(order, Revocation):
        return Changed(client=after, entry=_revoke(transaction, order))
    write_event(transaction.connection, order)
    return Changed(client=after)


def _revoke(transaction: Transaction, revocation: Revocation) -> Entry:
    outcome = end(transaction, revocation, revocation.event.at)
    assert isinstance(outcome, Ended)
    return outcome.entry


def _find(connection: sqlite3.Connection, client_id: ClientId) -> Client | None:
    row = connection.execute(f"{_SELECT} WHERE client_id = ?", (client_id,)).fetchone()
    return None if row is None else client_from(row)


def _list(connection: sqlite3.Connection) -> list[Client]:
    return [client_from(row) for row in connection.execute(f"{_SELECT} ORDER BY client_id")]
