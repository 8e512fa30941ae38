"""What a verifier remembers and how it checks: no I/O, no waiting.

A check, in this order; the first that fails names the cause (contract.md):

1. signature and claims, once for each access token (`check_access_token`); a session token is introspected once
2. expiry, by the authority's time                                          `expired`
3. the rule: one comparison while the feed has not moved                    `revoked`, `stale_claims`
4. how long ago the verifier was level with the feed                        `verifier_stale`
5. the policy of the route                                                  `insufficient_role`, ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from datetime import timedelta

from msgspec.structs import replace

from keyfob.base.errors import Cause, Denied
from keyfob.base.opaque import OPAQUE_TOKEN_LENGTH, OpaqueKind, kind_of
from keyfob.base.principal import Principal
from keyfob.verifier.feed_view import FeedView
from keyfob.verifier.jwks_source import JwksSource
from keyfob.verifier.policy import require
from keyfob.verifier.session_cache import CachedSession, SessionCache
from keyfob.verifier.session_uses import SessionUses
from keyfob.verifier.settings import FollowSettings, OnStale, require_on_stale
from keyfob.verifier.token_check import check_access_token
from keyfob.verifier.verdict_cache import Verdict, VerdictCache

_OFFLINE_VERDICTS = 20_000
_FROM_CACHE = "verdict cache"
_FROM_SESSIONS = "session cache"
_OPAQUE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


class Checker:
    """Checks credentials of one issuer against keys, feed and caches in memory. Safe to call from any thread.

    *on_miss* is called before anything that is not in the verdict cache is looked at.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audiences: frozenset[str] | None,
        keys: JwksSource,
        view: FeedView,
        uses: SessionUses,
        settings: FollowSettings | None,
        on_miss: Callable[[], None],
    ) -> None:
        self.limit = settings.max_staleness.total_seconds() if settings else math.inf
        """Seconds for which the verifier may be stale where a route says nothing else."""
        self.widest = self.limit
        """The longest of these that any route has stated so far."""
        self.verdicts = VerdictCache(settings.verdicts if settings else _OFFLINE_VERDICTS)
        self.sessions = SessionCache(settings.sessions if settings else 2)
        self.hits = 0
        self.misses = 0
        self._issuer = issuer
        self._audiences = audiences
        self._keys = keys
        self._view = view
        self._uses = uses
        self._on_miss = on_miss
        self._on_stale: OnStale = settings.on_stale if settings else "deny"
        self._accept_within = settings.accept_within if settings else None
        self._touch_interval = settings.touch_interval.total_seconds() if settings else math.inf
        keys.when_removed(self.verdicts.clear)

    # The arguments are positional, in the order of `Verifier.verify`: this is the hot path.
    def check(
        self,
        token: str,
        max_staleness: timedelta | None,
        on_stale: str | None,
        max_auth_age: timedelta | None,
        roles: Collection[str] | None,
        scopes: Collection[str] | None,
    ) -> Principal:
        """Check *token* as `Verifier.verify` says."""
        view = self._view
        now = view.time.now()
        verdict = self.verdicts.get(token)
        if verdict is None:
            principal = self._look_up(token, now)
        else:
            if now >= verdict.fresh_until:
                raise Denied(Cause.EXPIRED, f"at {verdict.fresh_until:.0f}, now is {now:.0f}")
            changes = view.live.changes  # before the look-up: precondition 10
            if verdict.checked != changes:
                self._recheck(verdict, changes)
            principal = verdict.principal
            self.hits += 1
        limit = self.limit
        if max_staleness is not None:
            limit = max_staleness.total_seconds()
            if limit > self.widest:
                self.widest = limit
        if now - view.level_at > limit:
            self._bear(now, on_stale)
        if roles or scopes or max_auth_age is not None:
            require(principal, now, roles=roles or (), scopes=scopes or (), max_auth_age=max_auth_age)
        return principal

    def _look_up(self, token: str, now: float) -> Principal:
        """Find the principal of a token that has no verdict yet."""
        self._on_miss()
        kind = kind_of(token)
        if kind is not None:
            _require_session_token(token, kind)
        if self._view.follows and self._view.last_level_at == -math.inf:
            raise Denied(Cause.VERIFIER_STALE, "not level with the feed yet")
        if kind is not None:
            return self._look_up_session(token, now)
        self.misses += 1
        keys = self._keys.access
        try:
            principal = check_access_token(
                token, keys=keys, issuer=self._issuer, audiences=self._audiences, now=now
            )
        except Denied as denied:
            if denied.cause is Cause.UNKNOWN_KEY:
                self._keys.want()
            raise
        self._require_uncovered(principal)
        self.verdicts.put(token, Verdict(principal, principal.expires_at.timestamp()))
        if self._keys.access is not keys:  # one of them may have been taken away meanwhile
            self.verdicts.forget(token)
        return principal

    def _look_up_session(self, token: str, now: float) -> Principal:
        """Answer a session token from the cache."""
        cached = self.sessions.get(token)
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
        bound = self._accept_within
        if on_stale is not None:
            require_on_stale(on_stale, bound)
        if word == "accept" and bound is not None and now - view.last_level_at <= bound.total_seconds():
            return
        if not view.follows:
            raise Denied(Cause.VERIFIER_STALE, "this verifier follows no feed")
        raise Denied(Cause.VERIFIER_STALE, f"last level with the feed {now - view.last_level_at:.1f} s ago")

    def require_level(self, max_staleness: timedelta | None, on_stale: str | None) -> None:
        """Refuse a session that would have to be asked about where the route does not bear that the verifier is stale."""
        now = self._view.time.now()
        if now - self._view.level_at > (
            self.limit if max_staleness is None else max_staleness.total_seconds()
        ):
            self._bear(now, on_stale)

    @property
    def bound(self) -> float:
        """For how many seconds any route so far may go on accepting when the verifier is cut off; infinity without a feed."""
        accept_within = self._accept_within
        return max(self.widest, 0.0 if accept_within is None else accept_within.total_seconds())

    def finish(
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
        if self._view.last_level_at != -math.inf:  # before that there is no feed to apply
            self._require_uncovered(principal)
        if now >= cached.expires_at:
            raise Denied(Cause.EXPIRED, "at its absolute end")
        if kind_of(token) is not None and self.sessions.get(token) is not cached:
            self._note_use(cached, now)
            cached.principal = replace(principal, path=_FROM_SESSIONS)
            self.sessions.put(token, cached)
        require(principal, now, roles=roles or (), scopes=scopes or (), max_auth_age=max_auth_age)
        return principal

    def _note_use(self, cached: CachedSession, now: float) -> None:
        session_id = cached.principal.session_id
        if session_id is not None:
            cached.report_at = now + self._touch_interval
            self._uses.note(session_id, now)


def _require_session_token(token: str, kind: OpaqueKind) -> None:
    """Refuse what is no session token by its form, so that nobody is ever asked about it."""
    if kind in {OpaqueKind.REFRESH, OpaqueKind.ANONYMOUS}:
        raise Denied(Cause.WRONG_TYPE, f"a {kind.value} token is no credential for requests")
    if len(token) != OPAQUE_TOKEN_LENGTH or not _OPAQUE.issuperset(token):
        raise Denied(Cause.MALFORMED, "not an opaque token")
