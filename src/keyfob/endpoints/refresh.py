"""`POST /refresh`: rotation, by the cookie or by a token in the body."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from keyfob.authority.sign_in import Device
from keyfob.authority.strategies import Transport
from keyfob.base.errors import Cause, Denied
from keyfob.base.opaque import OpaqueKind
from keyfob.endpoints.bodies import RequestBody, read_json_if_any
from keyfob.endpoints.caller import is_vouched_for, require_csrf_of
from keyfob.endpoints.grant_answer import GrantAnswer, grant_answer
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http import cookies
from keyfob.http.messages import HttpRequest, HttpResponse


class RefreshRequest(RequestBody, frozen=True, kw_only=True):
    """`refresh_token` is for native clients; browsers have the cookie."""

    refresh_token: Annotated[str, Meta(max_length=16_384)] | None = None
    csrf_token: Annotated[str, Meta(max_length=200)] = ""


async def refresh(site: Site, request: HttpRequest) -> HttpResponse:
    """Rotate the refresh token and give a fresh access token; the answer comes the way the token came.

    A refusal leaves the cookie alone: an answer that comes late must not take away a newer cookie.
    """
    device = Device(address=request.address)
    vouched = is_vouched_for(site, request)
    asked = await read_json_if_any(request, RefreshRequest)
    cookie = cookies.read(request.all(b"cookie"), cookies.REFRESH_COOKIE)
    if asked.refresh_token is not None and cookie is not None:
        raise Denied(Cause.MALFORMED, "a refresh token in the body and one in a cookie")
    if asked.refresh_token is not None:
        return grant_answer(
            site, await site.authority.refresh(asked.refresh_token, device=device), Transport.BODY
        )
    if cookie is None:
        raise Denied(Cause.NO_CREDENTIAL, "no refresh token")
    if not vouched:
        session_id = site.authority.sessions.parse(cookie, OpaqueKind.REFRESH).session_id
        require_csrf_of(site, request, session_id, in_body=asked.csrf_token)
    return grant_answer(site, await site.authority.refresh(cookie, device=device), Transport.COOKIE)


ROUTES = (
    Route(
        method="POST",
        path="/refresh",
        endpoint=refresh,
        summary="Rotate the refresh token, get a fresh access token",
        request=RefreshRequest,
        response=GrantAnswer,
    ),
)
