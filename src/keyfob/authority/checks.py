"""Checking a credential at the authority itself: from cache under the rule, else anew.

A session token or an API key:

1. It is cached, still fresh, and the rule says that nothing covers it. No I/O.
2. Else its form and tag, then its row, its secret, and where the session stands (`Sessions.check`).
3. Then the roles of today, read with `as_of` or after it.

An access token:

1. As above: a cached verdict is good until `exp`, under the rule.
2. Else everything up to its times (`check_access_token`), then the rule.

A covered or idle session is always read anew, so that the store says what it is by now: roles may have changed, or another process may
have seen it used. Nothing is answered from the cache while this process is not sure of the feed.
"""

from __future__ import annotations

import math

from msgspec.structs import replace

from keyfob.authority.claims import TodaysClaims
from keyfob.base.clock import Clock
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import Position, Timeline
from keyfob.base.opaque import OpaqueKind, kind_of
from keyfob.base.principal import Principal
from keyfob.keys.key_ring import KeyRing
from keyfob.revocation.feed import Feed
from keyfob.revocation.store import FeedStore
from keyfob.sessions.activity import Activity
from keyfob.sessions.policy import SessionPolicy
from keyfob.sessions.rules import idle_limit, is_touch_due, roles_of
from keyfob.sessions.session import Session
from keyfob.sessions.sessions import Sessions
from keyfob.sessions.store import Found
from keyfob.tokens.access_token import further_claims
from keyfob.tokens.grant import SubjectClaims
from keyfob.verifier.session_cache import CachedSession, SessionCache
from keyfob.verifier.token_check import check_access_token


