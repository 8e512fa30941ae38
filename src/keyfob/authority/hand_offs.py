"""Hand-offs: a login at this origin is taken along to another domain of the same owner (ADR 0019).

1. Somebody who has signed in asks for it, on a page of ours; the target is a client of the deployment's own, at one of its redirect URIs.
2. The browser posts a secret there: it is in no address, so in no log, no history and no `Referer`.
3. The client, which proves who it is and names the same URI, gets a session under that login. The secret is good once, for half a minute;
   a second right use ends what the first gave, and a wrong one changes nothing (`UserTokens.redeem`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import msgspec

from keyfob.authority.client_logins import Origin
from keyfob.authority.redemption import Redemption
from keyfob.authority.user_tokens import UserGranted, UserTokens, require_grant
from keyfob.base.clock import Clock
from keyfob.base.errors import InvalidRequest
from keyfob.base.principal import Principal
from keyfob.clients.client import Client, GrantType
from keyfob.clients.clients import Clients
from keyfob.grants import scope, target
from keyfob.grants.authorization_code import AuthorizationCode, not_good
from keyfob.grants.one_time import OneTime, OneTimeKind
from keyfob.grants.secret import digest_of, is_secret, new_secret
from keyfob.grants.store import GrantStore

LIFETIME: Final = timedelta(seconds=30)
"""How long the browser has to get there, and the client to come with what it brought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOff:
    """A hand-off that is under way: what the browser is to post, and where."""

    secret: str = field(repr=False)
    redirect_uri: str


class HandOffs:
    """Hands logins over. Every method raises `StoreUnavailable` when the store does not answer."""

    def __init__(
        self,
        clients: Clients,
        user_tokens: UserTokens,
        *,
        store: GrantStore,
        issuer: str,
        clock: Clock,
    ) -> None:
        self._clients = clients
        self._user_tokens = user_tokens
        self._store = store
        self._issuer = issuer
        self._clock = clock

    async def target(self, client_id: str, redirect_uri: str) -> Client:
        """Return the client that a login can be handed to at *redirect_uri*.

        Raises:
            InvalidRequest: `invalid_target`: there is no such client, it takes no hand-offs, or the URI is not exactly one of its own.
        """
        client = await self._clients.find(client_id)
        takes = client is not None and client.first_party and not client.public
        if client is None or not takes or GrantType.HAND_OFF not in client.grant_types:
            raise _no_target()
        if redirect_uri not in client.redirect_uris:
            raise _no_target()
        return client

    async def begin(self, client_id: str, redirect_uri: str, visitor: Principal) -> HandOff:
        """Begin to hand the login of *visitor*, as the store has just given it, to the client.

        Raises:
            InvalidRequest: `invalid_target`, as `target`; `invalid_request` for a credential that is no login.
        """
        client = await self.target(client_id, redirect_uri)
        session_id = visitor.parent_session_id or visitor.session_id  # a child has no children
        if session_id is None or visitor.auth_time is None or str(visitor.subject) == client.client_id:
            raise InvalidRequest("invalid_request", "Only a login can be handed over.")
        secret, now = new_secret(), self._clock.now()
        body = AuthorizationCode(
            client_id=client.client_id,
            subject=visitor.subject,
            session_id=session_id,
            redirect_uri=redirect_uri,
            redirect_uri_named=True,
            challenge="",
            scopes=scope.asked(None, client.scopes),
            audience=target.one_audience(client.audiences, None, issuer=self._issuer),
            auth_time=visitor.auth_time,
            amr=visitor.amr,
            acr=visitor.acr,
        )
        await self._store.add(
            OneTime(
                kind=OneTimeKind.HAND_OFF,
                digest=digest_of(secret),
                body=msgspec.json.encode(body),
                as_of=visitor.as_of,
                created_at=now,
                expires_at=now + LIFETIME,
            )
        )
        return HandOff(secret=secret, redirect_uri=redirect_uri)

    async def redeem(
        self, client: Client, secret: str, *, redirect_uri: str | None, origin: Origin
    ) -> UserGranted:
        """Give *client*, which has proved who it is, the session that was handed to it at *redirect_uri*.

        Raises:
            GrantRefused: `unauthorized_client`; `invalid_grant` for a secret that is unknown, over, used before, another client's, or was
                for another URI, and where the login was ended meanwhile.
        """
        require_grant(client, GrantType.HAND_OFF)
        found = None
        if is_secret(secret):
            found = await self._store.find(OneTimeKind.HAND_OFF, digest_of(secret), now=self._clock.now())
        if found is None:
            raise not_good()
        body = _read(found)
        if body.client_id != client.client_id or body.redirect_uri != redirect_uri:
            raise not_good()
        right = Redemption(record=found, code=body, as_of=found.as_of, read=_read, write=msgspec.json.encode)
        return await self._user_tokens.redeem(client, right, origin=origin)


_decoder: Final = msgspec.json.Decoder(AuthorizationCode)


def _read(record: OneTime) -> AuthorizationCode:
    return _decoder.decode(record.body)


def _no_target() -> InvalidRequest:
    return InvalidRequest("invalid_target", "There is no such place to go on to.")
