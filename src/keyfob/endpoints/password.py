"""`POST /password`: a new password, for somebody who knows the present one."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from keyfob.authority.strategies import Transport
from keyfob.endpoints.bodies import RequestBody, read_json
from keyfob.endpoints.caller import account_caller, require_csrf
from keyfob.endpoints.grant_answer import GrantAnswer, grant_answer
from keyfob.endpoints.login import PasswordText
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse


class PasswordRequest(RequestBody, frozen=True, kw_only=True):
    """The present password and the new one."""

    current: PasswordText
    new: PasswordText
    csrf_token: Annotated[str, Meta(max_length=200)] = ""


async def password(site: Site, request: HttpRequest) -> HttpResponse:
    """Change the caller's password, end its other sessions, and renew its own."""
    caller = await account_caller(site, request)
    asked = await read_json(request, PasswordRequest)
    require_csrf(site, request, caller, in_body=asked.csrf_token)
    issued = await site.authority.change_password(
        caller.principal, asked.current, asked.new, address=request.address
    )
    return grant_answer(site, issued, Transport.COOKIE if caller.presented.by_cookie else Transport.BODY)


ROUTES = (
    Route(
        method="POST",
        path="/password",
        endpoint=password,
        summary="Change the password, end the other sessions",
        request=PasswordRequest,
        response=GrantAnswer,
    ),
)
