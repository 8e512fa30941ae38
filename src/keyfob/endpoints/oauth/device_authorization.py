"""`POST /oauth/device_authorization`: a device asks to be let in (RFC 8628, section 3.1)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from keyfob.authority.client_logins import Origin
from keyfob.base.errors import Cause, Denied, InvalidRequest
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.bodies import read_oauth_form
from keyfob.endpoints.client_proof import ProofFields, read_proof
from keyfob.endpoints.oauth.paths import DEVICE, DEVICE_AUTHORIZATION
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.endpoints.user_agent import user_agent
from keyfob.grants import target
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.problem import Challenge, Refusal, oauth_error

_Text = Annotated[str, Meta(max_length=255)]


class DeviceAuthorizationRequest(ProofFields, frozen=True, kw_only=True):
    """`resource` (RFC 8707) and `audience` (RFC 8693) are two names of one thing here."""

    scope: Annotated[str, Meta(max_length=8192)] | None = None
    audience: _Text | None = None
    resource: _Text | None = None


class DeviceAuthorizationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the device shows, and what it asks again with. `expires_in` and `interval` are in seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


async def device_authorization(site: Site, request: HttpRequest) -> HttpResponse:
    """Give a device its codes."""
    if request.query:
        raise InvalidRequest("invalid_request", "Parameters belong into the body.")
    asked = await read_oauth_form(request, DeviceAuthorizationRequest)
    credentials = read_proof(request, asked)
    if credentials is None:
        raise Denied(Cause.NO_CREDENTIAL, "a client that does not say who it is")
    client = await site.authority.client_authentication.authenticate(credentials, address=request.address)
    started = await site.authority.device_flow.begin(
        client,
        asked_scope=asked.scope,
        audience=target.asked(audience=asked.audience, resource=asked.resource),
        origin=Origin(user_agent=user_agent(request), address=request.address),
    )
    page = site.authority.issuer.rstrip("/") + DEVICE
    return json_answer(
        DeviceAuthorizationAnswer(
            device_code=started.device_code,
            user_code=started.user_code,
            verification_uri=page,
            verification_uri_complete=f"{page}?user_code={started.user_code}",
            expires_in=started.expires_in,
            interval=started.interval,
        )
    )


ROUTES = (
    Route(
        method="POST",
        path=DEVICE_AUTHORIZATION,
        endpoint=device_authorization,
        summary="Ask for the codes of a device without a browser",
        request=DeviceAuthorizationRequest,
        request_type="application/x-www-form-urlencoded",
        response=DeviceAuthorizationAnswer,
        refusal=Refusal(challenge=Challenge.BASIC),
        render_error=oauth_error,
    ),
)
