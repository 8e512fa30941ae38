"""The client record: an application that holds credentials for subjects, or acts for itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from keyfob.base.identifiers import FIRST_PARTY, ClientId, Strategy

_SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]{1,100}")


def is_scope(text: str) -> bool:
    """Say whether *text* is one scope-token (RFC 6749, section 3.3), of at most 100 characters."""
    return _SCOPE.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client.

    `secret_digests` are SHA-256 digests of its secrets (256 random bits each, so no slow hash), two at most for a rotation without
    downtime; none for a public client. `strategies` are those allowed. `audiences` are those that it may ask for; empty means any.
    `access_lifetime` None means the deployment's.
    """

    client_id: ClientId
    created_at: datetime
    secret_digests: tuple[bytes, ...] = field(default=(), repr=False)
    scopes: frozenset[str] = frozenset()
    strategies: frozenset[Strategy] = frozenset({Strategy.HYBRID})
    default_strategy: Strategy = Strategy.HYBRID
    audiences: frozenset[str] = frozenset()
    access_lifetime: timedelta | None = None

    @property
    def is_first_party(self) -> bool:
        """Say whether it is the built-in client, which needs no row in a store."""
        return self.client_id == FIRST_PARTY
