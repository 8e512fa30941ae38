"""Clients in PostgreSQL."""

from __future__ import annotations

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
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.database import Database, Transaction
from keyfob.stores.postgres.deleting import delete_in_portions
from keyfob.stores.postgres.events import write_events
from keyfob.stores.postgres.revoking import end
from keyfob.stores.revoking import check_client_revocation
from keyfob.stores.rows import CLIENT_COLUMNS, check_digests, client_from, client_to
from keyfob.stores.texts import can_be_kept, require_texts

_SELECT = f"SELECT {CLIENT_COLUMNS} FROM keyfob.clients"  # noqa: S608 - constants
_COLUMNS = CLIENT_COLUMNS.split(", ")
_MARKS = ", ".join(f"${number}" for number in range(1, len(_COLUMNS) + 1))
_INSERT = (
    f"INSERT INTO keyfob.clients ({CLIENT_COLUMNS}) VALUES ({_MARKS}) ON CONFLICT DO NOTHING RETURNING 1"  # noqa: S608 - constants
)
_UPDATE = f"UPDATE keyfob.clients SET ({CLIENT_COLUMNS}) = ROW ({_MARKS}) WHERE client_id = $1"  # noqa: S608 - constants


class PostgresClientStore:
    """A `ClientStore` in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, client: Client, event: Event) -> bool:
        """Add *client*; False if its id is taken.

        Raises:
            ValueError: a digest that has not 32 bytes.
        """
        require_texts(client.client_id)
        check_digests(client.secret_digests)
        return await self._database.transact(partial(_add, client=client, event=event))

    async def find(self, client_id: ClientId) -> Client | None:
        """Return the client."""
        return await self._database.read(partial(_find, client_id=client_id))

    async def list(self) -> Sequence[Client]:
        """Return all clients, by id."""
        return await self._database.read(_list)

    async def change(
        self, client_id: ClientId, change: ClientChange, *, order: Event | Revocation
    ) -> Changed | None:
        """Apply *change*, as the port says."""
        check_digests(() if change.new_secret is None else (change.new_secret,))
        if isinstance(order, Revocation):
            check_client_revocation(order, client_id)
        return await self._database.transact(
            partial(_change, client_id=client_id, change=change, order=order)
        )

    async def delete(self, client_id: ClientId, *, revocation: Revocation) -> Entry | None:
        """Delete the client and carry out *revocation*."""
        check_client_revocation(revocation, client_id)

        async def operation(transaction: Transaction) -> Entry | None:
            gone = await transaction.connection.fetchval(
                "DELETE FROM keyfob.clients WHERE client_id = $1 RETURNING 1", client_id
            )
            return await _revoke(transaction, revocation) if gone else None

        return await self._database.transact(operation)

    async def take_assertion(self, assertion: UsedAssertion) -> bool:
        """Remember *assertion*; False if it is remembered already.

        Where the connection was lost in the middle and the step is tried again, it may be False although nobody else had it: refused, never
        taken twice.
        """
        check_digests((assertion.digest,))

        async def operation(transaction: Transaction) -> bool:
            taken = await transaction.connection.fetchval(
                "INSERT INTO keyfob.assertions (digest, until) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING 1",
                assertion.digest,
                to_micros(assertion.until),
            )
            return taken is not None

        return await self._database.transact(operation)

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Forget up to *limit* assertions whose `until` is reached, a few hundred in a transaction."""
        return await delete_in_portions(
            self._database, limit, lambda transaction, portion: _delete_expired(transaction, now, portion)
        )


async def _add(transaction: Transaction, client: Client, event: Event) -> bool:
    added = await transaction.connection.fetchval(_INSERT, *client_to(client))
    if added:
        await write_events(transaction.connection, [event])
    return added is not None


async def _change(
    transaction: Transaction, client_id: ClientId, change: ClientChange, order: Event | Revocation
) -> Changed | None:
    connection = transaction.connection
    if not can_be_kept(client_id):
        return None
    # The row is locked by the statement that reads it, and what it reads is what the last one left.
    row = await connection.fetchrow(f"{_SELECT} WHERE client_id = $1 FOR UPDATE", client_id)
    if row is None:
        return None
    after = changed(client_from(row), change)
    await connection.execute(_UPDATE, *client_to(after))
    if isinstance(order, Revocation):
        return Changed(client=after, entry=await _revoke(transaction, order))
    await write_events(connection, [order])
    return Changed(client=after)


async def _revoke(transaction: Transaction, revocation: Revocation) -> Entry:
    outcome = await end(transaction, revocation, revocation.event.at)
    assert isinstance(outcome, Ended)
    return outcome.entry


async def _find(connection: Connection, client_id: ClientId) -> Client | None:
    if not can_be_kept(client_id):
        return None
    row = await connection.fetchrow(f"{_SELECT} WHERE client_id = $1", client_id)
    return None if row is None else client_from(row)


async def _list(connection: Connection) -> list[Client]:
    return [client_from(row) for row in await connection.fetch(f"{_SELECT} ORDER BY client_id")]


async def _delete_expired(transaction: Transaction, now: datetime, limit: int) -> int:
    gone = await transaction.connection.fetch(
        "DELETE FROM keyfob.assertions WHERE digest IN"
        " (SELECT digest FROM keyfob.assertions WHERE until <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1",
        to_micros(now),
        limit,
    )
    return len(gone)