class Checks:
    """Checks session tokens, API keys and access tokens of this authority."""

    def __init__(
        self,
        issuer: str,
        *,
        sessions: Sessions,
        claims: TodaysClaims,
        feed: Feed,
        feed_store: FeedStore,
        keys: KeyRing,
        activity: Activity,
        policy: SessionPolicy,
        clock: Clock,
        cache: SessionCache,
    ) -> None:
        self._issuer = issuer
        self._sessions = sessions
        self._claims = claims
        self._feed = feed
        self._feed_store = feed_store
        self._keys = keys
        self._activity = activity
        self._policy = policy
        self._clock = clock
        self._cache = cache

    def cached(self, text: str) -> Principal | None:
        """Answer from the cache, or not at all. The hot path: no I/O, about a microsecond."""
        cached = self._cache.get(text)
        now = self._clock.time()
        if cached is None or now >= cached.fresh_until or not self._feed.is_level():
            return None
        live = self._feed.live
        changes = live.changes  # read before the look-up (design.md, precondition 10)
        if cached.checked != changes:
            if live.cause(cached.principal) is not None:
                return None
            cached.checked = changes
        if now >= cached.report_at:
            self._note_use(cached, now)
        return cached.principal

    async def check(self, text: str, *, audience: str | None = None) -> Principal:
        """Return the principal of a session token or an access token; with *audience*, one that has it among its own.

        Raises:
            Denied: the first cause of contract.md's order.
            Unavailable: it could not be found out.
        """
        principal = self.cached(text) or await self.read(text, audience=audience)
        if audience is not None and audience not in principal.audience:
            raise Denied(Cause.WRONG_AUDIENCE, f"for {list(principal.audience)}, not {audience}")
        return principal

    async def read(
        self, text: str, *, audience: str | None = None, allowing: Cause | None = None
    ) -> Principal:
        """Check a credential without the cache; an access token that the rule covers with the cause *allowing* passes.

        Of an access token *audience* is looked at in its place in the order, of a session token not at all.
        """
        kind = kind_of(text)
        if kind is None:
            return await self._read_access_token(text, audience=audience, allowing=allowing)
        if kind not in {OpaqueKind.SESSION, OpaqueKind.API_KEY}:
            raise Denied(Cause.WRONG_TYPE, f"a {kind.value} token is no credential for requests")
        return await self._read_session(text, kind)

    async def _read_session(self, text: str, kind: OpaqueKind) -> Principal:
        before = self._clock.time()
        token = self._sessions.parse(text, kind)
        found = await self._sessions.check(token)
        session = found.session
        subject_claims = await self._claims_of(found)
        principal = principal_of(
            session, subject_claims, as_of=found.as_of, timeline=self._feed.live.head.timeline
        )
        if (
            self._feed.live.cause(principal) is Cause.REVOKED
        ):  # this process knows more than the store shows: it went back
            raise Denied(Cause.REVOKED, "covered by an entry after the read")
        stale_at = before + self._policy.max_cache_age.total_seconds()
        if session.previous_until is not None and token.digest != session.digest:
            stale_at = min(stale_at, session.previous_until.timestamp())
        idle = idle_limit(session, idle_timeout=self._sessions.idle_timeout(session))
        touch_interval = self._policy.touch_interval_within(idle)
        cached = CachedSession(
            replace(principal, path="session cache"),
            cached_at=before,
            stale_at=stale_at,
            idle_at=None if idle is None else (session.last_seen_at + idle).timestamp(),
            report_at=(session.last_seen_at + touch_interval).timestamp(),
            report_every=touch_interval.total_seconds(),
            idle=None if idle is None else idle.total_seconds(),
        )
        now = self._clock.now()
        if is_touch_due(session, now, touch_interval):
            self._note_use(cached, now.timestamp())
        self._cache.put(text, cached)
        return principal

    async def _claims_of(self, found: Found) -> SubjectClaims:
        """Return what is known of the subject today; of a service nothing is: it may do what its scopes say."""
        session = found.session
        if session.is_api_key and str(session.subject) == session.client_id:
            return SubjectClaims()
        return await self._claims.of(session, found.holder)

    async def _read_access_token(
        self, text: str, *, audience: str | None, allowing: Cause | None
    ) -> Principal:
        if not self._feed.is_level():
            await self._feed.catch_up((await self._feed_store.head()).position)
        live = self._feed.live
        changes = live.changes
        now = self._clock.time()
        principal = check_access_token(
            text,
            keys=self._keys.public_keys(),
            issuer=self._issuer,
            audiences=None if audience is None else {audience},
            now=now,
        )
        cause = live.cause(principal)
        if cause is not None and cause is allowing:
            return principal
        if cause is not None:
            raise Denied(cause, f"covered by the feed at position {live.head.position}")
        if live.is_settled(principal):  # else its position may yet prove never to have been (precondition 1)
            verdict = CachedSession(
                replace(principal, path="verdict cache"),
                cached_at=now,
                stale_at=math.inf,
                idle_at=None,
                report_at=math.inf,
            )
            verdict.checked = changes
            self._cache.put(text, verdict)
        return principal

    def _note_use(self, cached: CachedSession, now: float) -> None:
        assert cached.principal.session_id is not None  # only sessions have a moment to report at
        self._activity.note(cached.principal.session_id, self._clock.now())
        cached.report_at = now + cached.report_every
        if cached.idle_at is not None and cached.idle is not None:
            cached.touched(max(cached.idle_at, now + cached.idle))


def principal_of(
    session: Session, subject_claims: SubjectClaims, *, as_of: Position, timeline: Timeline
) -> Principal:
    """Return the principal of a live session, with the roles of today. An API key is no login: it has no strategy and no `auth_time`."""
    return Principal(
        subject=session.subject,
        client_id=session.client_id,
        strategy=None if session.is_api_key else session.strategy,
        audience=session.audience,
        issued_at=session.created_at,
        expires_at=session.expires_at,
        as_of=as_of,
        session_id=session.session_id,
        parent_session_id=session.parent_session_id,
        parent_client_id=session.parent_client_id,
        roles=roles_of(session, subject_claims.roles),
        scopes=frozenset(session.scopes),
        auth_time=None if session.is_api_key else session.auth_time,
        amr=session.amr,
        acr=session.acr,
        claims=further_claims(subject_claims.claims),
        timeline=timeline,
        path="session",
    )
