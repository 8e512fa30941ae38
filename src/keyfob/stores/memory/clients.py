"""Clients in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId
from keyfob.clients.change import Changed, ClientChange, changed
from keyfob.clients.client import Client
from keyfob.clients.store import UsedAssertion
from keyfob.revocation.entry import Entry
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.store import Ended
from keyfob.stores.memory.revoking import end
from keyfob.stores.memory.state import State
from keyfob.stores.revoking import check_client_revocation
from keyfob.stores.rows import check_digests
from keyfob.stores.texts import require_texts


class MemoryClientStore:
    """A `ClientStore` in memory."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def add(self, client: Client, event: Event) -> bool:
        """Add *client*; False if its id is taken.

        Raises:
            ValueError: a digest that has not 32 bytes.
        """
        require_texts(client.client_id)
        check_digests(client.secret_digests)
        with self._state.step():
            if client.client_id in self._state.clients:
                return False
            self._state.clients[client.client_id] = client
            self._state.write_event(event)
            return True

    async def find(self, client_id: ClientId) -> Client | None:
        """Return the client."""
        with self._state.step():
            return self._state.clients.get(client_id)

    async def list(self) -> Sequence[Client]:
        """Return all clients, by id."""
        with self._state.step():
            return sorted(self._state.clients.values(), key=lambda client: client.client_id)

    async def change(
        self, client_id: ClientId, change: ClientChange, *, order: Event | Revocation
    ) -> Changed | None:
        """Apply *change*, as the port says."""
        check_digests(() if change.new_secret is None else (change.new_secret,))
        if isinstance(order, Revocation):
            check_client_revocation(order, client_id)
        with self._state.step():
            present = self._state.clients.get(client_id)
            if present is None:
                return None
            after = self._state.clients[client_id] = changed(present, change)
            if isinstance(order, Revocation):
                return Changed(client=after, entry=self._revoke(order))
            self._state.write_event(order)
            return Changed(client=after)

    async def delete(self, client_id: ClientId, *, revocation: Revocation) -> Entry | None:
        """Delete the client and carry out *revocation*."""
        check_client_revocation(revocation, client_id)
        with self._state.step():
            if self._state.clients.pop(client_id, None) is None:
                return None
            return self._revoke(revocation)

    async def take_assertion(self, assertion: UsedAssertion) -> bool:
        """Remember *assertion*; False if it is remembered already."""
        check_digests((assertion.digest,))
        with self._state.step():
            if assertion.digest in self._state.assertions:
                return False
            self._state.assertions[assertion.digest] = assertion.until
            return True

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Forget up to *limit* assertions whose `until` is reached."""
        with self._state.step():
            known = self._state.assertions
            over = [digest for digest, until in known.items() if until <= now][:limit]
            for digest in over:
                del known[digest]
            return len(over)

    def _revoke(self, revocation: Revocation) -> Entry:
        outcome = end(self._state, revocation, revocation.event.at)
        assert isinstance(outcome, Ended)
        return outcome.entry
