"""Consents in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, Subject
from keyfob.grants.consent import Consent
from keyfob.grants.rules import given
from keyfob.stores.memory.state import State
from keyfob.stores.texts import require_texts


class MemoryConsentStore:
    """A `ConsentStore` in memory."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def give(
        self, subject: Subject, client_id: ClientId, scopes: frozenset[str], *, event: Event
    ) -> Consent | None:
        """Add *scopes* to what *subject* allows."""
        require_texts(subject, client_id, *scopes)
        with self._state.step():
            client = self._state.clients.get(client_id)
            if client is None:
                return None
            present = self._state.consents.get((subject, client_id))
            consent = given(
                present, subject, client_id, made_at=client.created_at, scopes=scopes, now=event.at
            )
            self._state.consents[subject, client_id] = consent
            self._state.write_event(event)
            return consent

    async def find(self, subject: Subject, client_id: ClientId) -> Consent | None:
        """Return what *subject* allows *client_id*."""
        with self._state.step():
            consent = self._state.consents.get((subject, client_id))
            return consent if consent is not None and self._stands(consent) else None

    async def withdraw(self, subject: Subject, client_id: ClientId, *, event: Event) -> Consent | None:
        """Take the consent back."""
        with self._state.step():
            consent = self._state.consents.pop((subject, client_id), None)
            if consent is None or not self._stands(consent):
                return None
            self._state.write_event(event)
            return consent

    async def list(self, subject: Subject) -> Sequence[Consent]:
        """Return all consents of *subject*, by client id."""
        with self._state.step():
            held = [
                consent
                for (holder, _), consent in self._state.consents.items()
                if holder == subject and self._stands(consent)
            ]
            return sorted(held, key=lambda consent: consent.client_id)

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* consents to clients that are no more."""
        with self._state.step():
            gone = [place for place, consent in self._state.consents.items() if not self._stands(consent)]
            for place in gone[:limit]:
                del self._state.consents[place]
            return len(gone[:limit])

    def _stands(self, consent: Consent) -> bool:
        client = self._state.clients.get(consent.client_id)
        return client is not None and client.created_at == consent.client_created_at
