"""`POST /password`: a new password, for somebody who knows the present one."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from keyfob.authority.strategies import Transport
from keyfob.base.errors import Denied
from keyfob.base.opaque import OpaqueKind
from keyfob.endpoints.bodies import RequestBody, read_json
from keyfob.endpoints.caller import account_caller, require_csrf
from keyfob.endpoints.grant_answer import GrantAnswer, grant_answer
from keyfob.endpoints.login import PasswordText
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http import cookies
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
    by_cookie = caller.presented.by_cookie or _holds_refresh_cookie(site, request, issued.session_id)
    return grant_answer(site, issued, Transport.COOKIE if by_cookie else Transport.BODY)


def _holds_refresh_cookie(site: Site, request: HttpRequest, session_id: str) -> bool:
    """Say whether the browser has the session's refresh token in its cookie: the new one goes there, out of reach of scripts.

    It says where the answer goes and nothing else; it is no credential here.
    """
    try:
        token = cookies.read(request.all(b"cookie"), cookies.REFRESH_COOKIE)
        return token is not None and (
            site.authority.sessions.parse(token, OpaqueKind.REFRESH).session_id == session_id
        )
    except Denied:
        return False


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
