"""The verifier: checks credentials in a resource server, in about a microsecond and without asking anybody.

A check, in this order; the first that fails names the cause (contract.md):

1. signature and claims, once for each access token (`check_access_token`); a session token is introspected once
2. expiry, by the authority's time                                          `expired`
3. the rule: one comparison while the feed has not moved                    `revoked`, `stale_claims`
4. how long ago the verifier was level with the feed                        `verifier_stale`
5. the policy of the route                                                  `insufficient_role`, ...
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Literal, Self, TypedDict, Unpack

from keyfob.base.clock import Clock, SystemClock
from keyfob.base.errors import AuthorityUnavailable, Cause, ConfigurationError, Denied
from keyfob.base.events import Event
from keyfob.base.opaque import OPAQUE_TOKEN_LENGTH, OpaqueKind, kind_of
from keyfob.base.principal import Principal
from keyfob.verifier.feed_view import FeedView
from keyfob.verifier.following import Following
from keyfob.verifier.guard import Guard
from keyfob.verifier.jwks_source import JwksSource
from keyfob.verifier.policy import require
from keyfob.verifier.session_cache import CachedSession, SessionCache
from keyfob.verifier.settings import (
    FollowSettings,
    OnStale,
    audiences_of,
    require_audiences,
    require_on_stale,
)
from keyfob.verifier.stats import VerifierStats
from keyfob.verifier.token_check import check_access_token
from keyfob.verifier.verdict_cache import Verdict, VerdictCache

_OFFLINE_VERDICTS = 20_000
_FROM_CACHE = "verdict cache"
_FROM_SESSIONS = "session cache"
_ASKED = frozenset({Cause.UNKNOWN_SESSION, Cause.STALE_CLAIMS, Cause.VERIFIER_STALE})
_OPAQUE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


class FollowOptions(TypedDict, total=False):
    """What `Verifier.follow` takes besides issuer and audience; `FollowSettings` says what each is."""

    credentials: tuple[str, str] | None
    feed_url: str | None
    ca: str | None
    max_staleness: timedelta
    on_stale: OnStale
    accept_within: timedelta | None
    heartbeat: timedelta
    max_cache_age: timedelta
    touch_interval: timedelta
    start_timeout: timedelta
    request_timeout: timedelta
    verdicts: int
    sessions: int


class Verifier:
    """Checks credentials of one issuer for one service. Every method may be called from any thread, and none but `authenticate_blocking` waits."""

    def __init__(
        self,
        *,
        issuer: str,
        audiences: frozenset[str],
        keys: JwksSource,
        view: FeedView,
        clock: Clock,
        settings: FollowSettings | None,
        on_event: Callable[[Event], None] | None,
    ) -> None:
        """For `from_jwks` and `follow`, which say what goes together."""
        self.issuer = issuer
        self.audiences = audiences
        self.denials: Counter[str] = Counter()
        """Refused checks by cause."""
        self.verdict_hits = 0
        self.verdict_misses = 0
        self._keys = keys
        self._view = view
        self._clock = clock
        self._settings = settings
        self._on_event = on_event or _log_nowhere
        self._verdicts = VerdictCache(settings.verdicts if settings else _OFFLINE_VERDICTS)
        self._sessions = SessionCache(settings.sessions if settings else 2)
        self._limit = settings.max_staleness.total_seconds() if settings else math.inf
        self._on_stale: OnStale = settings.on_stale if settings else "deny"
        self._lock = threading.Lock()
        self._following: Following | None = None
        self._process = 0
        self._hooked = False
        keys.when_removed(self._verdicts.clear)

    @classmethod
    def from_jwks(
        cls,
        jwks: Mapping[str, object] | bytes,
        *,
        issuer: str,
        audience: str | Collection[str],
        clock: Clock | None = None,
    ) -> Self:
        """Return a verifier of the given keys that follows no feed: it knows of no revocation.

        Raises:
            ConfigurationError: *jwks* is no set of public keys, or no audience is given.
        """
        audiences = audiences_of(audience)
        require_audiences(audiences)
        clock = clock or SystemClock()
        try:
            keys = JwksSource.of(jwks)
        except ValueError as error:
            raise ConfigurationError(f"jwks cannot be used: {error}") from None
        return cls(
            issuer=issuer,
            audiences=audiences,
            keys=keys,
            view=FeedView.offline(clock),
            clock=clock,
            settings=None,
            on_event=None,
        )

    @classmethod
    def follow(
        cls,
        issuer: str,
        *,
        audience: str | Collection[str],
        clock: Clock | None = None,
        on_event: Callable[[Event], None] | None = None,
        **options: Unpack[FollowOptions],
    ) -> Self:
        """Return a verifier that follows the feed of *issuer*, which is also its address.

        `async with` or `with` starts it and waits until it is level; or call `start` and `close`. It may be made, and started, before a
        fork: the child starts readers of its own. *on_event* is told of resynchronisations and of a forked feed, from any thread.

        Raises:
            ConfigurationError: an option does not fit; `FollowSettings` says what each is.
        """
        settings = FollowSettings(issuer=issuer, audiences=audiences_of(audience), **options)
        clock = clock or SystemClock()
        return cls(
            issuer=issuer,
            audiences=settings.audiences,
            keys=JwksSource(),
            view=FeedView(clock),
            clock=clock,
            settings=settings,
            on_event=on_event,
        )

    # Starting and ending

    def start(self) -> None:
        """Start to follow the feed, in daemon threads, without waiting. Twice is once; after `close` it begins anew.

        Raises:
            ConfigurationError: this verifier follows no feed, or `ca` cannot be read.
        """
        settings = self._settings
        if settings is None:
            raise ConfigurationError("a verifier made from keys alone follows no feed: use Verifier.follow")
        with self._lock:
            if self._following is not None and self._process == os.getpid():
                return
            self._following = Following(
                settings, keys=self._keys, view=self._view, clock=self._clock, on_event=self._on_event
            )
            self._process = os.getpid()
            self._following.start()
            if not self._hooked:
                self._hooked = True
                os.register_at_fork(after_in_child=_Forked(self))

    def close(self) -> None:
        """Stop following, within about two seconds. Twice is once."""
        with self._lock:
            following, self._following = self._following, None
        if following is not None and self._process == os.getpid():
            following.close()

    def wait_until_level(self) -> None:
        """Wait until the verifier is level with the feed.

        Raises:
            ConfigurationError: the authority refuses the credentials.
            AuthorityUnavailable: it took longer than `start_timeout`; the message says what to look at.
        """
        self._running().wait_until_level()

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_until_level()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.close)

    # Checking

    def verify(
        self,
        token: str,
        *,
        max_staleness: timedelta | None = None,
        on_stale: Literal["deny", "accept"] | None = None,
        max_auth_age: timedelta | None = None,
        roles: Collection[str] | None = None,
        scopes: Collection[str] | None = None,
    ) -> Principal:
        """Check *token* in memory: no I/O, no waiting.

        *roles* and *scopes* mean all of them. At exactly *max_staleness* and *max_auth_age* it passes. A session token is answered from
        the cache alone: one that is not there is `unknown_session`, and `authenticate` finds out.

        Raises:
            Denied: the first cause in the order of contract.md.
            ConfigurationError: `on_stale="accept"` without `accept_within`, or a word that it does not take.
        """
        try:
            return self._check(token, max_staleness, on_stale, max_auth_age, roles, scopes)
        except Denied as denied:
            self.denials[denied.code] += 1
            raise

    async def authenticate(
        self,
        token: str,
        *,
        max_staleness: timedelta | None = None,
        on_stale: OnStale | None = None,
        max_auth_age: timedelta | None = None,
        roles: Collection[str] | None = None,
        scopes: Collection[str] | None = None,
    ) -> Principal:
        """Check *token* as `verify` does, and ask the authority where memory does not answer.

        It is asked about a session token that is not cached, or whose claims have changed; and with `on_stale="introspect"` about any
        credential while the verifier is stale. Whoever asks about one token at the same time shares one request.

        Raises:
            Denied: the first cause in the order of contract.md.
            AuthorityUnavailable: the authority does not answer, or too many are being asked about.
        """
        try:
            answer = self._begin(token, max_staleness, on_stale, max_auth_age, roles, scopes)
            if isinstance(answer, Principal):
                return answer
            # Shielded: who gives up waiting must not take the answer from the others.
            cached = await asyncio.shield(asyncio.wrap_future(answer))
            return self._finish(token, cached, max_auth_age, roles, scopes)
        except Denied as denied:
            self.denials[denied.code] += 1
            raise

    def authenticate_blocking(
        self,
        token: str,
        *,
        max_staleness: timedelta | None = None,
        on_stale: OnStale | None = None,
        max_auth_age: timedelta | None = None,
        roles: Collection[str] | None = None,
        scopes: Collection[str] | None = None,
    ) -> Principal:
        """Do as `authenticate`, for callers without an event loop: waits for the authority's answer.

        Raises:
            Denied: the first cause in the order of contract.md.
            AuthorityUnavailable: the authority does not answer, or too many are being asked about.
        """
        try:
            answer = self._begin(token, max_staleness, on_stale, max_auth_age, roles, scopes)
            if isinstance(answer, Principal):
                return answer
            return self._finish(token, answer.result(), max_auth_age, roles, scopes)
        except Denied as denied:
            self.denials[denied.code] += 1
            raise

    def guard(self, principal: Principal, *, max_staleness: timedelta | None = None) -> Guard:
        """Return a guard that cancels the task inside it when *principal* is covered, expires, or cannot be vouched for any longer.

        *max_staleness* is how long no level heartbeat is borne; by default that of the verifier (with `accept`, its bound).
        """
        return Guard(principal, view=self._view, limit=self._guard_limit(max_staleness), verify=self.verify)

    @property
    def is_level(self) -> bool:
        """Whether the verifier is level within its own `max_staleness`: ready to serve. Without a feed it always is."""
        return self._view.time.now() - self._view.level_at <= self._limit

    @property
    def staleness(self) -> float:
        """Seconds since the verifier was level with the feed, by the authority's clock; infinity while it is not."""
        return self._view.staleness()

    def stats(self) -> VerifierStats:
        """Say where the verifier stands and what it did so far."""
        view, following = self._view, self._following
        return VerifierStats(
            staleness=view.staleness(),
            position=view.live.head.position,
            live=len(view.live),
            clock_offset=view.time.offset,
            round_trip=view.time.round_trip,
            lag_count=view.lag.count,
            lag_total=view.lag.total,
            lag_longest=view.lag.longest,
            lag_buckets=tuple(view.lag.buckets),
            denials=dict(self.denials),
            verdicts=len(self._verdicts),
            verdict_hits=self.verdict_hits,
            verdict_misses=self.verdict_misses,
            sessions=len(self._sessions),
            introspections=following.introspection.asked if following else 0,
            connections=following.reader.connections if following else 0,
            resyncs=following.reader.resyncs if following else 0,
            forged_as_of=view.live.forged_as_of,
        )

    # Positional, and in the order of `verify`: this is the hot path.
    def _check(
        self,
        token: str,
        max_staleness: timedelta | None,
        on_stale: str | None,
        max_auth_age: timedelta | None,
        roles: Collection[str] | None,
        scopes: Collection[str] | None,
    ) -> Principal:
        view = self._view
        now = view.time.now()
        verdict = self._verdicts.get(token)
        if verdict is None:
            principal = self._look_up(token, now)
        else:
            if now >= verdict.fresh_until:
                raise Denied(Cause.EXPIRED, f"at {verdict.fresh_until:.0f}, now is {now:.0f}")
            changes = view.live.changes  # before the look-up: precondition 10
            if verdict.checked != changes:
                self._recheck(verdict, changes)
            principal = verdict.principal
            self.verdict_hits += 1
        limit = self._limit if max_staleness is None else max_staleness.total_seconds()
        if now - view.level_at > limit:
            self._bear(now, on_stale)
        if roles or scopes or max_auth_age is not None:
            require(principal, now, roles=roles or (), scopes=scopes or (), max_auth_age=max_auth_age)
        return principal

    def _look_up(self, token: str, now: float) -> Principal:
        """Find the principal of a token that has no verdict yet."""
        self._restart_after_fork()
        if self._view.follows and self._view.last_level_at == -math.inf:
            raise Denied(Cause.VERIFIER_STALE, "not level with the feed yet")
        if kind_of(token) is not None:
            return self._look_up_session(token, now)
        self.verdict_misses += 1
        keys = self._keys.access
        try:
            principal = check_access_token(
                token, keys=keys, issuer=self.issuer, audiences=self.audiences, now=now
            )
        except Denied as denied:
            if denied.cause is Cause.UNKNOWN_KEY:
                self._keys.want()
            raise
        self._require_uncovered(principal)
        self._verdicts.put(token, Verdict(principal))
        if self._keys.access is not keys:  # one of them may have been taken away meanwhile
            self._verdicts.forget(token)
        return principal

    def _look_up_session(self, token: str, now: float) -> Principal:
        """Answer a session token from the cache."""
        if kind_of(token) is OpaqueKind.REFRESH:
            raise Denied(Cause.WRONG_TYPE, "a refresh token is no credential for requests")
        if len(token) != OPAQUE_TOKEN_LENGTH or not _OPAQUE.issuperset(token):
            raise Denied(Cause.MALFORMED, "not an opaque token")
        cached = self._sessions.get(token)
        if cached is None:
            raise Denied(Cause.UNKNOWN_SESSION, "not in the cache: authenticate asks the authority")
        if now >= cached.expires_at:
            raise Denied(Cause.EXPIRED, "at its absolute end")
        changes = self._view.live.changes
        if cached.checked != changes:
            self._require_uncovered(cached.principal)
            if self._view.live.is_settled(cached.principal):
                cached.checked = changes
        if now >= cached.fresh_until:
            raise Denied(Cause.UNKNOWN_SESSION, "no longer in the cache: authenticate asks the authority")
        if now >= cached.report_at:
            self._note_use(cached, now)
        return cached.principal

    def _recheck(self, verdict: Verdict, changes: int) -> None:
        """Apply the rule to a verdict from before the feed moved."""
        self._require_uncovered(verdict.principal)
        if verdict.principal.path != _FROM_CACHE:
            verdict.principal = replace(verdict.principal, path=_FROM_CACHE)
        if self._view.live.is_settled(verdict.principal):
            verdict.checked = changes

    def _require_uncovered(self, principal: Principal) -> None:
        live = self._view.live
        cause = live.cause(principal)
        if cause is not None:
            raise Denied(cause, f"covered by the feed, which reaches position {live.head.position}")

    def _bear(self, now: float, on_stale: str | None) -> None:
        """Bear that the verifier is stale, or refuse."""
        view = self._view
        word = on_stale or self._on_stale
        bound = self._settings.accept_within if self._settings else None
        if on_stale is not None:
            require_on_stale(on_stale, bound)
        if word == "accept" and bound is not None and now - view.last_level_at <= bound.total_seconds():
            return
        if not view.follows:
            raise Denied(Cause.VERIFIER_STALE, "this verifier follows no feed")
        raise Denied(Cause.VERIFIER_STALE, f"last level with the feed {now - view.last_level_at:.1f} s ago")

    def _begin(
        self,
        token: str,
        max_staleness: timedelta | None,
        on_stale: OnStale | None,
        max_auth_age: timedelta | None,
        roles: Collection[str] | None,
        scopes: Collection[str] | None,
    ) -> Principal | Future[CachedSession]:
        """Answer from memory, or begin to ask."""
        word = on_stale or self._on_stale
        in_memory = "deny" if word == "introspect" else on_stale
        try:
            return self._check(token, max_staleness, in_memory, max_auth_age, roles, scopes)
        except Denied as denied:
            if self._settings is None or denied.cause not in _ASKED:
                raise
            is_stale = denied.cause is Cause.VERIFIER_STALE
            if is_stale and word != "introspect":
                raise
            if not is_stale and kind_of(token) is None:
                raise
        if not is_stale and word != "introspect":
            self._require_level(max_staleness, in_memory)
        return self._running().ask(token)

    def _require_level(self, max_staleness: timedelta | None, on_stale: str | None) -> None:
        """Refuse a session that would have to be asked about where the route does not bear that the verifier is stale."""
        now = self._view.time.now()
        if now - self._view.level_at > (
            self._limit if max_staleness is None else max_staleness.total_seconds()
        ):
            self._bear(now, on_stale)

    def _finish(
        self,
        token: str,
        cached: CachedSession,
        max_auth_age: timedelta | None,
        roles: Collection[str] | None,
        scopes: Collection[str] | None,
    ) -> Principal:
        """Apply what memory knows to what the authority answered, and keep it."""
        now = self._view.time.now()
        principal = cached.principal
        self._require_uncovered(principal)
        if now >= cached.expires_at:
            raise Denied(Cause.EXPIRED, "at its absolute end")
        if kind_of(token) is not None and self._sessions.get(token) is not cached:
            self._note_use(cached, now)
            cached.principal = replace(principal, path=_FROM_SESSIONS)
            self._sessions.put(token, cached)
        require(principal, now, roles=roles or (), scopes=scopes or (), max_auth_age=max_auth_age)
        return principal

    def _note_use(self, cached: CachedSession, now: float) -> None:
        following, settings = self._following, self._settings
        session_id = cached.principal.session_id
        if following is None or settings is None or session_id is None:
            return
        cached.report_at = now + settings.touch_interval.total_seconds()
        following.uses.note(session_id, now)

    def _guard_limit(self, max_staleness: timedelta | None) -> float:
        if max_staleness is not None:
            return max_staleness.total_seconds()
        if self._settings is not None and self._on_stale == "accept" and self._settings.accept_within:
            return self._settings.accept_within.total_seconds()
        return self._limit

    def _running(self) -> Following:
        self._restart_after_fork()
        following = self._following
        if following is None:
            raise AuthorityUnavailable("the verifier is not started: use 'with', 'async with' or start()")
        return following

    def _restart_after_fork(self) -> None:
        """Start anew in a process that has none of the threads."""
        if self._following is not None and self._process != os.getpid():
            self.start()

    def _forget_threads(self) -> None:
        """Make the locks anew in a forked child, and let the next check see that it runs in another process."""
        self._lock = threading.Lock()
        self._view.renew_locks()
        self._verdicts.clear()


class _Forked:
    """What runs in a forked child, for as long as the verifier lives."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = weakref.ref(verifier)

    def __call__(self) -> None:
        verifier = self._verifier()
        if verifier is not None:
            verifier._forget_threads()


def _log_nowhere(event: Event) -> None:
    """Take an event that nobody wants to hear of."""
