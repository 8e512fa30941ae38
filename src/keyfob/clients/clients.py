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
from keyfob.clients.assertion import check_assertion, checked_keys, claimed_client
from keyfob.clients.change import Changed, ClientChange
from keyfob.clients.client import Client, GrantType
from keyfob.clients.registration import Registration, checked_grants, require_place
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
    first_party=True,
    grant_types=frozenset(),
)
"""The application's own pages and apps. It has no secret, so nobody authenticates as it, and needs no row."""


Applied = Callable[[Entry], Awaitable[Entry]]
"""Waits until an entry is in force in this process, and returns it."""
Outlive = Callable[[timedelta], Awaitable[None]]
"""Lets entries outlive credentials of such a lifetime from now on, durably (`FeedStore.extend_retention`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewClient:
    """A client that was just added, and its secret, which nobody can show again; None for one that signs with a key of its own."""

    client: Client
    secret: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSecret:
    """A client, a secret that it was just given, and the entry that ended what was issued to it before, if that was asked for."""

    client: Client
    secret: str = field(repr=False)
    entry: Entry | None = None


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
        grant_types: Iterable[GrantType] | None = None,
        public_keys: bytes | None = None,
        registration: Registration | None = None,
        actor: str = "system",
    ) -> NewClient:
        """Add a confidential client with a secret of 256 random bits, or one that has no secret: public, or with *public_keys* (`checked_keys`).

        Without *grant_types* it has those that go with its *registration*: codes and refresh tokens, or else client credentials.

        Raises:
            InvalidRequest: the id, a scope, an audience, a strategy, the lifetime, the grants or the keys break their rule.
            Conflict: `client_id_taken`; of several at once one is added.
        """
        stated = registration or Registration()
        if stated.public and public_keys is not None:
            raise InvalidRequest("invalid_keys", "A public client has no keys.", status=422)
        keys = b"" if public_keys is None else checked_keys(public_keys)
        grants = checked_grants(grant_types, stated)
        require_place(grants, stated)
        secret = None if keys or stated.public else new_secret()
        client = Client(
            client_id=_checked_client_id(client_id),
            created_at=self._clock.now(),
            secret_digests=() if secret is None else (digest_of(secret),),
            scopes=checked_scopes(scopes),
            strategies=_checked_strategies(strategies, default_strategy),
            default_strategy=default_strategy,
            audiences=_checked_audiences(audiences),
            access_lifetime=_checked_lifetime(access_lifetime),
            grant_types=grants,
            public_keys=keys,
            name=stated.name,
            redirect_uris=frozenset(stated.redirect_uris),
            post_logout_redirect_uris=frozenset(stated.post_logout_redirect_uris),
            backchannel_logout_uri=stated.backchannel_logout_uri,
            backchannel_logout_session_required=stated.backchannel_logout_session_required,
            cors_origins=frozenset(stated.cors_origins),
            first_party=stated.first_party,
            public=stated.public,
            require_par=stated.require_par,
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

    async def authenticate_assertion(
        self, assertion: str, *, issuer: str, client_id: str | None = None
    ) -> Client:
        """Return the client that signed *assertion* for *issuer* (RFC 7523, section 3); it is taken once, whatever process it comes to.

        *client_id*, where the request names one, must be that client.

        Raises:
            Denied: `bad_credentials`, whatever is wrong with it.
        """
        claimed = claimed_client(assertion)
        if claimed is None or (client_id is not None and client_id != claimed):
            raise Denied(Cause.BAD_CREDENTIALS, "an assertion of nobody, or of another client than named")
        known = _CLIENT_ID.fullmatch(claimed) is not None
        client = await self._store.find(ClientId(claimed)) if known else None
        if client is None or not client.public_keys:
            raise Denied(Cause.BAD_CREDENTIALS, "a client that is unknown or has no keys")
        used = check_assertion(assertion, client, issuer=issuer, now=self._clock.time())
        if not await self._store.take_assertion(used):
            raise Denied(Cause.BAD_CREDENTIALS, "an assertion that was taken before")
        return client

    async def named(self, client_id: str) -> Client:
        """Return the public client that *client_id* names: it has nothing to prove itself with. All others are refused.

        Raises:
            Denied: `bad_credentials`, for a client that is unknown, built in, or has something to prove itself with.
        """
        client = await self.find(client_id)
        if client is None or not client.public:
            raise Denied(Cause.BAD_CREDENTIALS, "a client that only names itself, and is no public one")
        return client

    async def rotate_secret(self, client_id: str, *, actor: str) -> NewSecret:
        """Give the client one more secret; its newest one goes on, older ones end. So a service changes over without downtime.

        Raises:
            NotFound: `no_client`.
            InvalidRequest: `public_client`.
        """
        return await self._give_secret(
            client_id, keep=1, order=self._event("client_secret_rotated", client_id, actor=actor)
        )

    async def replace_credentials(self, client_id: str, *, actor: str, reason: str = "") -> NewSecret:
        """Give the client a secret in the place of every secret and key that it has, and end all that was issued to it, in one step.

        For a client whose secret or key is in other hands.

        Raises:
            NotFound: `no_client`.
        """
        event = self._event("client_credentials_replaced", client_id, actor=actor, reason=reason)
        if _CLIENT_ID.fullmatch(client_id) is None:
            raise _no_client()
        order = Revocation(scope=Scope.CLIENT, id=client_id, event=event)
        return await self._give_secret(client_id, keep=0, order=order, public_keys=b"")

    async def set_keys(
        self, client_id: str, public_keys: bytes, *, actor: str, keep_secrets: int = 0
    ) -> Client:
        """Let the client sign with the keys of *public_keys* (`checked_keys`) instead of those before; its newest *keep_secrets* go on.

        Raises:
            InvalidRequest: `invalid_keys`.
            NotFound: `no_client`.
        """
        change = ClientChange(keep_secrets=keep_secrets, public_keys=checked_keys(public_keys))
        order = self._event("client_keys_set", client_id, actor=actor)
        return (await self._change(client_id, change, order)).client

    async def _give_secret(
        self, client_id: str, *, keep: int, order: Event | Revocation, public_keys: bytes | None = None
    ) -> NewSecret:
        secret = new_secret()
        change = ClientChange(keep_secrets=keep, new_secret=digest_of(secret), public_keys=public_keys)
        after = await self._change(client_id, change, order)
        return NewSecret(client=after.client, secret=secret, entry=after.entry)

    async def _change(self, client_id: str, change: ClientChange, order: Event | Revocation) -> Changed:
        present = await self.find(client_id)
        if (
            present is not None and present.public
        ):  # it never becomes another: whether it is one does not change
            raise InvalidRequest(
                "public_client",
                "A public client has no secret and no keys; revoke what it holds.",
                status=422,
            )
        known = _CLIENT_ID.fullmatch(client_id) is not None
        after = await self._store.change(ClientId(client_id), change, order=order) if known else None
        if after is None:
            raise _no_client()
        if after.entry is not None:
            await self._applied(after.entry)
        return after

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
            event = self._event("client_deleted", client_id, actor=actor, reason=reason)
            revocation = Revocation(scope=Scope.CLIENT, id=client_id, event=event)
            entry = await self._store.delete(ClientId(client_id), revocation=revocation)
        if entry is None:
            raise _no_client()
        return await self._applied(entry)

    def _event(self, code: str, client_id: str, *, actor: str, reason: str = "") -> Event:
        return Event(
            at=self._clock.now(),
            code=code,
            actor=actor,
            client_id=ClientId(client_id),
            reason=reason or None,
        )


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
