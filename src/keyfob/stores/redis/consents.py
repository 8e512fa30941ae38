"""Consents in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, Subject
from keyfob.clients.client import Client
from keyfob.grants.consent import Consent
from keyfob.grants.rules import given
from keyfob.stores.grant_keys import consents_of
from keyfob.stores.records import ClientRow, ConsentRow, encode
from keyfob.stores.redis.places import CLIENTS, CONSENT_ORDER, CONSENTS
from keyfob.stores.redis.server import Server
from keyfob.stores.redis.settling import Step, settle
from keyfob.stores.redis.tables import read_record
from keyfob.stores.texts import can_be_kept, require_texts

_TABLES: Final = (CONSENTS, CONSENT_ORDER, CLIENTS)
_SCANNED: Final = 1_000  # consents looked at by one step that cleans up


class RedisConsentStore:
    """A `ConsentStore` in Redis."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._place = b"0"  # how far the last steps that cleaned up have come

    async def give(
        self, subject: Subject, client_id: ClientId, scopes: frozenset[str], *, event: Event
    ) -> Consent | None:
        """Add *scopes* to what *subject* allows."""
        require_texts(subject, client_id, *scopes)
        key = consents_of(subject) + client_id
        consent: Consent | None = None

        async def decide(step: Step) -> bool:
            nonlocal consent
            present, client = await self._look(key, client_id)
            if client is None:
                return False
            before = None if present is None else read_record(present, ConsentRow).consent
            made_at = read_record(client, ClientRow).client.created_at
            consent = given(before, subject, client_id, made_at=made_at, scopes=scopes, now=event.at)
            step.expect(CONSENTS, key, present)
            step.expect(CLIENTS, client_id, client)
            step.put(CONSENTS, key, encode(ConsentRow(consent=consent)))
            step.list_name(CONSENT_ORDER, key)
            step.tell(event)
            return True

        return consent if await settle(self._server, _TABLES, decide) is not None else None

    async def find(self, subject: Subject, client_id: ClientId) -> Consent | None:
        """Return what *subject* allows *client_id*."""
        if not (can_be_kept(subject) and can_be_kept(client_id)):
            return None
        return _standing(*await self._look(consents_of(subject) + client_id, client_id))

    async def withdraw(self, subject: Subject, client_id: ClientId, *, event: Event) -> Consent | None:
        """Take the consent back."""
        if not (can_be_kept(subject) and can_be_kept(client_id)):
            return None
        key = consents_of(subject) + client_id
        consent: Consent | None = None

        async def decide(step: Step) -> bool:
            nonlocal consent
            present, client = await self._look(key, client_id)
            consent = _standing(present, client)
            if consent is None:
                return False
            step.expect(CONSENTS, key, present)
            step.remove(CONSENTS, key)
            step.strike_name(CONSENT_ORDER, key)
            step.tell(event)
            return True

        return consent if await settle(self._server, _TABLES, decide) is not None else None

    async def list(self, subject: Subject) -> Sequence[Consent]:
        """Return all consents of *subject*, by client id."""
        if not can_be_kept(subject):
            return []
        prefix = consents_of(subject).encode()
        keys = await self._server.read(
            b"ZRANGE", CONSENT_ORDER, b"[" + prefix, b"(" + prefix + b"\xff", b"BYLEX"
        )
        clients = [ClientId(key.removeprefix(prefix).decode()) for key in keys]
        found = await self._server.together(self.find(subject, client_id) for client_id in clients)
        return sorted((one for one in found if one is not None), key=lambda consent: consent.client_id)

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* consents to clients that are no more, among the next thousand or so that this process has not looked at."""
        self._place, flat = await self._server.read(
            b"HSCAN", CONSENTS, self._place, b"COUNT", max(limit, _SCANNED)
        )
        flat_clients = await self._server.read(b"HGETALL", CLIENTS)
        clients = [read_record(one, ClientRow).client for one in flat_clients[1::2]]
        made = {client.client_id: client.created_at for client in clients}
        gone = [
            (key.decode(), present, consent)
            for key, present in zip(flat[::2], flat[1::2], strict=True)
            for consent in (read_record(present, ConsentRow).consent,)
            if made.get(consent.client_id) != consent.client_created_at
        ]
        deleted = await self._server.together(self._delete(*one) for one in gone[:limit])
        return sum(deleted)

    async def _delete(self, key: str, present: bytes, consent: Consent) -> bool:
        async def decide(step: Step) -> bool:
            still, client = await self._look(key, consent.client_id)
            if still != present or _standing(still, client) is not None:
                return False
            step.expect(CONSENTS, key, present)
            step.remove(CONSENTS, key)
            step.strike_name(CONSENT_ORDER, key)
            return True

        return await settle(self._server, _TABLES, decide) is not None

    async def _look(self, key: str, client_id: ClientId) -> tuple[bytes | None, bytes | None]:
        present, client = await self._server.look("find_consent", (CONSENTS, CLIENTS), (key, client_id))
        return present, client


def _standing(present: bytes | None, packed: bytes | None) -> Consent | None:
    """Return the consent if the client that it was given to is still there."""
    if present is None or packed is None:
        return None
    consent = read_record(present, ConsentRow).consent
    client: Client = read_record(packed, ClientRow).client
    return consent if client.created_at == consent.client_created_at else None
