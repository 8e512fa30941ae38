"""`POST /sessions/seen`: resource servers report which sessions were used, so that a session in use anywhere does not idle out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Meta

from keyfob.base.identifiers import SessionId
from keyfob.clients import scopes
from keyfob.endpoints.answers import NO_CONTENT
from keyfob.endpoints.bodies import RequestBody, read_json
from keyfob.endpoints.machine import client_by_basic
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.problem import Challenge, Refusal
from keyfob.sessions.store import Seen

MAX_BATCH = 500
"""Sessions in one report: their ids and moments fill most of a body of 64 KiB."""
MAX_AGE = timedelta(minutes=10)
"""How far back a report may reach; older activity counts as activity then. Nothing reaches into the future."""


class SeenSession(RequestBody, frozen=True, kw_only=True):
    """A session that was used at `at` (RFC 3339 with a zone)."""

    session_id: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$(?!\n)")]
    at: Annotated[datetime, Meta(tz=True)]


class SeenReport(RequestBody, frozen=True, kw_only=True):
    """What a resource server saw since its last report."""

    sessions: Annotated[list[SeenSession], Meta(max_length=MAX_BATCH)]


async def sessions_seen(site: Site, request: HttpRequest) -> HttpResponse:
    """Note the activity. Sessions that are unknown or over stay so, and the answer does not say which they are."""
    await client_by_basic(site, request, scopes.INTROSPECT)
    report = await read_json(request, SeenReport)
    now = site.authority.clock.now()
    await site.authority.store.sessions.touch(
        [Seen(SessionId(seen.session_id), min(max(seen.at, now - MAX_AGE), now)) for seen in report.sessions]
    )
    return NO_CONTENT


ROUTES = (
    Route(
        method="POST",
        path="/sessions/seen",
        endpoint=sessions_seen,
        summary="Report that sessions were used (client with scope keyfob:introspect)",
        status=204,
        request=SeenReport,
        refusal=Refusal(challenge=Challenge.BASIC),
    ),
)
