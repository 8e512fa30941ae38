"""The issuer of access tokens."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta

from keyfob.base import base64url
from keyfob.base.clock import to_seconds
from keyfob.base.errors import Cause, Denied, InvalidRequest
from keyfob.base.identifiers import Position, Timeline, TokenId
from keyfob.jwt import jws
from keyfob.jwt.claims import read_claims
from keyfob.tokens.access_token import ACCESS_TOKEN_TYPE, AccessToken, encode_claims
from keyfob.tokens.grant import Grant
from keyfob.tokens.rules import access_lifetime

_TOKEN_ID = 16  # bytes: 128 random bits make a jti unique


class Issuer:
    """Issues access tokens: signs what a grant says. No I/O."""

    def __init__(self, issuer: str, *, signer: Callable[[], jws.SigningKey], lifetime: timedelta) -> None:
        self._issuer = issuer
        self._signer = signer
        self._lifetime = lifetime

    def issue(
        self,
        grant: Grant,
        *,
        as_of: Position,
        timeline: Timeline,
        now: datetime,
        lifetime: timedelta | None = None,
    ) -> AccessToken:
        """Issue an access token at *now*, for *lifetime* (the deployment's by default) and never past the end of the grant.

        *as_of* is the smallest of everything that the token is made from (design.md, precondition 3).

        Raises:
            Denied: `expired` if the grant has less than a second left.
            InvalidRequest: `unfit_claims`, for roles, audiences or claims of the application that no verifier would read.
        """
        issued_at = to_seconds(now)
        seconds = access_lifetime(issued_at, to_seconds(grant.ends_at), lifetime or self._lifetime)
        if seconds < 1:
            raise Denied(Cause.EXPIRED, "the grant is at its end")
        token_id = TokenId(base64url.encode(os.urandom(_TOKEN_ID)))
        payload = encode_claims(
            grant,
            issuer=self._issuer,
            token_id=token_id,
            issued_at=issued_at,
            lifetime=seconds,
            as_of=as_of,
            timeline=timeline,
        )
        if grant.claims:
            _require_readable(payload)
        text = jws.sign(payload, self._signer(), typ=ACCESS_TOKEN_TYPE)
        if len(text) > jws.MAX_TOKEN:
            raise _unfit(
                f"the token would have {len(text)} characters, and no verifier reads past {jws.MAX_TOKEN}"
            )
        return AccessToken(text=text, token_id=token_id, expires_in=seconds)


def _require_readable(payload: bytes) -> None:
    """Refuse claims of the application that a verifier refuses: better nobody gets a token than one that is malformed everywhere."""
    try:
        read_claims(payload)
    except Denied as denied:
        raise _unfit(denied.detail) from None


def _unfit(why: str) -> InvalidRequest:
    return InvalidRequest("unfit_claims", f"an access token cannot say this: {why}", status=422)
