"""`POST /oauth/introspect` (RFC 7662): what a token is worth, for clients that may ask."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from keyfob.clients import scopes
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.bodies import RequestBody, read_form
from keyfob.endpoints.machine import client_by_basic
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.problem import Challenge, Refusal, oauth_error

PATH = "/oauth/introspect"


class IntrospectRequest(RequestBody, frozen=True, kw_only=True):
    """`token_type_hint` is taken and not needed: a token says what it is."""

    token: Annotated[str, Meta(max_length=16_384)]
    token_type_hint: Annotated[str, Meta(max_length=100)] = ""


async def introspect(site: Site, request: HttpRequest) -> HttpResponse:
    """Say what *token* is worth, from the store. Whatever is not good is `{"active": false}` and nothing else (RFC 7662, section 2.2)."""
    client = await client_by_basic(site, request, scopes.INTROSPECT)
    asked = await read_form(request, IntrospectRequest)
    return json_answer(await site.authority.introspect(asked.token, caller=client))


ROUTES = (
    Route(
        method="POST",
        path=PATH,
        endpoint=introspect,
        summary="Introspect a token (client with scope keyfob:introspect)",
        request=IntrospectRequest,
        request_type="application/x-www-form-urlencoded",
        refusal=Refusal(challenge=Challenge.BASIC),
        render_error=oauth_error,
    ),
)
