"""The access token of RFC 9068, as the issuer writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from keyfob.base.clock import to_seconds
from keyfob.base.identifiers import Position, Timeline, TokenId
from keyfob.tokens.grant import Grant

ACCESS_TOKEN_TYPE = "at+jwt"  # (RFC 9068, section 2.1)
_RESERVED = frozenset(
    [
        "iss",
        "sub",
        "aud",
        "exp",
        "nbf",
        "iat",
        "jti",
        "client_id",
        "sid",
        "psid",
        "as_of",
        "tl",
        "strategy",
        "scope",
        "roles",
        "auth_time",
        "amr",
        "acr",
        "cnf",
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """A signed access token. `expires_in` is in seconds."""

    text: str = field(repr=False)
    token_id: TokenId
    expires_in: int


def encode_claims(
    grant: Grant,
    *,
    issuer: str,
    token_id: TokenId,
    issued_at: int,
    lifetime: int,
    as_of: Position,
    timeline: Timeline,
) -> bytes:
    """Return the payload (RFC 9068, section 2.2): times in whole seconds since the epoch.

    Claims of the application that bear a name of ours are left out.
    """
    claims: dict[str, object] = {
        "iss": issuer,
        "sub": grant.subject,
        "aud": grant.audience[0] if len(grant.audience) == 1 else list(grant.audience),
        "exp": issued_at + lifetime,
        "iat": issued_at,
        "jti": token_id,
        "client_id": grant.client_id,
        "as_of": as_of,
        "tl": timeline,
    }
    optional: dict[str, object] = {
        "sid": grant.session_id,
        "psid": grant.parent_session_id,
        "strategy": grant.strategy.value if grant.strategy else None,
        "scope": " ".join(sorted(grant.scopes)),
        "roles": sorted(grant.roles),
        "auth_time": to_seconds(grant.auth_time) if grant.auth_time else None,
        "amr": list(grant.amr),
        "acr": grant.acr,
    }
    claims.update((name, value) for name, value in optional.items() if value)
    claims.update(further_claims(grant.claims))
    return msgspec.json.encode(claims)


def further_claims(claims: Mapping[str, object]) -> Mapping[str, object]:
    """Return a read-only copy of the *claims* of an application, without those that bear a name of ours, present or not."""
    return MappingProxyType({name: value for name, value in claims.items() if name not in _RESERVED})
