"""`/consents`: what somebody allows applications to do, and taking it back."""

from __future__ import annotations

from datetime import datetime

import msgspec

from keyfob.endpoints.answers import NO_CONTENT, json_answer
from keyfob.endpoints.caller import account_caller, require_csrf
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.query import once, parse_query

PATH = "/consents"


class ConsentShown(msgspec.Struct, frozen=True, kw_only=True):
    """What one application may do. `name` is its id where it has no other."""

    client_id: str
    name: str
    scopes: list[str]
    given_at: datetime
    changed_at: datetime


class ConsentsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller allows, by client id."""

    consents: list[ConsentShown]


async def list_consents(site: Site, request: HttpRequest) -> HttpResponse:
    """List what the caller allows applications of others to do."""
    caller = await account_caller(site, request)
    once(parse_query(request.query), allowed=frozenset())
    shown = [
        ConsentShown(
            client_id=consent.client_id,
            name=name,
            scopes=sorted(consent.scopes),
            given_at=consent.given_at,
            changed_at=consent.changed_at,
        )
        for consent, name in await site.authority.consents.list(caller.principal.subject)
    ]
    return json_answer(ConsentsAnswer(consents=shown))


async def withdraw_consent(site: Site, request: HttpRequest) -> HttpResponse:
    """Take back what the caller allows one, and end what it holds of theirs."""
    caller = await account_caller(site, request)
    require_csrf(site, request, caller)
    await site.authority.consents.withdraw(caller.principal.subject, request.parameters["client_id"])
    return NO_CONTENT


ROUTES = (
    Route(
        method="GET",
        path=PATH,
        endpoint=list_consents,
        summary="List what you allow applications",
        response=ConsentsAnswer,
    ),
    Route(
        method="DELETE",
        path=PATH + "/{client_id}",
        endpoint=withdraw_consent,
        summary="Take back what you allow an application",
        status=204,
    ),
)
