"""Clients in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from keyfob.base.clock import to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId
from keyfob.clients.change import Changed, ClientChange, changed
from keyfob.clients.client import Client
from keyfob.clients.store import UsedAssertion
from keyfob.revocation.entry import Entry
from keyfob.revocation.revocation import Revocation
from keyfob.stores.records import ClientRow, Kind, encode
from keyfob.stores.redis.packing import raw
from keyfob.stores.redis.places import ASSERTIONS, CLIENTS
from keyfob.stores.redis.server import Server
from keyfob.stores.redis.settling import Step, settle
from keyfob.stores.redis.tables import read_record
from keyfob.stores.revoking import check_client_revocation
from keyfob.stores.rows import check_digests
from keyfob.stores.texts import can_be_kept, require_texts


class RedisClientStore:
    """A `ClientStore` in Redis."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def add(self, client: Client, event: Event) -> bool:
        """Add *client*; False if its id is taken.

        Raises:
            ValueError: a digest that has not 32 bytes.
        """
        require_texts(client.client_id)
        check_digests(client.secret_digests)

        async def decide(step: Step) -> bool:
            if await self.find(client.client_id) is not None:
                return False
            step.expect(CLIENTS, client.client_id, None)
            step.put(CLIENTS, client.client_id, encode(ClientRow(client=client)))
            step.tell(event)
            return True

        return await settle(self._server, (CLIENTS,), decide) is not None

    async def find(self, client_id: ClientId) -> Client | None:
        """Return the client."""
        if not can_be_kept(client_id):
            return None
        found = await self._server.read(b"HGET", CLIENTS, client_id)
        return None if found is None else read_record(found, ClientRow).client

    async def list(self) -> Sequence[Client]:
        """Return all clients, by id."""
        flat = await self._server.read(b"HGETALL", CLIENTS)
        clients = [read_record(one, ClientRow).client for one in flat[1::2]]
        return sorted(clients, key=lambda client: client.client_id)

    async def change(
        self, client_id: ClientId, change: ClientChange, *, order: Event | Revocation
    ) -> Changed | None:
        """Apply *change*, as the port says."""
        check_digests(() if change.new_secret is None else (change.new_secret,))
        if isinstance(order, Revocation):
            check_client_revocation(order, client_id)
        after: Client | None = None

        async def decide(step: Step) -> bool:
            nonlocal after
            found = await self._server.read(b"HGET", CLIENTS, client_id)
            if found is None:
                return False
            after = changed(read_record(found, ClientRow).client, change)
            step.expect(CLIENTS, client_id, found)
            step.put(CLIENTS, client_id, encode(ClientRow(client=after)))
            if isinstance(order, Revocation):
                step.revoke(order, order.event.at)
            else:
                step.tell(order)
            return True

        done = await settle(self._server, (CLIENTS,), decide)
        return None if done is None or after is None else Changed(client=after, entry=done.entry)

    async def delete(self, client_id: ClientId, *, revocation: Revocation) -> Entry | None:
        """Delete the client and carry out *revocation*."""
        check_client_revocation(revocation, client_id)

        async def decide(step: Step) -> bool:
            found = await self._server.read(b"HGET", CLIENTS, client_id)
            if found is None:
                return False
            step.expect(CLIENTS, client_id, found)
            step.remove(CLIENTS, client_id)
            step.revoke(revocation, revocation.event.at)
            return True

        done = await settle(self._server, (CLIENTS,), decide)
        return None if done is None else done.entry

    async def take_assertion(self, assertion: UsedAssertion) -> bool:
        """Remember *assertion*; False if it is remembered already."""
        check_digests((assertion.digest,))
        arguments = ("NX", str(to_micros(assertion.until)), raw(assertion.digest))
        record = (Kind.ASSERTIONS, assertion.digest.hex())
        return bool(await self._server.change(ASSERTIONS, "ZADD", arguments, record=record))

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Forget up to *limit* assertions whose `until` is reached."""
        asked = {"now": to_micros(now), "limit": limit}
        return int(await self._server.step("drop_assertions", (ASSERTIONS,), asked))
