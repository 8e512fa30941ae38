"""What people allow clients to do: shown to them, and taken back.

1. The consent goes first: from then on no code is exchanged on it (`UserTokens.redeem` looks once its session stands).
2. Then every session of the subject at that client is ended. One that is begun meanwhile has either been seen by the list, or sees that the
   consent is gone.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyfob.authority.endings import Endings
from keyfob.base.clock import Clock
from keyfob.base.errors import NotFound
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, Subject
from keyfob.clients.clients import Clients
from keyfob.grants.consent import Consent
from keyfob.grants.store import ConsentStore
from keyfob.sessions.store import SessionStore

_PAGE = 100  # sessions in one step of the store


class Consents:
    """Shows and takes back what people allow. Every method raises `StoreUnavailable` when the store does not answer."""

    def __init__(
        self,
        store: ConsentStore,
        sessions: SessionStore,
        clients: Clients,
        endings: Endings,
        *,
        clock: Clock,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._clients = clients
        self._endings = endings
        self._clock = clock

    async def list(self, subject: Subject) -> Sequence[tuple[Consent, str]]:
        """Return what *subject* allows, by client id, and what each client is called."""
        named = []
        for consent in await self._store.list(subject):
            client = await self._clients.find(consent.client_id)
            named.append((consent, client.name if client is not None and client.name else consent.client_id))
        return named

    async def withdraw(self, subject: Subject, client_id: str) -> int:
        """Take back what *subject* allows the client, and end its sessions there; return how many. Twice is once.

        Where it fails half-way, doing it again does the rest.

        Raises:
            NotFound: `no_consent`: nothing was allowed, and nothing is there to end.
        """
        client = await self._clients.find(client_id)
        if (
            client is None or client.is_built_in
        ):  # with a client its consents are gone; the deployment's own logins are not allowed, but done
            raise _no_consent()
        event = Event(
            at=self._clock.now(),
            code="consent_withdrawn",
            actor=subject,
            subject=subject,
            client_id=client.client_id,
        )
        withdrawn = await self._store.withdraw(subject, client.client_id, event=event)
        ended = await self._end_sessions(subject, client.client_id)
        if withdrawn is None and not ended:
            raise _no_consent()
        return ended

    async def _end_sessions(self, subject: Subject, client_id: ClientId) -> int:
        ended, after = 0, None
        while True:
            page = await self._sessions.list(subject, now=self._clock.now(), after=after, limit=_PAGE)
            for session in page.sessions:
                if session.client_id == client_id:
                    entry = await self._endings.end_session(
                        session.session_id, code="consent_withdrawn", actor=subject
                    )
                    ended += entry is not None
            after = page.next
            if after is None:
                return ended


def _no_consent() -> NotFound:
    return NotFound("no_consent", "Nothing is allowed there.")
