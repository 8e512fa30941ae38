"""The client record: an application that holds credentials for subjects, or acts for itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from keyfob.base.identifiers import FIRST_PARTY, ClientId, Strategy

_SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]{1,100}")


class GrantType(StrEnum):
    """For what a client may come to the token endpoint (RFC 6749, section 4.4; RFC 8693, section 2.1)."""

    CLIENT_CREDENTIALS = "client_credentials"
    TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


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

    @property
    def is_first_party(self) -> bool:
        """Say whether it is the built-in client, which needs no row in a store."""
        return self.client_id == FIRST_PARTY

    @property
    def is_public(self) -> bool:
        """Say whether it proves nothing but says its name (RFC 6749, section 2.1)."""
        return self.is_first_party
