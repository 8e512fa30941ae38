"""Clients in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId
from keyfob.clients.client import Client
from keyfob.revocation.entry import Entry
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.store import Ended
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.database import Database, Transaction
from keyfob.stores.postgres.events import write_events
from keyfob.stores.postgres.revoking import end
from keyfob.stores.revoking import check_client_revocation
from keyfob.stores.rows import CLIENT_COLUMNS, DIGEST_LENGTH, client_from, client_to
from keyfob.stores.texts import can_be_kept, require_texts

_SELECT = f"SELECT {CLIENT_COLUMNS} FROM keyfob.clients"  # noqa: S608 - constants


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
        if any(len(digest) != DIGEST_LENGTH for digest in client.secret_digests):
            raise ValueError(f"a digest has {DIGEST_LENGTH} bytes")
        return await self._database.transact(partial(_add, client=client, event=event))

    async def find(self, client_id: ClientId) -> Client | None:
        """Return the client."""
        return await self._database.read(partial(_find, client_id=client_id))

    async def list(self) -> Sequence[Client]:
        """Return all clients, by id."""
        return await self._database.read(_list)

    async def delete(self, client_id: ClientId, *, revocation: Revocation) -> Entry | None:
        """Delete the client and carry out *revocation*."""
        check_client_revocation(revocation, client_id)

        async def operation(transaction: Transaction) -> Entry | None:
            gone = await transaction.connection.fetchval(
                "DELETE FROM keyfob.clients WHERE client_id = $1 RETURNING 1", client_id
            )
            if not gone:
                return None
            outcome = await end(transaction, revocation, revocation.event.at)
            assert isinstance(outcome, Ended)
            return outcome.entry

        return await self._database.transact(operation)


async def _add(transaction: Transaction, client: Client, event: Event) -> bool:
    added = await transaction.connection.fetchval(
        f"INSERT INTO keyfob.clients ({CLIENT_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"  # noqa: S608 - constants
        " ON CONFLICT DO NOTHING RETURNING 1",
        *client_to(client),
    )
    if added:
        await write_events(transaction.connection, [event])
    return added is not None


async def _find(connection: Connection, client_id: ClientId) -> Client | None:
    if not can_be_kept(client_id):
        return None
    row = await connection.fetchrow(f"{_SELECT} WHERE client_id = $1", client_id)
    return None if row is None else client_from(cast("Any", tuple(row)))


async def _list(connection: Connection) -> list[Client]:
    return [
        client_from(cast("Any", tuple(row)))
        for row in await connection.fetch(f"{_SELECT} ORDER BY client_id")
    ]
