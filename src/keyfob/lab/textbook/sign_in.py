"""Signing in, refreshing, signing out and ending somebody, in each design of the textbook."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

import msgspec

from keyfob.base.clock import Clock
from keyfob.jwt import jws
from keyfob.jwt.jwk import PrivateKey
from keyfob.lab.asgi import Refused
from keyfob.lab.setups import Design
from keyfob.lab.textbook.checks import AUDIENCE, Claims, digest
from keyfob.lab.textbook.records import Kind, Records, Taken

SESSION_SECONDS = 12 * 3600.0
REFRESH_SECONDS = 14 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What a login or a refresh gives; empty is none."""

    session_token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    access_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """The issuing side of one design. The designs that keep nothing on the server have no *records*."""

    design: Design
    issuer: str
    key: PrivateKey = field(repr=False)
    access_seconds: float
    records: Records | None
    clock: Clock

    async def log_in(self, subject: str) -> Granted:
        """Give a fresh credential to *subject*."""
        if self.design == "session":
            token = _random()
            await self._add("session", digest(token), subject=subject, family="", seconds=SESSION_SECONDS)
            return Granted(session_token=token)
        if self.design == "hybrid":
            return await self._refreshable(subject, family=_random())
        return Granted(access_token=await self._access_token(subject))

    async def refresh(self, refresh_token: str) -> Granted:
        """Rotate a refresh token (RFC 9700, section 4.14.2): each is good once, and one that comes again ends its family.

        Raises:
            Refused: it is not good; `reused` for one that came again.
        """
        taken = await self._take(refresh_token)
        if taken is None:
            raise Refused("unknown_session")
        if not taken.first:
            await self._kept().end_family("refresh", taken.family)
            raise Refused("reused")
        return await self._refreshable(taken.subject, family=taken.family)

    async def log_out(self, *, session_token: str, refresh_token: str, claims: Claims | None) -> None:
        """End what the design can end: the session, the family of the refresh token, or the one access token by its id."""
        if self.design == "session" and session_token:
            await self._kept().end("session", digest(session_token))
        if self.design == "hybrid" and refresh_token:
            taken = await self._take(refresh_token)
            if taken is not None:
                await self._kept().end_family("refresh", taken.family)
        if self.design == "blocklist" and claims is not None:
            await self._kept().add(
                "blocked", claims.jti, subject=claims.sub, family="", expires_at=float(claims.exp)
            )

    async def end(self, subject: str) -> None:
        """End everything of *subject* that the design can end."""
        match self.design:
            case "session":
                await self._kept().end_subject("session", subject)
            case "hybrid":
                await self._kept().end_subject("refresh", subject)
            case "blocklist":
                await self._kept().block_subject(subject)
            case "jwt":  # nothing is kept, and so nothing can be ended; the desk refuses further logins
                return

    async def _refreshable(self, subject: str, *, family: str) -> Granted:
        token = _random()
        await self._add("refresh", digest(token), subject=subject, family=family, seconds=REFRESH_SECONDS)
        return Granted(refresh_token=token, access_token=await self._access_token(subject))

    async def _access_token(self, subject: str) -> str:
        now = self.clock.time()
        claims = Claims(
            iss=self.issuer,
            sub=subject,
            aud=AUDIENCE,
            iat=int(now),
            exp=int(now + self.access_seconds),
            jti=_random(),
        )
        if self.design == "blocklist":  # to end everything of a subject its token ids have to be known
            await self._kept().add(
                "issued", claims.jti, subject=subject, family="", expires_at=float(claims.exp)
            )
        return jws.sign(msgspec.json.encode(claims), self.key, typ="JWT")

    async def _add(self, kind: Kind, key: str, *, subject: str, family: str, seconds: float) -> None:
        await self._kept().add(
            kind,
            key,
            subject=subject,
            family=family,
            expires_at=self.clock.time() + seconds,
        )

    async def _take(self, refresh_token: str) -> Taken | None:
        return await self._kept().take("refresh", digest(refresh_token), now=self.clock.time())

    def _kept(self) -> Records:
        assert self.records is not None
        return self.records


def _random() -> str:
    # The textbook's way, 256 bits; Keyfob's own tokens come from `OpaqueToken.mint` alone.
    return secrets.token_urlsafe(32)
