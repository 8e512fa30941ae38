"""`POST /oauth/introspect` (RFC 7662): what a token is worth, for clients that may ask; signed, where that is asked for (RFC 9701)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from keyfob.base.errors import Cause, Denied, InvalidRequest
from keyfob.clients import scopes
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.bodies import read_oauth_form
from keyfob.endpoints.client_proof import ProofFields, asking_client, require_no_query
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.accept import asks_for
from keyfob.http.headers import NO_STORE
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.problem import Challenge, Refusal, oauth_error

PATH = "/oauth/introspect"
SIGNED = "application/token-introspection+jwt"
_SIGNED = SIGNED.encode("ascii")


class IntrospectRequest(ProofFields, frozen=True, kw_only=True):
    """`token_type_hint` is taken and not needed: a token says what it is."""

    token: Annotated[str, Meta(max_length=16_384)] | None = None
    token_type_hint: Annotated[str, Meta(max_length=100)] | None = None


async def introspect(site: Site, request: HttpRequest) -> HttpResponse:
    """Say what *token* is worth, from the store. Whatever is not good is `{"active": false}` and nothing else (RFC 7662, section 2.2)."""
    require_no_query(request)
    asked = await read_oauth_form(request, IntrospectRequest)
    client = await asking_client(site, request, asked)
    if scopes.INTROSPECT not in client.scopes:
        raise Denied(Cause.INSUFFICIENT_SCOPE, f"the client lacks {scopes.INTROSPECT}")
    if asked.token is None:
        raise InvalidRequest("invalid_request", "token is required.")
    introspection = site.authority.introspection
    if not asks_for(request.all(b"accept"), _SIGNED, rather_than=b"application/json"):
        return json_answer(await introspection.introspect(asked.token, caller=client))
    signed = await introspection.introspect_signed(asked.token, caller=client)
    return HttpResponse(
        status=200, headers=((b"content-type", _SIGNED), NO_STORE), body=signed.encode("ascii")
    )


ROUTES = (
    Route(
        method="POST",
        path=PATH,
        endpoint=introspect,
        summary="Introspect a token (client with scope keyfob:introspect)",
        request=IntrospectRequest,
        request_type="application/x-www-form-urlencoded",
        alternatives=(SIGNED,),
        refusal=Refusal(challenge=Challenge.BASIC),
        render_error=oauth_error,
    ),
)
