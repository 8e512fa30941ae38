"""The access token of RFC 9068, as the issuer writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

import msgspec

from keyfob.base.clock import to_seconds
from keyfob.base.identifiers import Position, Timeline, TokenId
from keyfob.jwt.claims import CLAIM_NAMES, AccessClaims
from keyfob.tokens.grant import Grant

ACCESS_TOKEN_TYPE = "at+jwt"  # (RFC 9068, section 2.1)
_ENCODER = msgspec.json.Encoder()


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
    claims = AccessClaims(
        iss=issuer,
        sub=grant.subject,
        aud=grant.audience[0] if len(grant.audience) == 1 else grant.audience,
        exp=issued_at + lifetime,
        iat=issued_at,
        jti=token_id,
        client_id=grant.client_id,
        as_of=as_of,
        tl=timeline,
        sid=grant.session_id,
        psid=grant.parent_session_id,
        pcid=grant.parent_client_id,
        strategy=grant.strategy,
        scope=_joined(grant.scopes) or None,
        roles=_sorted(grant.roles),
        auth_time=None if grant.auth_time is None else to_seconds(grant.auth_time),
        amr=grant.amr,
        acr=grant.acr or None,
    )
    if not grant.claims:
        return _ENCODER.encode(claims)
    return _ENCODER.encode({**msgspec.to_builtins(claims), **further_claims(grant.claims)})


# The memories of two pure functions: few scopes and sets of roles stand in very many tokens.
@lru_cache(maxsize=256)
def _sorted(names: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(names))


@lru_cache(maxsize=256)
def _joined(scopes: frozenset[str]) -> str:
    return " ".join(sorted(scopes))


def further_claims(claims: Mapping[str, object]) -> Mapping[str, object]:
    """Return a read-only copy of the *claims* of an application, without those that bear a name of ours, present or not."""
    return MappingProxyType({name: value for name, value in claims.items() if name not in CLAIM_NAMES})
