"""The principal: the result of a successful check."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

import msgspec

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


# Why each path says yes.
_WHY: Mapping[str, str] = MappingProxyType(
    {
        "signature": "its signature and claims hold",
        "verdict cache": "its signature and claims held when it was first seen",
        "session cache": "its session was read before",
        "session": "its session stands in the store",
        "introspection": "the authority says that it is active",
    }
)

FROM_MEMORY = frozenset({"verdict cache", "session cache"})
"""The paths of what this process had found good before."""


def _no_claims() -> Mapping[str, object]:
    return _NO_CLAIMS


class Principal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who the credential is about, by which session and client, with which roles and scopes, until when.

    One is made for every token that is checked: as a frozen dataclass that took 2.2 µs more than as a `Struct`, a thirtieth of the
    check of an ES256 signature. The garbage collector does not look at it: it holds no cycle, and verifiers keep tens of thousands. A
    changed copy is made by `copy.replace` or `msgspec.structs.replace`.

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
    claims: Mapping[str, object] = msgspec.field(default_factory=_no_claims)
    # What the one rule also looks at.
    timeline: Timeline | None = None
    token_id: TokenId | None = None
    parent_session_id: SessionId | None = None
    parent_client_id: ClientId | None = None
    key_id: KeyId | None = None
    path: str = ""

    def __eq__(self, other: object) -> bool:
        """Compare everything but `path`, the last field: by which way the answer was found says nothing about who it is."""
        if not isinstance(other, Principal):
            return NotImplemented
        return msgspec.structs.astuple(self)[:-1] == msgspec.structs.astuple(other)[:-1]

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.subject, self.session_id, self.token_id))

    @property
    def is_service(self) -> bool:
        """Say whether it is a service that acts for itself, and nobody's login: its subject is its client."""
        return str(self.subject) == self.client_id

    def explain(self) -> str:
        """Say in one line which path answered and why it said yes."""
        session = f", session {self.session_id}" if self.session_id else ""
        why = _WHY.get(self.path, "it was found good")
        return (
            f"{self.path or 'answered'}: subject {self.subject}{session}, client {self.client_id}, "
            f"until {self.expires_at.isoformat()}; {why}, and nothing that is known of the feed after position {self.as_of} covers it"
        )
