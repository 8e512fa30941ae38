"""`GET /sessions`, `DELETE /sessions/{session_id}`: your devices."""

from __future__ import annotations

from datetime import datetime

import msgspec

from keyfob.base.errors import NotFound
from keyfob.base.identifiers import SessionId, is_session_id
from keyfob.endpoints.answers import NO_CONTENT, json_answer
from keyfob.endpoints.caller import account_caller, require_csrf
from keyfob.endpoints.paging import PAGING, read_page
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http import cookies
from keyfob.http.headers import NO_STORE
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.sessions.session import Session

_OWN_ENDED = HttpResponse(status=204, headers=(NO_STORE, cookies.clear(cookies.SESSION_COOKIE)))


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One session of the caller. `current` says that it is the one of this request."""

    session_id: str
    client_id: str
    strategy: str
    created_at: datetime
    last_seen_at: datetime
    user_agent: str
    address: str
    current: bool


class SessionsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Live sessions, newest first; `next` continues the list."""

    sessions: list[Device]
    next: str | None


async def list_sessions(site: Site, request: HttpRequest) -> HttpResponse:
    """List the caller's live sessions."""
    caller = await account_caller(site, request)
    asked = read_page(request)
    page = await site.authority.list_sessions(caller.principal.subject, after=asked.after, limit=asked.limit)
    current = caller.principal.session_id
    return json_answer(
        SessionsAnswer(sessions=[_device(session, current) for session in page.sessions], next=page.next)
    )


async def end_session(site: Site, request: HttpRequest) -> HttpResponse:
    """End one of the caller's own live sessions. Another's, and one that is over, look like none at all."""
    caller = await account_caller(site, request)
    require_csrf(site, request, caller)
    session_id = request.parameters["session_id"]
    if not is_session_id(session_id) or not await site.authority.end_session(caller.principal, session_id):
        raise NotFound("no_session", "You have no such session.")
    is_own = session_id == caller.principal.session_id and caller.presented.by_cookie
    return _OWN_ENDED if is_own else NO_CONTENT


def _device(session: Session, current: SessionId | None) -> Device:
    return Device(
        session_id=session.session_id,
        client_id=session.client_id,
        strategy=session.strategy.value,
        created_at=session.created_at,
        last_seen_at=session.last_seen_at,
        user_agent=session.user_agent,
        address=session.address,
        current=session.session_id == current,
    )


ROUTES = (
    Route(
        method="GET",
        path="/sessions",
        endpoint=list_sessions,
        summary="Your devices",
        response=SessionsAnswer,
        query=PAGING,
    ),
    Route(
        method="DELETE",
        path="/sessions/{session_id}",
        endpoint=end_session,
        summary="End one of your sessions",
        status=204,
    ),
)
