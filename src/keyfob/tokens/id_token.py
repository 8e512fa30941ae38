"""The ID token of OpenID Connect: who has logged in at a client, said to that client alone (OpenID Connect Core 1.0, section 2).

It is no credential. Its `typ` is `JWT` where an access token has `at+jwt`, its `aud` is the client, and it has neither `jti`, `client_id`
nor `as_of`: each of these alone keeps it from being taken for an access token, and the other way round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from keyfob.base import base64url
from keyfob.base.clock import to_seconds
from keyfob.base.errors import Cause, Denied, InvalidRequest
from keyfob.base.identifiers import ClientId, KeyId, SessionId, Subject
from keyfob.jwt import jws, strict_json
from keyfob.jwt.claims import Moment, Text
from keyfob.jwt.jwk import PublicKey
from keyfob.sessions.session import Session

ID_TOKEN_TYPE: Final = "JWT"
ID_TOKEN_LIFETIME: Final = timedelta(minutes=10)
"""A client reads it once, when it gets it."""
MAX_NONCE: Final = 255  # characters
ID_CLAIMS: Final = (
    "iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "at_hash", "sid",
)  # fmt: skip
"""What an ID token may say. There is no `azp`: it has one audience (OpenID Connect Core 1.0, section 2)."""
_HASHES: Final = {
    "ES256": hashlib.sha256,
    "PS256": hashlib.sha256,
    "RS256": hashlib.sha256,
    "ES384": hashlib.sha384,
    "EdDSA": hashlib.sha512,  # that of Ed25519 itself (RFC 8032, section 5.1)
}
_ENCODER: Final = msgspec.json.Encoder()


class IdClaims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What an ID token says. Moments are whole seconds since the epoch; None and the empty tuple stand for an absent claim."""

    iss: str
    sub: Text
    aud: Text
    exp: Moment
    iat: Moment
    auth_time: Moment
    sid: Text
    nonce: Annotated[str, Meta(min_length=1, max_length=MAX_NONCE)] | None = None
    acr: Text | None = None
    amr: tuple[Text, ...] = ()
    at_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdTokenHint:
    """What an ID token of ours said, however long ago: whom it was about, to which client, in which of that client's sessions."""

    subject: Subject
    client_id: ClientId
    session_id: SessionId


def issue_id_token(
    session: Session,
    *,
    issuer: str,
    key: jws.SigningKey,
    now: datetime,
    nonce: str | None = None,
    access_token: str | None = None,
) -> str:
    """Sign what *session*, a login at an OpenID client, says to that client at *now*.

    It lives for `ID_TOKEN_LIFETIME`, but not past the end of the session. *nonce* is that of the authorization request; *access_token* is
    given beside it, and bound to it by `at_hash` (OpenID Connect Core 1.0, section 3.1.3.6). `auth_time` is when the user last proved who
    they are, never when the client's session began.

    Raises:
        Denied: `expired` if the session has less than a second left.
        InvalidRequest: `unfit_claims`: a subject that is not ASCII (section 2), or too long a nonce.
    """
    issued_at = to_seconds(now)
    expires_at = min(issued_at + int(ID_TOKEN_LIFETIME.total_seconds()), to_seconds(session.expires_at))
    if expires_at <= issued_at:
        raise Denied(Cause.EXPIRED, "the session is at its end")
    if not session.subject.isascii() or len(nonce or "") > MAX_NONCE:
        raise InvalidRequest(
            "unfit_claims", "An ID token takes an ASCII subject and a nonce of 255 characters.", status=422
        )
    claims = IdClaims(
        iss=issuer,
        sub=session.subject,
        aud=session.client_id,
        exp=expires_at,
        iat=issued_at,
        auth_time=to_seconds(session.auth_time),
        sid=session.session_id,
        nonce=nonce or None,
        acr=session.acr,
        amr=session.amr,
        at_hash=None if access_token is None else half_hash(access_token, algorithm=key.algorithm),
    )
    return jws.sign(_ENCODER.encode(claims), key, typ=ID_TOKEN_TYPE)


def half_hash(token: str, *, algorithm: str) -> str:
    """Return the left half of the hash of *token*, by the hash function of *algorithm*: what `at_hash` is."""
    digest = _HASHES[algorithm](token.encode("ascii")).digest()
    return base64url.encode(digest[: len(digest) // 2])


def read_hint(text: str, keys: Mapping[KeyId, PublicKey], *, issuer: str) -> IdTokenHint:
    """Read an `id_token_hint`: an ID token that *issuer* signed, expired or not (OpenID Connect RP-Initiated Logout 1.0, section 2).

    It says which session is meant, and is never a proof of who asks. One whose key is no longer published, or was revoked, is refused.

    Raises:
        Denied: `malformed`, `wrong_type`, `unsupported_algorithm`, `unknown_key`, `bad_signature` or `wrong_issuer`.
    """
    payload = jws.verify(text, keys, typ=ID_TOKEN_TYPE.lower())
    try:
        claims = msgspec.convert(strict_json.read_object(payload), IdClaims)
    except (ValueError, msgspec.ValidationError):
        raise Denied(Cause.MALFORMED, "no claims of an ID token") from None
    if claims.iss != issuer:
        raise Denied(Cause.WRONG_ISSUER, "an ID token of another issuer")
    return IdTokenHint(
        subject=Subject(claims.sub), client_id=ClientId(claims.aud), session_id=SessionId(claims.sid)
    )
