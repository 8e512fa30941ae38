"""What clients need of a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId
from keyfob.clients.client import Client
from keyfob.revocation.entry import Entry
from keyfob.revocation.revocation import Revocation


class ClientStore(Protocol):
    """Keeps clients. Each method is one atomic step. Raises `StoreUnavailable`."""

    async def add(self, client: Client, event: Event) -> bool:
        """Add *client*; False if its id is taken."""
        ...

    async def find(self, client_id: ClientId) -> Client | None:
        """Return the client."""
        ...

    async def list(self) -> Sequence[Client]:
        """Return all clients, by id."""
        ...

    async def delete(self, client_id: ClientId, *, revocation: Revocation) -> Entry | None:
        """Delete the client and carry out *revocation* in the same step; None if there is no such client."""
        ...
