"""`/admin/api/sessions`: everybody's live sessions."""

from __future__ import annotations

from datetime import datetime

import msgspec

from keyfob.base.errors import NotFound
from keyfob.base.identifiers import SessionId, is_session_id
from keyfob.endpoints.answers import NO_CONTENT, json_answer
from keyfob.endpoints.caller import admin_caller, require_csrf
from keyfob.endpoints.paging import PAGING, read_page
from keyfob.endpoints.route import Parameter, Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.sessions.session import Session

PATH = "/admin/api/sessions"


class AnySession(msgspec.Struct, frozen=True, kw_only=True):
    """One live session of anybody's."""

    session_id: str
    subject: str
    client_id: str
    strategy: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    user_agent: str
    address: str


class AnySessionsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Live sessions, newest first; `next` continues the list."""

    sessions: list[AnySession]
    next: str | None


async def list_sessions(site: Site, request: HttpRequest) -> HttpResponse:
    """List live sessions, of one user (a name or a subject) or of everybody."""
    await admin_caller(site, request)
    asked = read_page(request, also=frozenset({"user"}))
    named = asked.rest.get("user")
    subject = None if named is None else await site.authority.accounts.resolve(named)
    page = await site.authority.list_sessions(subject, after=asked.after, limit=asked.limit)
    return json_answer(
        AnySessionsAnswer(sessions=[_shown(session) for session in page.sessions], next=page.next)
    )


async def end_session(site: Site, request: HttpRequest) -> HttpResponse:
    """End one session. One that is over already is no error."""
    caller = await admin_caller(site, request)
    require_csrf(site, request, caller)
    session_id = SessionId(request.parameters["session_id"])
    if not is_session_id(session_id) or await site.authority.store.sessions.find(session_id) is None:
        raise NotFound("no_session", "There is no such session.")
    await site.authority.endings.end_session(session_id, code="session_ended", actor=caller.principal.subject)
    return NO_CONTENT


def _shown(session: Session) -> AnySession:
    return AnySession(
        session_id=session.session_id,
        subject=session.subject,
        client_id=session.client_id,
        strategy=session.strategy.value,
        created_at=session.created_at,
        last_seen_at=session.last_seen_at,
        expires_at=session.expires_at,
        user_agent=session.user_agent,
        address=session.address,
    )


ROUTES = (
    Route(
        method="GET",
        path=PATH,
        endpoint=list_sessions,
        summary="List live sessions",
        response=AnySessionsAnswer,
        query=(*PAGING, Parameter(name="user", summary="a login name or a subject")),
    ),
    Route(
        method="DELETE",
        path=PATH + "/{session_id}",
        endpoint=end_session,
        summary="End a session",
        status=204,
    ),
)
