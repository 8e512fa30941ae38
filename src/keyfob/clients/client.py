"""The client record: an application that holds credentials for subjects, or acts for itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from keyfob.base.identifiers import FIRST_PARTY, ClientId, Strategy


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
