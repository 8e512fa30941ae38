"""How each design of the textbook checks one request."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from keyfob.base.clock import Clock
from keyfob.base.errors import Denied
from keyfob.base.identifiers import KeyId
from keyfob.jwt import jws
from keyfob.jwt.jwk import PublicKey
from keyfob.lab.asgi import Refused, Request
from keyfob.lab.setups import Design
from keyfob.lab.textbook.records import Kind, Records, RecordsUnavailable

AUDIENCE = "shop"
SESSION_COOKIE = "sid"
REFRESH_COOKIE = "refresh"


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a textbook JWT says (RFC 7519, section 4.1); moments are whole seconds since the epoch."""

    iss: str
    sub: str
    aud: str
    iat: int
    exp: int
    jti: str


class Check(Protocol):
    """Says whose request it is."""

    async def subject(self, request: Request) -> str:
        """Return the subject.

        Raises:
            Refused: the credential is not good, or (503) it could not be found out.
        """
        ...


def digest(token: str) -> str:
    """Return what the store holds in place of *token*."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class SessionCheck:
    """The session design: the cookie's digest is looked up in the store on every request."""

    records: Records
    clock: Clock

    async def subject(self, request: Request) -> str:
        """See `Check`."""
        token = request.cookie(SESSION_COOKIE)
        if not token:
            raise Refused("no_credential")
        subject = await _found(self.records, "session", digest(token), now=self.clock.time())
        if subject is None:
            raise Refused("unknown_session")
        return subject


@dataclass(frozen=True, slots=True)
class JwtCheck:
    """The JWT design: signature, issuer, audience and expiry on every request, and nobody is asked."""

    keys: Mapping[KeyId, PublicKey]
    issuer: str
    clock: Clock

    async def subject(self, request: Request) -> str:
        """See `Check`."""
        return self.claims(request).sub

    def claims(self, request: Request) -> Claims:
        """Return the claims of a token that is good.

        Raises:
            Refused: it is not.
        """
        token = request.bearer()
        if not token:
            raise Refused("no_credential")
        try:
            claims = msgspec.json.decode(jws.verify(token, self.keys, typ="jwt"), type=Claims)
        except Denied as denied:
            raise Refused(denied.code) from None
        except msgspec.DecodeError:
            raise Refused("malformed") from None
        if claims.iss != self.issuer or claims.aud != AUDIENCE:
            raise Refused("wrong_audience")
        if self.clock.time() >= claims.exp:
            raise Refused("expired")
        return claims


@dataclass(frozen=True, slots=True)
class BlocklistCheck:
    """The JWT design with a blocklist: the same, and then the token's id is looked up in the store."""

    jwt: JwtCheck
    records: Records

    async def subject(self, request: Request) -> str:
        """See `Check`."""
        claims = self.jwt.claims(request)
        blocked = await _found(self.records, "blocked", claims.jti, now=self.jwt.clock.time())
        if blocked is not None:
            raise Refused("revoked")
        return claims.sub


def check_of(design: Design, *, jwt: JwtCheck, records: Records | None, clock: Clock) -> Check:
    """Return the check of *design*; those that look something up need *records*."""
    if design in {"jwt", "hybrid"}:
        return jwt
    assert records is not None
    return SessionCheck(records, clock) if design == "session" else BlocklistCheck(jwt, records)


async def _found(records: Records, kind: Kind, key: str, *, now: float) -> str | None:
    """Look something up. A store that does not answer is no yes: 503."""
    try:
        return await records.find(kind, key, now=now)
    except RecordsUnavailable:
        raise Refused("store_unavailable", status=503) from None
