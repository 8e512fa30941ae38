"""The client service: add, authenticate, delete."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from keyfob.base.clock import Clock
from keyfob.base.errors import Cause, Conflict, Denied, InvalidRequest, NotFound
from keyfob.base.events import Event
from keyfob.base.identifiers import FIRST_PARTY, ClientId, Strategy, is_identifier
from keyfob.clients.client import Client
from keyfob.clients.scopes import checked_scopes
from keyfob.clients.secret import digest_of, is_one_of, new_secret
from keyfob.clients.store import ClientStore
from keyfob.revocation.entry import Entry, Scope
from keyfob.revocation.revocation import Revocation

MAX_CLIENT_ID = 128  # characters
MAX_AUDIENCES = 64  # of one client
MAX_ACCESS_LIFETIME = timedelta(hours=24)
CLIENT_ID_RULE = (
    f"A client id has 1 to {MAX_CLIENT_ID} letters, digits and . _ ~ - characters, does not begin with usr_, "
    f"and is not {FIRST_PARTY}."
)

# Those that need no escaping in a URL, so that an id means the same in HTTP Basic whether or not it is form-encoded there.
_CLIENT_ID = re.compile(rf"[A-Za-z0-9._~-]{{1,{MAX_CLIENT_ID}}}")
_SUBJECT_PREFIX = (
    "usr_"  # a token's `sub` is a subject or, for machines, a client id: never to be taken for each other
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

FIRST_PARTY_CLIENT = Client(
    client_id=FIRST_PARTY,
    created_at=_EPOCH,
    strategies=frozenset(Strategy),
    default_strategy=Strategy.SESSION,
)
"""The application's own pages and apps. It has no secret, so nobody authenticates as it, and needs no row."""


Applied = Callable[[Entry], Awaitable[Entry]]
"""Waits until an entry is in force in this process, and returns it."""
Outlive = Callable[[timedelta], Awaitable[None]]
"""Lets entries outlive credentials of such a lifetime from now on, durably (`FeedStore.extend_retention`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewClient:
    """A client that was just added, and its secret, which nobody can show again."""

    client: Client
    secret: str = field(repr=False)


class Clients:
    """The applications that hold credentials. Every method raises `StoreUnavailable` when the store does not answer."""

    def __init__(self, store: ClientStore, *, clock: Clock, applied: Applied, outlive: Outlive) -> None:
        self._store = store
        self._applied = applied
        self._outlive = outlive
        self._clock = clock

    async def add(
        self,
        client_id: str,
        *,
        scopes: Iterable[str] = (),
        audiences: Iterable[str] = (),
        strategies: Iterable[Strategy] = (Strategy.HYBRID,),
        default_strategy: Strategy = Strategy.HYBRID,
        access_lifetime: timedelta | None = None,
        actor: str = "system",
    ) -> NewClient:
        """Add a confidential client with a secret of 256 random bits.

        Raises:
            InvalidRequest: the id, a scope, an audience, a strategy or the lifetime breaks its rule.
            Conflict: `client_id_taken`; of several at once one is added.
        """
        secret = new_secret()
        client = Client(
            client_id=_checked_client_id(client_id),
            created_at=self._clock.now(),
            secret_digests=(digest_of(secret),),
            scopes=checked_scopes(scopes),
            strategies=_checked_strategies(strategies, default_strategy),
            default_strategy=default_strategy,
            audiences=_checked_audiences(audiences),
            access_lifetime=_checked_lifetime(access_lifetime),
        )
        if client.access_lifetime is not None:  # before anything of that lifetime can be granted
            await self._outlive(client.access_lifetime)
        if not await self._store.add(client, self._event("client_added", client.client_id, actor=actor)):
            raise Conflict("client_id_taken", "There is a client of this id.")
        return NewClient(client=client, secret=secret)

    async def authenticate(self, client_id: str, secret: str) -> Client:
        """Return the client of *client_id* if *secret* is one of its secrets.

        It is read from the store each time, so a deleted client is refused from the moment of its deletion. A client that is unknown, or
        has no secret, is refused like a wrong secret, in the same time.

        Raises:
            Denied: `bad_credentials`.
        """
        known = _CLIENT_ID.fullmatch(client_id) is not None
        client = await self._store.find(ClientId(client_id)) if known else None
        if not is_one_of(secret, client.secret_digests if client else ()) or client is None:
            raise Denied(Cause.BAD_CREDENTIALS, "a client that is unknown or whose secret is wrong")
        return client

    async def find(self, client_id: str) -> Client | None:
        """Return the client; `first-party` is always there."""
        if client_id == FIRST_PARTY:
            return FIRST_PARTY_CLIENT
        if _CLIENT_ID.fullmatch(client_id) is None:
            return None
        return await self._store.find(ClientId(client_id))

    async def get(self, client_id: str) -> Client:
        """Return the client; `first-party` is always there.

        Raises:
            NotFound: `no_client`.
        """
        client = await self.find(client_id)
        if client is None:
            raise _no_client()
        return client

    async def list(self) -> Sequence[Client]:
        """Return all clients by id, without the built-in one."""
        return await self._store.list()

    async def delete(self, client_id: str, *, actor: str, reason: str = "") -> Entry:
        """Delete the client and end everything that was issued to it, in one step. Of several at once, one succeeds.

        Raises:
            NotFound: `no_client`; `first-party` cannot be deleted either.
        """
        entry = None
        if _CLIENT_ID.fullmatch(client_id):
            event = self._event("client_deleted", ClientId(client_id), actor=actor, reason=reason)
            revocation = Revocation(scope=Scope.CLIENT, id=client_id, event=event)
            entry = await self._store.delete(ClientId(client_id), revocation=revocation)
        if entry is None:
            raise _no_client()
        return await self._applied(entry)

    def _event(self, code: str, client_id: ClientId, *, actor: str, reason: str = "") -> Event:
        return Event(at=self._clock.now(), code=code, actor=actor, client_id=client_id, reason=reason or None)


def _no_client() -> NotFound:
    return NotFound("no_client", "There is no such client.")


def _checked_client_id(client_id: str) -> ClientId:
    if (
        _CLIENT_ID.fullmatch(client_id) is None
        or client_id.startswith(_SUBJECT_PREFIX)
        or client_id == FIRST_PARTY
    ):
        raise InvalidRequest("invalid_client_id", CLIENT_ID_RULE, status=422)
    return ClientId(client_id)


def _checked_strategies(strategies: Iterable[Strategy], default: Strategy) -> frozenset[Strategy]:
    allowed = frozenset(strategies)
    if default not in allowed:
        raise InvalidRequest(
            "invalid_strategy", "The default strategy must be one of those allowed.", status=422
        )
    return allowed


def _checked_audiences(audiences: Iterable[str]) -> frozenset[str]:
    checked = frozenset(audiences)
    if len(checked) > MAX_AUDIENCES or not all(is_identifier(audience) for audience in checked):
        raise InvalidRequest(
            "invalid_audience",
            f"An audience has 1 to 255 characters and no control characters; at most {MAX_AUDIENCES} audiences.",
            status=422,
        )
    return checked


def _checked_lifetime(lifetime: timedelta | None) -> timedelta | None:
    if lifetime is not None and not timedelta(0) < lifetime <= MAX_ACCESS_LIFETIME:
        raise InvalidRequest(
            "invalid_lifetime", "An access token lives above 0 and at most 24 hours.", status=422
        )
    return lifetime
