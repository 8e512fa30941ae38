"""The logout token: tells a client's server that one of its sessions is over (OpenID Connect Back-Channel Logout 1.0, section 2.4)."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Final

import msgspec

from keyfob.base import base64url
from keyfob.base.clock import to_seconds
from keyfob.base.identifiers import ClientId, SessionId, Subject
from keyfob.jwt import jws

LOGOUT_TOKEN_TYPE: Final = "logout+jwt"
LOGOUT_TOKEN_LIFETIME: Final = timedelta(minutes=2)
"""One is made for each attempt to deliver it, so it need not outlive that (section 4)."""
LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
_TOKEN_ID: Final = 16  # bytes
_ENCODER: Final = msgspec.json.Encoder()


class LogoutClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What a logout token says. There is no `nonce`, so it can never be taken for an ID token."""

    iss: str
    sub: str
    aud: str
    iat: int
    exp: int
    jti: str
    sid: str
    events: dict[str, dict[str, str]]


def issue_logout_token(
    *,
    issuer: str,
    client_id: ClientId,
    subject: Subject,
    session_id: SessionId,
    key: jws.SigningKey,
    now: datetime,
) -> str:
    """Sign that the session *session_id* of *subject* at *client_id* is over.

    It always names the session: one that named the subject alone, delivered late, would end what the subject began since.
    Each has an id of its own, also where the same is said again.
    """
    issued_at = to_seconds(now)
    claims = LogoutClaims(
        iss=issuer,
        sub=subject,
        aud=client_id,
        iat=issued_at,
        exp=issued_at + int(LOGOUT_TOKEN_LIFETIME.total_seconds()),
        jti=base64url.encode(os.urandom(_TOKEN_ID)),
        sid=session_id,
        events={LOGOUT_EVENT: {}},
    )
    return jws.sign(_ENCODER.encode(claims), key, typ=LOGOUT_TOKEN_TYPE)
