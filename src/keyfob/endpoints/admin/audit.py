"""`GET /admin/api/audit`: what happened, newest first."""

from __future__ import annotations

from datetime import datetime

import msgspec

from keyfob.base.errors import InvalidRequest
from keyfob.base.events import Event
from keyfob.base.identifiers import Subject, is_identifier
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.caller import admin_caller
from keyfob.endpoints.paging import PAGING, read_page
from keyfob.endpoints.route import Parameter, Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse


class EventAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One event. `facts` are what its code has of its own."""

    at: datetime
    code: str
    actor: str
    subject: str | None
    session_id: str | None
    client_id: str | None
    address: str | None
    reason: str | None
    facts: dict[str, str | int]


class AuditAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Events, newest first; `next` continues the list."""

    events: list[EventAnswer]
    next: str | None


async def audit(site: Site, request: HttpRequest) -> HttpResponse:
    """List events, of one subject or one code or all."""
    await admin_caller(site, request)
    asked = read_page(request, also=frozenset({"subject", "code"}))
    subject = asked.rest.get("subject")
    if subject is not None and not is_identifier(subject):
        raise InvalidRequest("invalid_request", "subject is 1 to 255 characters.")
    page = await site.authority.trail.list(
        subject=None if subject is None else Subject(subject),
        code=asked.rest.get("code"),
        after=asked.after,
        limit=asked.limit,
    )
    return json_answer(AuditAnswer(events=[_shown(event) for event in page.events], next=page.next))


def _shown(event: Event) -> EventAnswer:
    return EventAnswer(
        at=event.at,
        code=event.code,
        actor=event.actor,
        subject=event.subject,
        session_id=event.session_id,
        client_id=event.client_id,
        address=event.address,
        reason=event.reason,
        facts=dict(event.facts),
    )


ROUTES = (
    Route(
        method="GET",
        path="/admin/api/audit",
        endpoint=audit,
        summary="What happened",
        response=AuditAnswer,
        query=(
            *PAGING,
            Parameter(name="subject", summary="events of this subject alone"),
            Parameter(name="code", summary="events of this code alone"),
        ),
    ),
)
