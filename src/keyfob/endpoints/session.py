"""`GET /session`: who am I."""

from __future__ import annotations

from datetime import datetime

import msgspec

from keyfob.base.principal import Principal
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.caller import any_caller
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse


class SessionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The principal of the credential. Without a session there is nothing to bind a CSRF token to."""

    subject: str
    session_id: str | None
    client_id: str
    strategy: str | None
    roles: list[str]
    scopes: list[str]
    audience: list[str]
    auth_time: datetime | None
    issued_at: datetime
    expires_at: datetime
    csrf_token: str | None


async def session(site: Site, request: HttpRequest) -> HttpResponse:
    """Answer with the principal of any credential, for any audience of this issuer."""
    caller = await any_caller(site, request)
    return json_answer(_answer(site, caller.principal))


def _answer(site: Site, principal: Principal) -> SessionAnswer:
    session_id = principal.session_id
    return SessionAnswer(
        subject=principal.subject,
        session_id=session_id,
        client_id=principal.client_id,
        strategy=principal.strategy.value if principal.strategy else None,
        roles=sorted(principal.roles),
        scopes=sorted(principal.scopes),
        audience=list(principal.audience),
        auth_time=principal.auth_time,
        issued_at=principal.issued_at,
        expires_at=principal.expires_at,
        csrf_token=site.authority.csrf_token(session_id) if session_id else None,
    )


ROUTES = (
    Route(
        method="GET",
        path="/session",
        endpoint=session,
        summary="The principal of the credential",
        response=SessionAnswer,
    ),
)
