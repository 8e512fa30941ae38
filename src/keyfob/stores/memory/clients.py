"""Clients in memory."""

from __future__ import annotations

from collections.abc import Sequence

from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId
from keyfob.clients.client import Client
from keyfob.revocation.entry import Entry
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.store import Ended
from keyfob.stores.memory.revoking import end
from keyfob.stores.memory.state import State
from keyfob.stores.revoking import check_client_revocation
from keyfob.stores.texts import require_texts


class MemoryClientStore:
    """A `ClientStore` in memory."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def add(self, client: Client, event: Event) -> bool:
        """Add *client*; False if its id is taken."""
        require_texts(client.client_id)
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

    async def delete(self, client_id: ClientId, *, revocation: Revocation) -> Entry | None:
        """Delete the client and carry out *revocation*."""
        check_client_revocation(revocation, client_id)
        with self._state.step():
            if self._state.clients.pop(client_id, None) is None:
                return None
            outcome = end(self._state, revocation, revocation.event.at)
            assert isinstance(outcome, Ended)
            return outcome.entry
