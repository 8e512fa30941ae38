"""The principal: the result of a successful check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from keyfob.base.identifiers import (
    ClientId,
    KeyId,
    Position,
    SessionId,
    Strategy,
    Subject,
    Timeline,
    TokenId,
)

_NO_CLAIMS: Mapping[str, object] = MappingProxyType({})


def _no_claims() -> Mapping[str, object]:
    return _NO_CLAIMS


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who the credential is about, by which session and client, with which roles and scopes, until when.

    `expires_at` is when the credential itself ends: `exp` of a JWT, the absolute end of a session. `as_of` is the feed position that
    its issuer knew. `claims` are the claims that have no field of their own, read-only.
    """

    subject: Subject
    client_id: ClientId
    strategy: Strategy | None
    audience: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime
    as_of: Position
    session_id: SessionId | None = None
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    auth_time: datetime | None = None
    amr: tuple[str, ...] = ()
    acr: str | None = None
    claims: Mapping[str, object] = field(default_factory=_no_claims)
    # What the one rule also looks at.
    timeline: Timeline | None = None
    token_id: TokenId | None = None
    parent_session_id: SessionId | None = None
    key_id: KeyId | None = None
    path: str = field(default="", compare=False)

    def explain(self) -> str:
        """Say in one line which path answered and why it said yes."""
        session = f", session {self.session_id}" if self.session_id else ""
        return (
            f"{self.path or 'answered'}: subject {self.subject}{session}, client {self.client_id}, "
            f"as of position {self.as_of}, until {self.expires_at.isoformat()}"
        )
