"""Access tokens for machines: by client credentials (RFC 6749, section 4.4), and for an API key (token exchange, RFC 8693).

1. The feed's head is read before anything else, so that whatever ends the client meanwhile ends the token too.
2. Who asks: the client's secret or assertion. For an exchange the key itself may be enough: it is no less than what it is exchanged for.
3. What is asked: the grant is one of the client's, the audience and the scopes are within what it has.
4. The token, as RFC 9068 says, with the smallest `as_of` of everything that it is made from, and never for longer than a key lasts.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from msgspec.structs import replace

from keyfob.authority.checks import Checks
from keyfob.authority.client_authentication import ClientAuthentication, ClientCredentials
from keyfob.base.clock import Clock
from keyfob.base.errors import Denied, GrantRefused
from keyfob.base.identifiers import Position, Subject
from keyfob.base.opaque import OpaqueKind, kind_of
from keyfob.base.principal import Principal
from keyfob.clients.client import Client, GrantType
from keyfob.clients.clients import Clients
from keyfob.clients.scopes import OWN_SCOPES
from keyfob.grants.target import one_audience
from keyfob.revocation.feed import Feed
from keyfob.revocation.store import FeedStore
from keyfob.tokens.access_token import AccessToken
from keyfob.tokens.grant import Grant, grant_of_principal
from keyfob.tokens.issuer import Issuer
from keyfob.tokens.rules import MAX_ACCESS_LIFETIME


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a request at the token endpoint asks for. None: whatever is granted to who asks."""

    audience: str | None = None
    scopes: Collection[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """A token, and the scopes that it has."""

    token: AccessToken
    scopes: frozenset[str]


class MachineTokens:
    """Gives access tokens to machines. Every method raises `StoreUnavailable` when the store does not answer."""

    def __init__(
        self,
        authentication: ClientAuthentication,
        checks: Checks,
        clients: Clients,
        *,
        feed: Feed,
        feed_store: FeedStore,
        issuing: Issuer,
        issuer: str,
        clock: Clock,
    ) -> None:
        self._authentication = authentication
        self._checks = checks
        self._clients = clients
        self._feed = feed
        self._feed_store = feed_store
        self._issuing = issuing
        self._issuer = issuer
        self._clock = clock

    async def for_client(
        self, credentials: ClientCredentials, wanted: Wanted, *, address: str = ""
    ) -> Granted:
        """Give a client a token of its own: its subject is the client's id, and it has no session, no roles and no refresh token.

        Raises:
            Denied: `bad_credentials`.
            RateLimited: they are wrong, and too many were before.
            GrantRefused: `unauthorized_client`, `invalid_target` or `invalid_scope`.
        """
        # 1 to 3.
        head = await self._feed_store.head()
        client = await self._authentication.authenticate(credentials, address=address)
        _require_grant(client, GrantType.CLIENT_CREDENTIALS)
        audience = one_audience(client.audiences, wanted.audience, issuer=self._issuer)
        scopes = _within(_fit_for((audience,), client.scopes, issuer=self._issuer), wanted.scopes)
        # 4.
        now = self._clock.now()
        token = self._issuing.issue(
            Grant(
                subject=Subject(client.client_id),
                client_id=client.client_id,
                strategy=None,
                audience=(audience,),
                ends_at=now + MAX_ACCESS_LIFETIME,
                scopes=scopes,
            ),
            as_of=head.position,
            timeline=head.timeline,
            now=now,
            lifetime=client.access_lifetime,
        )
        return Granted(token=token, scopes=scopes)

    async def for_api_key(
        self,
        text: str,
        wanted: Wanted,
        *,
        credentials: ClientCredentials | None = None,
        address: str = "",
    ) -> Granted:
        """Exchange an API key for an access token of its subject, within the audiences and scopes of the key.

        The token belongs to the key: it is ended with it, and says `sid`. A client that says who it is may exchange its own keys alone.

        Raises:
            Denied: `bad_credentials`.
            RateLimited: they are wrong, and too many were before.
            GrantRefused: `invalid_request` for a key that is not good, or no key; `unauthorized_client`, `invalid_target`, `invalid_scope`.
        """
        # 1 and 2. The key is read with the position of the same snapshot, and a forged one costs no look at the store.
        if credentials is None:
            principal = await self._principal_of(text)
            as_of = principal.as_of
        else:
            head = await self._feed_store.head()
            caller = await self._authentication.authenticate(credentials, address=address)
            _require_grant(caller, GrantType.TOKEN_EXCHANGE)
            principal = await self._principal_of(text)
            if principal.client_id != caller.client_id:
                raise GrantRefused("invalid_request", "The subject token is not one of this client.")
            as_of = min(head.position, principal.as_of)
        # 3.
        audience = _target(principal, wanted.audience)
        scopes = _within(_fit_for(audience, principal.scopes, issuer=self._issuer), wanted.scopes)
        # 4.
        return await self._exchanged(principal, audience, scopes, as_of=as_of)

    async def _principal_of(self, text: str) -> Principal:
        """Return whose key *text* is, from the store: what a cache would say has no `as_of` of this moment."""
        if kind_of(text) is not OpaqueKind.API_KEY:
            raise GrantRefused("invalid_request", "Only an API key can be exchanged.")
        try:
            return await self._checks.read(text)
        except Denied as denied:
            raise GrantRefused("invalid_request", "The subject token is not good.") from denied

    async def _exchanged(
        self, principal: Principal, audience: tuple[str, ...], scopes: frozenset[str], *, as_of: Position
    ) -> Granted:
        client = await self._clients.find(principal.client_id)
        if client is None:
            raise GrantRefused("invalid_request", "The subject token is not good.")
        try:
            token = self._issuing.issue(
                replace(grant_of_principal(principal, audience), scopes=scopes),
                as_of=as_of,
                timeline=principal.timeline or self._feed.live.head.timeline,
                now=self._clock.now(),
                lifetime=client.access_lifetime,
            )
        except Denied as denied:  # less than a second is left of it
            raise GrantRefused("invalid_request", "The subject token is not good.") from denied
        return Granted(token=token, scopes=scopes)


def _require_grant(client: Client, grant_type: GrantType) -> None:
    if grant_type not in client.grant_types:  # a public one never has them (`registration.checked_grants`)
        raise GrantRefused("unauthorized_client", "This client may not use this grant type.")


def _target(principal: Principal, asked: str | None) -> tuple[str, ...]:
    """Return the audience of an exchanged token: one of the key's, or all of them without a word."""
    if asked is None:
        return principal.audience
    if asked not in principal.audience:
        raise GrantRefused("invalid_target", "The subject token is not for this audience.")
    return (asked,)


def _fit_for(audience: Collection[str], scopes: frozenset[str], *, issuer: str) -> frozenset[str]:
    """Return those of *scopes* that mean something at *audience*: those of `keyfob:` do at the authority, and no other service is given them."""
    return scopes if issuer in audience else scopes - OWN_SCOPES


def _within(granted: frozenset[str], asked: Collection[str] | None) -> frozenset[str]:
    """Return the scopes of the token: those asked for, all of which must be granted, or all that are."""
    if asked is None:
        return granted
    if not granted.issuperset(asked):
        raise GrantRefused("invalid_scope", "A scope that is not granted for this audience.")
    return frozenset(asked)
