"""What clients need of a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId
from keyfob.clients.change import Changed, ClientChange
from keyfob.clients.client import Client
from keyfob.revocation.entry import Entry
from keyfob.revocation.revocation import Revocation


@dataclass(frozen=True, slots=True)
class UsedAssertion:
    """An assertion that was taken: `digest` (32 bytes) names its client and its `jti`. From `until` on it need not be remembered."""

    digest: bytes
    until: datetime


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

    async def change(
        self, client_id: ClientId, change: ClientChange, *, order: Event | Revocation
    ) -> Changed | None:
        """Apply *change* to the client as it is at that moment, and write the event; None if there is no such client.

        With a `Revocation` as the *order* (of this client, reach `end`) it is carried out in the same step. Of changes at once none is lost.
        """
        ...

    async def delete(self, client_id: ClientId, *, revocation: Revocation) -> Entry | None:
        """Delete the client and carry out *revocation* in the same step; None if there is no such client."""
        ...

    async def take_assertion(self, assertion: UsedAssertion) -> bool:
        """Remember *assertion*, durably; False if it is remembered already. Of any number at once, in any process, one gets True."""
        ...

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Forget up to *limit* assertions whose `until` is reached at *now*; return how many."""
        ...
