"""Asking the authority what a token is worth: once for all who ask at the same time, and never too many at once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from types import MappingProxyType

import msgspec

from keyfob.base.errors import AuthorityUnavailable, Cause, ConfigurationError, Denied
from keyfob.base.identifiers import (
    ClientId,
    Position,
    SessionId,
    Strategy,
    Subject,
    Timeline,
    TokenId,
)
from keyfob.base.principal import Principal
from keyfob.jwt.jws import MAX_TOKEN
from keyfob.verifier.authority_client import AuthorityClient
from keyfob.verifier.generations import Generations
from keyfob.verifier.server_time import ServerTime
from keyfob.verifier.session_cache import CachedSession
from keyfob.verifier.sources import Sources

MAX_IN_FLIGHT = 256  # tokens asked about or waiting: past that the answer is 503, not a longer queue
_CONNECTIONS = 8  # asked about at once
_UNKNOWN_FOR = 5.0  # seconds for which "unknown" is remembered: a token never becomes known later
_UNKNOWN_KEPT = 10_000  # tokens


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An active answer (RFC 7662, section 2.2) with our members: as_of, tl, sid, psid, pcid, roles, strategy, idle_exp."""

    sub: str
    client_id: str
    exp: int
    as_of: int
    iat: int
    aud: str | list[str] = ""
    iss: str = ""
    tl: str | None = None
    sid: str | None = None
    psid: str | None = None
    pcid: str | None = None
    jti: str | None = None
    strategy: Strategy | None = None
    scope: str = ""
    roles: list[str] = []
    auth_time: int | None = None
    amr: list[str] = []
    acr: str | None = None
    idle_exp: int | None = None


_KNOWN = frozenset({*_Answer.__struct_fields__, "active", "token_type"})


class Introspection:
    """Asks one authority, on threads of its own. `ask` gives a future: await it, or wait for it."""

    def __init__(
        self,
        client: AuthorityClient,
        *,
        issuer: str,
        audiences: Collection[str] | None,
        time: ServerTime,
        sources: Sources,
        max_cache_age: float,
    ) -> None:
        self.asked = 0
        self._client = client
        self._issuer = issuer
        self._audiences = None if audiences is None else frozenset(audiences)
        self._time = time
        self._sources = sources
        self._max_cache_age = max_cache_age
        self._lock = threading.Lock()
        self._in_flight: dict[str, Future[CachedSession]] = {}
        self._unknown: Generations[bytes, float] = Generations(_UNKNOWN_KEPT)
        self._pool = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="keyfob-introspect")

    def ask(self, token: str, *, source: str = "") -> Future[CachedSession]:
        """Return the answer about *token* to come; whoever asks meanwhile gets the same. *source* is who wants to know, empty for nobody in particular.

        The future raises `Denied` (`unknown_session` where the token is not active, `wrong_audience`) or `AuthorityUnavailable`.

        Raises:
            Denied: `unknown_session`, where it was that a moment ago; `malformed`, where it can be no token.
            RateLimited: *source* asks about too much, or about too many tokens that are nobody's.
            AuthorityUnavailable: too many are being asked about.
        """
        if not 0 < len(token) <= MAX_TOKEN or not token.isascii():
            raise Denied(Cause.MALFORMED, f"not 1 to {MAX_TOKEN} ASCII characters")
        until = self._unknown.get(_digest(token))
        if until is not None and self._time.now() < until:
            raise Denied(Cause.UNKNOWN_SESSION, "not active a moment ago")
        with self._lock:
            future = self._in_flight.get(token)
            if future is not None:
                return future
            if len(self._in_flight) >= MAX_IN_FLIGHT:
                raise AuthorityUnavailable("too many introspections are under way")
            self._sources.begin(source)
            try:
                future = self._in_flight[token] = self._pool.submit(self._ask, token)
            except RuntimeError:
                self._sources.end(source, unknown=0)
                raise AuthorityUnavailable("the verifier is closed") from None
            self.asked += 1
        future.add_done_callback(lambda done: self._done(token, source, done))
        return future

    def close(self) -> None:
        """Take no more. Those that wait get their answer, or hear that there is none."""
        self._pool.shutdown(wait=False)

    def _done(self, token: str, source: str, done: Future[CachedSession]) -> None:
        with self._lock:
            self._in_flight.pop(token, None)
        error = None if done.cancelled() else done.exception()
        is_unknown = isinstance(error, Denied) and error.cause is Cause.UNKNOWN_SESSION
        self._sources.end(source, unknown=int(is_unknown))

    def _ask(self, token: str) -> CachedSession:
        before = self._time.now()
        try:
            raw = self._client.introspect(token)
        except ConfigurationError as error:  # at this moment it is an answer that does not come
            raise AuthorityUnavailable(str(error)) from None
        answer = _read(raw)
        if answer is None:
            self._unknown.put(_digest(token), self._time.now() + _UNKNOWN_FOR)
            raise Denied(Cause.UNKNOWN_SESSION, "the authority says that it is not active")
        principal = _principal(*answer)
        if answer[0].iss not in {"", self._issuer}:
            raise Denied(Cause.WRONG_ISSUER, f"not of {self._issuer}")
        if self._audiences is not None and self._audiences.isdisjoint(principal.audience):
            raise Denied(Cause.WRONG_AUDIENCE, "for other services")
        idle_at = answer[0].idle_exp
        return CachedSession(
            principal,
            cached_at=before,
            stale_at=before + self._max_cache_age,
            idle_at=None if idle_at is None else float(idle_at),
        )


def _digest(token: str) -> bytes:
    """Return what stands for *token* in memory: tokens of any size take the same room, and none is kept."""
    return hashlib.sha256(token.encode()).digest()


def _read(raw: bytes) -> tuple[_Answer, Mapping[str, object]] | None:
    """Return the answer and the claims that have no field of their own; None if the token is not active."""
    try:
        members = msgspec.json.decode(raw, type=dict[str, object])
        if members.get("active") is not True:
            return None
        answer = msgspec.convert(members, type=_Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise AuthorityUnavailable("the authority's introspection cannot be read") from None
    return answer, MappingProxyType({name: value for name, value in members.items() if name not in _KNOWN})


def _principal(answer: _Answer, claims: Mapping[str, object]) -> Principal:
    return Principal(
        subject=Subject(answer.sub),
        client_id=ClientId(answer.client_id),
        strategy=answer.strategy,
        audience=(answer.aud,) if isinstance(answer.aud, str) else tuple(answer.aud),
        issued_at=_moment(answer.iat),
        expires_at=_moment(answer.exp),
        as_of=Position(answer.as_of),
        session_id=None if answer.sid is None else SessionId(answer.sid),
        roles=frozenset(answer.roles),
        scopes=frozenset(answer.scope.split()),
        auth_time=None if answer.auth_time is None else _moment(answer.auth_time),
        amr=tuple(answer.amr),
        acr=answer.acr,
        claims=claims,
        timeline=None if answer.tl is None else Timeline(answer.tl),
        token_id=None if answer.jti is None else TokenId(answer.jti),
        parent_session_id=None if answer.psid is None else SessionId(answer.psid),
        parent_client_id=None if answer.pcid is None else ClientId(answer.pcid),
        path="introspection",
    )


def _moment(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        raise AuthorityUnavailable("the authority's introspection names an impossible moment") from None
