"""The claims of an access token, typed and strict (RFC 9068, section 2.2; RFC 7519, section 4.1).

Our own beside them: `as_of` (how much of the feed its issuer knew), `tl` (the timeline of that feed), `psid` and
`pcid` (the parent session, and its client) and `strategy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import (
    MAX_IDENTIFIER,
    ClientId,
    Position,
    SessionId,
    Strategy,
    Subject,
    Timeline,
    TokenId,
    is_identifier,
)
from keyfob.jwt import strict_json

MAX_LIFETIME: Final = 86_400  # seconds from `iat` to `exp`: 24 hours; no strategy gives an access token more
MAX_MOMENT: Final = (
    253_402_300_799  # seconds: the last of the year 9999; a moment in milliseconds lies past it
)
MAX_AUDIENCES: Final = 32
MAX_ROLES: Final = 256
MAX_METHODS: Final = 16
MAX_SCOPE: Final = 4096  # characters of the whole claim
MAX_ISSUER: Final = 2048

_TEXT: Final = Meta(min_length=1, max_length=MAX_IDENTIFIER)
Text = Annotated[str, _TEXT]
Moment = Annotated[int, Meta(ge=0, le=MAX_MOMENT)]


class AccessClaims(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What an access token says. Moments are whole seconds since the epoch; None and the empty tuple stand for an absent claim.

    The order of the fields is that in which our issuer writes them; a token in another order is read as well, only slower.
    """

    iss: Annotated[str, Meta(min_length=1, max_length=MAX_ISSUER)]
    sub: Annotated[Subject, _TEXT]
    aud: Text | Annotated[tuple[Text, ...], Meta(min_length=1, max_length=MAX_AUDIENCES)]
    exp: Moment
    iat: Moment
    jti: Annotated[TokenId, _TEXT]
    client_id: Annotated[ClientId, _TEXT]
    as_of: Annotated[Position, Meta(ge=0, le=strict_json.MAX_INTEGER)]
    tl: Annotated[Timeline, _TEXT] | None = None
    sid: Annotated[SessionId, _TEXT] | None = None
    psid: Annotated[SessionId, _TEXT] | None = None
    pcid: Annotated[ClientId, _TEXT] | None = None
    strategy: Strategy | None = None
    scope: Annotated[str, Meta(min_length=1, max_length=MAX_SCOPE)] | None = None
    roles: Annotated[tuple[Text, ...], Meta(max_length=MAX_ROLES)] = ()
    auth_time: Moment | None = None
    amr: Annotated[tuple[Text, ...], Meta(max_length=MAX_METHODS)] = ()
    acr: Text | None = None
    nbf: Moment | None = None
    cnf: dict[str, object] | None = None


CLAIM_NAMES: Final = frozenset(AccessClaims.__struct_fields__)
"""The names that mean something to Keyfob; what an application adds has other names."""
NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
_DECODER: Final = msgspec.json.Decoder(AccessClaims)
_ENCODER: Final = msgspec.json.Encoder()


def read_claims(payload: bytes) -> tuple[AccessClaims, Mapping[str, object]]:
    """Read the payload of an access token whose signature holds: its claims, and those of the application.

    The fast way is the one for tokens of our own issuer without claims of the application: a payload that is octet for octet what is
    written for the claims that were read holds nothing else, so no name stands twice and nothing was passed over. Any other is read
    again by `strict_json`.

    Raises:
        Denied: `malformed`: not strict JSON, a claim missing, null, of the wrong type or out of its range, a control character in a name
            of something, or a lifetime past 24 hours.
    """
    try:
        claims = _DECODER.decode(payload)
        others = NOTHING if _ENCODER.encode(claims) == payload else _other_claims(payload)
        if b"\\" in payload:
            # JSON holds control characters only as escapes (but DEL, which does no harm).
            _require_identifiers(claims)
    except (ValueError, RecursionError) as error:
        raise Denied(Cause.MALFORMED, f"claims: {type(error).__name__}") from None
    if claims.exp - claims.iat > MAX_LIFETIME:
        raise Denied(Cause.MALFORMED, "claims: a lifetime past 24 hours")
    return claims, others


def _other_claims(payload: bytes) -> Mapping[str, object]:
    members = strict_json.read_object(payload)
    for name in CLAIM_NAMES:
        # Absent and null are two things, and a typed decoder would take the one for the other.
        if name in members and members[name] is None:
            raise ValueError("a claim that is null")
    others = {name: value for name, value in members.items() if name not in CLAIM_NAMES}
    return MappingProxyType(others) if others else NOTHING


def _require_identifiers(claims: AccessClaims) -> None:
    audience = (claims.aud,) if isinstance(claims.aud, str) else claims.aud
    single = (
        claims.sub,
        claims.client_id,
        claims.jti,
        claims.sid,
        claims.psid,
        claims.pcid,
        claims.tl,
        claims.acr,
    )
    texts = [text for text in single if text is not None]
    if not all(map(is_identifier, [*texts, *audience, *claims.roles, *claims.amr])):
        raise ValueError("a name with a control character")
    if claims.scope is not None and not claims.scope.isprintable():
        raise ValueError("a scope with a control character")
