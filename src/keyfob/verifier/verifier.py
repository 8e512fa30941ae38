"""The verifier: checks credentials in a resource server, in about a microsecond and without asking anybody."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from datetime import timedelta
from types import TracebackType
from typing import Literal, Self, Unpack

from keyfob.base.clock import Clock, SystemClock
from keyfob.base.errors import AuthorityUnavailable, Cause, ConfigurationError, Denied
from keyfob.base.events import Event
from keyfob.base.opaque import kind_of
from keyfob.base.principal import Principal
from keyfob.verifier.checker import Checker
from keyfob.verifier.feed_view import FeedView
from keyfob.verifier.following import Following
from keyfob.verifier.forking import call_in_forked_child
from keyfob.verifier.guard import Guard
from keyfob.verifier.jwks_source import JwksSource
from keyfob.verifier.metrics import exposition
from keyfob.verifier.session_cache import CachedSession
from keyfob.verifier.session_uses import SessionUses
from keyfob.verifier.settings import (
    FollowOptions,
    FollowSettings,
    OnStale,
    audiences_of,
    require_audiences,
)
from keyfob.verifier.stats import VerifierStats, stats_of

_ASKED = frozenset({Cause.UNKNOWN_SESSION, Cause.STALE_CLAIMS, Cause.VERIFIER_STALE})


class Verifier:
    """Checks credentials of one issuer for one service. Every method may be called from any thread, and none but `authenticate_blocking` waits."""

    def __init__(
        self,
        *,
        issuer: str,
        audiences: frozenset[str] | None,
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
        """Refused checks, and guards that ended, by cause."""
        self._keys = keys
        self._view = view
        self._clock = clock
        self._settings = settings
        self._on_event = on_event or _log_nowhere
        self._on_stale: OnStale = settings.on_stale if settings else "deny"
        self._uses = SessionUses()
        self._checker = Checker(
            issuer=issuer,
            audiences=audiences,
            keys=keys,
            view=view,
            uses=self._uses,
            settings=settings,
            on_miss=self._restart_after_fork,
        )
        self._lock = threading.Lock()
        self._following: Following | None = None
        self._process = 0
        self._hooked = False

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

    @property
    def follows(self) -> bool:
        """Whether it follows a feed, and so must be started."""
        return self._settings is not None

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
                settings,
                keys=self._keys,
                view=self._view,
                uses=self._uses,
                clock=self._clock,
                on_event=self._on_event,
                bound=lambda: self._checker.bound,
            )
            self._process = os.getpid()
            self._following.start()
            if not self._hooked:
                self._hooked = True
                call_in_forked_child(weakref.WeakMethod(self._forget_threads))

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
            return self._checker.check(token, max_staleness, on_stale, max_auth_age, roles, scopes)
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
        source: str = "",
    ) -> Principal:
        """Check *token* as `verify` does, and ask the authority where memory does not answer.

        It is asked about a session token that is not cached, or whose claims have changed; and with `on_stale="introspect"` about any
        credential while the verifier is stale. Whoever asks about one token at the same time shares one request. *source* is who
        presents it (an address): each may make the authority be asked only so often about tokens that are nobody's.

        Raises:
            Denied: the first cause in the order of contract.md.
            RateLimited: *source* brought too many tokens that are nobody's.
            AuthorityUnavailable: the authority does not answer, or too many are being asked about.
        """
        try:
            answer = self._begin(token, max_staleness, on_stale, max_auth_age, roles, scopes, source)
            if isinstance(answer, Principal):
                return answer
            # Shielded: who gives up waiting must not take the answer from the others.
            cached = await asyncio.shield(asyncio.wrap_future(answer))
            return self._checker.finish(token, cached, max_auth_age, roles, scopes)
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
        source: str = "",
    ) -> Principal:
        """Do as `authenticate`, for callers without an event loop: waits for the authority's answer.

        Raises:
            Denied: the first cause in the order of contract.md.
            RateLimited: *source* brought too many tokens that are nobody's.
            AuthorityUnavailable: the authority does not answer, or too many are being asked about.
        """
        try:
            answer = self._begin(token, max_staleness, on_stale, max_auth_age, roles, scopes, source)
            if isinstance(answer, Principal):
                return answer
            return self._checker.finish(token, answer.result(), max_auth_age, roles, scopes)
        except Denied as denied:
            self.denials[denied.code] += 1
            raise

    def guard(
        self,
        principal: Principal,
        *,
        max_staleness: timedelta | None = None,
        task: asyncio.Task[object] | None = None,
    ) -> Guard:
        """Return a guard that cancels the task inside it when *principal* is covered, expires, or cannot be vouched for any longer.

        *max_staleness* is how long no level heartbeat is borne; by default that of the verifier (with `accept`, its bound). *task* is what
        it cancels, by default the task that enters it.
        """
        limit = self._checker.limit
        if max_staleness is not None:
            limit = max_staleness.total_seconds()
            self._checker.widest = max(self._checker.widest, limit)
        elif self._settings is not None and self._on_stale == "accept" and self._settings.accept_within:
            limit = self._settings.accept_within.total_seconds()
        return Guard(
            principal, view=self._view, limit=limit, verify=self.verify, task=task, denied=self._count
        )

    @property
    def is_level(self) -> bool:
        """Whether the verifier is level within its own `max_staleness`: ready to serve. Without a feed it always is."""
        return self._view.time.now() - self._view.level_at <= self._checker.limit

    @property
    def staleness(self) -> float:
        """Seconds since the verifier was level with the feed, by the authority's clock; infinity while it is not."""
        return self._view.staleness()

    def stats(self) -> VerifierStats:
        """Say where the verifier stands and what it did so far."""
        return stats_of(self._view, self._checker, self._following, denials=self.denials)

    def metrics(self) -> str:
        """Return what `stats` says in Prometheus's text format, for whatever answers `/metrics` in this process."""
        return exposition(self.stats())

    def _count(self, cause: Cause) -> None:
        self.denials[cause.value] += 1

    def _begin(
        self,
        token: str,
        max_staleness: timedelta | None,
        on_stale: OnStale | None,
        max_auth_age: timedelta | None,
        roles: Collection[str] | None,
        scopes: Collection[str] | None,
        source: str,
    ) -> Principal | Future[CachedSession]:
        """Answer from memory, or begin to ask."""
        word = on_stale or self._on_stale
        in_memory = "deny" if word == "introspect" else on_stale
        try:
            return self._checker.check(token, max_staleness, in_memory, max_auth_age, roles, scopes)
        except Denied as denied:
            if self._settings is None or denied.cause not in _ASKED:
                raise
            is_stale = denied.cause is Cause.VERIFIER_STALE
            if is_stale and word != "introspect":
                raise
            if not is_stale and kind_of(token) is None:
                raise
        if not is_stale and word != "introspect":
            self._checker.require_level(max_staleness, in_memory)
        return self._running().ask(token, source=source)

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
        self._checker.verdicts.clear()
        self._uses.clear()


def _log_nowhere(event: Event) -> None:
    """Take an event that nobody wants to hear of."""
