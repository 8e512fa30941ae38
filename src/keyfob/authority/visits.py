"""Visits: the sessions of visitors, who have not signed in. Each keeps an application's data, and is a credential for nothing.

A visit is a row of sessions of the kind `ANONYMOUS` under a random subject, so that whatever ends, cleans, copies and lists sessions does so with
visits. What makes it no credential is its form, which nothing can be asked to overlook: the prefix, the tag and the row all say what it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from keyfob.base.clock import Clock
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import FIRST_PARTY, SessionId, Strategy, new_visitor
from keyfob.base.opaque import OpaqueKind, kind_of
from keyfob.revocation.store import FeedStore
from keyfob.sessions.activity import Activity
from keyfob.sessions.policy import SessionPolicy
from keyfob.sessions.rules import is_touch_due
from keyfob.sessions.session import Session
from keyfob.sessions.sessions import Login, Sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A visit that has just begun. `expires_at` is its absolute end; it idles out like any session."""

    session_id: SessionId
    token: str = field(repr=False)
    expires_at: datetime
    persistent: bool = False


class Visits:
    """Begins visits and finds them again; `Authority.logout` ends one. Every method raises `StoreUnavailable` when the store does not answer."""

    def __init__(
        self,
        sessions: Sessions,
        *,
        feed_store: FeedStore,
        activity: Activity,
        policy: SessionPolicy,
        clock: Clock,
        issuer: str,
    ) -> None:
        self._sessions = sessions
        self._feed_store = feed_store
        self._activity = activity
        self._policy = policy
        self._clock = clock
        self._issuer = issuer

    async def begin(self, *, persistent: bool = False) -> Visit:
        """Begin a visit, under a subject that nobody had before. *persistent* is for the cookie: it is to outlast the browser's session."""
        head = await self._feed_store.head()
        subject = new_visitor()
        session_id, ends_at = self._sessions.new_id(subject, Strategy.SESSION)
        created = await self._sessions.create(
            Login(
                session_id=session_id,
                subject=subject,
                client_id=FIRST_PARTY,
                strategy=Strategy.SESSION,
                kind=OpaqueKind.ANONYMOUS,
                as_of=head.position,
                ends_at=ends_at,
                audience=(self._issuer,),
                persistent=persistent,
            )
        )
        assert created.token is not None  # every kind has one
        return Visit(
            session_id=session_id, token=created.token.text(), expires_at=ends_at, persistent=persistent
        )

    async def find(self, token: str) -> Session | None:
        """Return the live visit of *token* and note that it goes on; None for any other text, a session token too."""
        if kind_of(token) is not OpaqueKind.ANONYMOUS:
            return None
        try:
            session = await self.require(token)
        except Denied:
            return None
        now = self._clock.now()
        interval = self._policy.touch_interval_within(self._sessions.idle_timeout(session))
        if is_touch_due(session, now, interval):
            self._activity.note(session.session_id, now)
        return session

    async def require(self, token: str) -> Session:
        """Return the live visit of *token*, read from the store.

        Raises:
            Denied: `malformed`, `wrong_type`, `unknown_session`, `expired`, `revoked` or `idle`.
        """
        if kind_of(token) is not OpaqueKind.ANONYMOUS:
            raise Denied(Cause.WRONG_TYPE, "not the token of a visit")
        return (await self._sessions.check(self._sessions.parse(token, OpaqueKind.ANONYMOUS))).session
