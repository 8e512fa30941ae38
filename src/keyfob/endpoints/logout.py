"""`POST /logout`: of this device, of the others, or of all."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from msgspec import Meta

from keyfob.authority.authority import Authority
from keyfob.base.errors import Denied
from keyfob.base.identifiers import SessionId
from keyfob.base.opaque import OpaqueKind, kind_of
from keyfob.endpoints.answers import NO_CONTENT
from keyfob.endpoints.bodies import RequestBody, is_form, read_form, read_json_if_any
from keyfob.endpoints.caller import is_vouched_for, require_csrf_of
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http import bearer, cookies
from keyfob.http.headers import CLEAR_SITE_DATA, NO_STORE
from keyfob.http.messages import HttpRequest, HttpResponse

_SIGNED_OUT = HttpResponse(
    status=204,
    headers=(
        NO_STORE,
        CLEAR_SITE_DATA,
        cookies.clear(cookies.SESSION_COOKIE),
        cookies.clear(cookies.REFRESH_COOKIE),
    ),
)

_IN_COOKIES: Mapping[bytes, Collection[OpaqueKind]] = {
    cookies.REFRESH_COOKIE: frozenset({OpaqueKind.REFRESH}),
    cookies.SESSION_COOKIE: frozenset({OpaqueKind.SESSION, OpaqueKind.ANONYMOUS}),
}


class LogoutRequest(RequestBody, frozen=True, kw_only=True):
    """`refresh_token` is for native clients; browsers have cookies."""

    devices: Literal["this", "others", "all"] = "this"
    refresh_token: Annotated[str, Meta(max_length=16_384)] | None = None
    csrf_token: Annotated[str, Meta(max_length=200)] = ""


async def logout(site: Site, request: HttpRequest) -> HttpResponse:
    """End the session of whatever credentials the request carries. None, or none that is known, is no error and changes nothing.

    A page may send a refresh cookie and an access token at once; afterwards neither of them is good. For `others` exactly one session
    is spared, that of the longest-lived credential: the browser keeps its cookies.
    """
    vouched = is_vouched_for(site, request)
    asked = await (
        read_form(request, LogoutRequest) if is_form(request) else read_json_if_any(request, LogoutRequest)
    )
    token = _bearer(request)
    by_cookie = cookie_tokens(site.authority, request)
    if not vouched and token is None:
        for session_id in by_cookie.values():
            require_csrf_of(site, request, session_id, in_body=asked.csrf_token)
    credentials = [*by_cookie, *(text for text in (asked.refresh_token, token) if text)]
    if asked.devices == "others":
        for credential in credentials[:1]:
            await site.authority.logout(credential, devices="others")
        return NO_CONTENT
    for credential in credentials:
        await site.authority.logout(credential, devices=asked.devices)
    return _SIGNED_OUT


def _bearer(request: HttpRequest) -> str | None:
    try:
        return bearer.read_bearer(request.all(b"authorization"))
    except Denied:
        return None


def cookie_tokens(authority: Authority, request: HttpRequest) -> dict[str, SessionId]:
    """Return the tokens in our cookies that are genuine, with their session ids. Anything else there is nobody's.

    The cookie of the session may hold that of a visitor, which is no credential, and is ended all the same.
    """
    tokens: dict[str, SessionId] = {}
    for name, kinds in _IN_COOKIES.items():
        try:
            text = cookies.read(request.all(b"cookie"), name)
            kind = None if text is None else kind_of(text)
            if text is not None and kind is not None and kind in kinds:
                tokens[text] = authority.sessions.parse(text, kind).session_id
        except Denied:
            continue
    return tokens


ROUTES = (
    Route(
        method="POST",
        path="/logout",
        endpoint=logout,
        summary="Sign out of this device, the others, or all",
        status=204,
        request=LogoutRequest,
    ),
)
