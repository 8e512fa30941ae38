"""What a revocation would do, said before it is done. Nothing here changes anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from keyfob.authority.endings import Endings
from keyfob.authority.revocation_slo import RevocationReports
from keyfob.base.clock import Clock
from keyfob.base.identifiers import SessionId, Subject
from keyfob.revocation.entry import Reach, Scope
from keyfob.revocation.slo import RevocationSlo, VerifierSlo, VerifierState
from keyfob.sessions.rules import Standing, standing
from keyfob.sessions.session import Session
from keyfob.sessions.store import SessionPage, SessionStore

MAX_LISTED = 10_000
"""Sessions that are looked at to count those in scope, the newest: a count of more is `at least`."""
ASSUMED_BOUND = timedelta(seconds=5)
"""How long a verifier that reports nothing may go on accepting when it is cut off: the default of `max_staleness`."""
_PAGE = 200  # sessions read in one step, so that no step holds the event loop for long


class _List(Protocol):
    """A verb of the store that lists."""

    async def __call__(
        self, subject: Subject | None, /, *, now: datetime, after: str | None, limit: int
    ) -> SessionPage: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationPreview:
    """What a revocation would do now.

    `sessions` are the live ones in scope, and the API keys of one owner: ended by reach `end`, re-read or refreshed by `claims`; at least so many where not
    `is_counted_out`. `is_over` says that the session is over already, so that nothing would change. `slo` is what is known of the
    verifiers that report.
    """

    scope: Scope
    id: str
    reach: Reach
    sessions: int
    is_counted_out: bool
    is_over: bool
    slo: RevocationSlo

    @property
    def behind(self) -> Sequence[VerifierSlo]:
        """The verifiers that are not level: who may deny late, or not at all until they come back."""
        return [one for one in self.slo.verifiers if one.state is not VerifierState.LEVEL]

    @property
    def worst(self) -> timedelta:
        """The longest that any verifier may go on accepting, if the feed does not reach it: by its own word, `ASSUMED_BOUND` for others."""
        bounds = [max(one.bound, one.max_staleness) for one in self.slo.verifiers]
        longest = [] if self.slo.lags is None else [self.slo.lags.longest]
        return max((ASSUMED_BOUND, *bounds, *longest))


class Previews:
    """Says what revocations would do."""

    def __init__(
        self, sessions: SessionStore, endings: Endings, reports: RevocationReports, *, clock: Clock
    ) -> None:
        self._sessions = sessions
        self._endings = endings
        self._reports = reports
        self._clock = clock

    async def preview(self, scope: Scope, target: str, *, reach: Reach) -> RevocationPreview:
        """Say what revoking *target* would do, were it done now.

        Raises:
            InvalidRequest: scope, id and reach do not fit together.
            NotFound: no such key.
        """
        self._endings.checked_order(scope, target, reach=reach, reason="", actor="preview")
        is_over = scope is Scope.SESSION and await self._is_over(SessionId(target))
        count, looked_at = 0, 0
        async for session in self._listed(scope, target):
            looked_at += 1
            count += _is_in_scope(session, scope, target)
        return RevocationPreview(
            scope=scope,
            id=target,
            reach=reach,
            sessions=count,
            is_counted_out=looked_at < MAX_LISTED,
            is_over=is_over,
            slo=await self._reports.summary(),
        )

    async def _is_over(self, session_id: SessionId) -> bool:
        found = await self._sessions.find(session_id)
        return found is not None and standing(found.session, self._clock.now()) is not Standing.LIVE

    async def _listed(self, scope: Scope, target: str) -> AsyncIterator[Session]:
        """Give up to `MAX_LISTED` live sessions, and as many API keys, among which are those in scope."""
        if scope in {Scope.TOKEN, Scope.KEY}:
            return
        subject: Subject | None = None
        if scope is Scope.SUBJECT:
            subject = Subject(target)
        if scope is Scope.SESSION:
            found = await self._sessions.find(SessionId(target))
            if found is None:
                return
            subject = found.session.subject
        async for session in self._paged(self._sessions.list, subject):
            yield session
        # A service's keys have its client's id as their subject. Everybody's are not looked for: few rows of many are keys.
        owner = Subject(target) if scope is Scope.CLIENT else subject
        if owner is not None:
            async for session in self._paged(self._sessions.list_api_keys, owner):
                yield session

    async def _paged(self, list_: _List, subject: Subject | None) -> AsyncIterator[Session]:
        now, after, given = self._clock.now(), None, 0
        while given < MAX_LISTED:
            page = await list_(subject, now=now, after=after, limit=min(_PAGE, MAX_LISTED - given))
            for session in page.sessions:
                yield session
            given += len(page.sessions)
            after = page.next
            if after is None:
                return
            await asyncio.sleep(0)


def _is_in_scope(session: Session, scope: Scope, target: str) -> bool:
    match scope:
        case Scope.SESSION:
            return target in {session.session_id, session.parent_session_id}
        case Scope.CLIENT:
            return target in {session.client_id, session.parent_client_id}
        case _:
            return True
