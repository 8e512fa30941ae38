"""`POST /oauth/par` (RFC 9126): a client pushes its authorization request by itself, and sends the browser with a reference to it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from keyfob.base.errors import Cause, Denied, InvalidRequest
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.bodies import of_fields, read_oauth_fields
from keyfob.endpoints.client_proof import PROOF_FIELDS, ProofFields, read_proof
from keyfob.endpoints.oauth.paths import PAR
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.grants.parameters import Parameters
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.problem import Challenge, Refusal, oauth_error

_Text = Annotated[str, Meta(max_length=4096)]


class PushedRequest(ProofFields, frozen=True, kw_only=True):
    """The parameters of an authorization request, and how the client says who it is. What is not known is ignored."""

    response_type: _Text | None = None
    redirect_uri: _Text | None = None
    scope: _Text | None = None
    state: _Text | None = None
    code_challenge: _Text | None = None
    code_challenge_method: _Text | None = None
    nonce: _Text | None = None
    prompt: _Text | None = None
    max_age: _Text | None = None
    resource: _Text | None = None
    audience: _Text | None = None
    login_hint: _Text | None = None
    id_token_hint: _Text | None = None
    acr_values: _Text | None = None
    response_mode: _Text | None = None


class PushedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the browser is sent with. `expires_in` is in seconds."""

    request_uri: str
    expires_in: int


async def push(site: Site, request: HttpRequest) -> HttpResponse:
    """Keep the request for a minute; it is good once, for this client."""
    if request.query:
        raise InvalidRequest("invalid_request", "Parameters belong into the body.")
    fields = await read_oauth_fields(request)
    credentials = read_proof(request, of_fields(fields, ProofFields))
    if credentials is None:
        raise Denied(Cause.NO_CREDENTIAL, "a client that does not say who it is")
    client = await site.authority.client_authentication.authenticate(credentials, address=request.address)
    stated = {name: value for name, value in fields.items() if name not in PROOF_FIELDS - {"client_id"}}
    pushed = await site.authority.authorizations.push(Parameters.of(stated.items()), client)
    return json_answer(PushedAnswer(request_uri=pushed.request_uri, expires_in=pushed.expires_in), status=201)


ROUTES = (
    Route(
        method="POST",
        path=PAR,
        endpoint=push,
        summary="Push an authorization request (RFC 9126)",
        status=201,
        request=PushedRequest,
        request_type="application/x-www-form-urlencoded",
        response=PushedAnswer,
        refusal=Refusal(challenge=Challenge.BASIC),
        render_error=oauth_error,
    ),
)
