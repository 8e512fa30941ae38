"""Clients in Redis."""

from __future__ import annotations

from collections.abc import Sequence

from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId
from keyfob.clients.client import Client
from keyfob.revocation.entry import Entry
from keyfob.revocation.revocation import Revocation
from keyfob.stores.records import ClientRow, encode
from keyfob.stores.redis.places import CLIENTS, can_be_kept
from keyfob.stores.redis.server import Server
from keyfob.stores.redis.settling import Step, settle
from keyfob.stores.redis.tables import read_record
from keyfob.stores.revoking import check_client_revocation


class RedisClientStore:
    """A `ClientStore` in Redis."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def add(self, client: Client, event: Event) -> bool:
        """Add *client*; False if its id is taken."""

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
        raw = await self._server.read(b"HGET", CLIENTS, client_id)
        return None if raw is None else read_record(raw, ClientRow).client

    async def list(self) -> Sequence[Client]:
        """Return all clients, by id."""
        flat = await self._server.read(b"HGETALL", CLIENTS)
        clients = [read_record(raw, ClientRow).client for raw in flat[1::2]]
        return sorted(clients, key=lambda client: client.client_id)

    async def delete(self, client_id: ClientId, *, revocation: Revocation) -> Entry | None:
        """Delete the client and carry out *revocation*."""
        check_client_revocation(revocation, client_id)

        async def decide(step: Step) -> bool:
            raw = await self._server.read(b"HGET", CLIENTS, client_id)
            if raw is None:
                return False
            step.expect(CLIENTS, client_id, raw)
            step.remove(CLIENTS, client_id)
            step.revoke(revocation, revocation.event.at)
            return True

        done = await settle(self._server, (CLIENTS,), decide)
        return None if done is None else done.entry
