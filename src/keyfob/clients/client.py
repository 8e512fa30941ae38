"""The client record: an application that holds credentials for subjects, or acts for itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from keyfob.base.identifiers import FIRST_PARTY, ClientId, Strategy
from keyfob.clients.redirect_uri import is_claimed, is_registered

_SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]{1,100}")


class GrantType(StrEnum):
    """For what a client may come to the token endpoint (RFC 6749, sections 4.1, 4.4 and 6; RFC 8628, section 3.4; RFC 8693, section 2.1);
    `HAND_OFF` is ours.
    """

    CLIENT_CREDENTIALS = "client_credentials"
    TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
    AUTHORIZATION_CODE = "authorization_code"
    REFRESH_TOKEN = "refresh_token"
    DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
    HAND_OFF = "urn:keyfob:grant-type:hand-off"


OF_CONFIDENTIAL_CLIENTS: Final = frozenset({GrantType.CLIENT_CREDENTIALS, GrantType.TOKEN_EXCHANGE})
"""Grants by which a client acts for itself or for what it was entrusted with: only one that can prove who it is has them."""
FOR_PEOPLE: Final = frozenset({GrantType.AUTHORIZATION_CODE, GrantType.DEVICE_CODE, GrantType.HAND_OFF})
"""Grants by which somebody signs in at a client."""


def is_scope(text: str) -> bool:
    """Say whether *text* is one scope-token (RFC 6749, section 3.3), of at most 100 characters."""
    return _SCOPE.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client.

    `secret_digests` are SHA-256 digests of its secrets (256 random bits each, so no slow hash), the newest first, two at most for a rotation
    without downtime; `public_keys` is a JWK Set, as JSON, of the keys with which it signs assertions, empty for none. A client with neither
    cannot say that it is itself. `strategies` are those allowed. `audiences` are those that it may ask for; empty means any.
    `access_lifetime` None means the deployment's. `grant_types` are what it may ask the token endpoint for.

    The rest is of clients at which people sign in. `name` is what they are shown. Redirect URIs are compared octet for octet
    (`redirect_uri.is_registered` has the one exception). A `public` client (a native app, a page) has nothing to prove itself with. For a
    `first_party` one nobody is asked for consent. With `require_par` it must push its requests (RFC 9126, section 6). `cors_origins` are
    those whose scripts may read answers that are for this client.
    """

    client_id: ClientId
    created_at: datetime
    secret_digests: tuple[bytes, ...] = field(default=(), repr=False)
    scopes: frozenset[str] = frozenset()
    strategies: frozenset[Strategy] = frozenset({Strategy.HYBRID})
    default_strategy: Strategy = Strategy.HYBRID
    audiences: frozenset[str] = frozenset()
    access_lifetime: timedelta | None = None
    public_keys: bytes = b""
    grant_types: frozenset[GrantType] = frozenset({GrantType.CLIENT_CREDENTIALS})
    name: str = ""
    redirect_uris: frozenset[str] = frozenset()
    post_logout_redirect_uris: frozenset[str] = frozenset()
    backchannel_logout_uri: str | None = None
    backchannel_logout_session_required: bool = False
    cors_origins: frozenset[str] = frozenset()
    first_party: bool = False
    public: bool = False
    require_par: bool = False

    @property
    def takes_codes(self) -> bool:
        """Say whether people can be sent to it with a code."""
        return GrantType.AUTHORIZATION_CODE in self.grant_types

    @property
    def refreshes_at_endpoint(self) -> bool:
        """Say whether its refresh tokens are exchanged at the token endpoint, and nowhere else."""
        return GrantType.REFRESH_TOKEN in self.grant_types

    def returns_to(self, uri: str) -> bool:
        """Say whether *uri* is one of its redirect URIs (`redirect_uri.is_registered`)."""
        return is_registered(uri, self.redirect_uris, public=self.public)

    def is_assured_at(self, uri: str) -> bool:
        """Say whether nobody else can pose as it at *uri*: it proves who it is, or *uri* is claimed by the owner of its domain."""
        return not self.public or is_claimed(uri)

    @property
    def is_built_in(self) -> bool:
        """Say whether it is the built-in client, which needs no row in a store."""
        return self.client_id == FIRST_PARTY
