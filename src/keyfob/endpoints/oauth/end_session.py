"""`GET` and `POST /oauth/logout`: a client sends the browser here to sign its user out (OpenID Connect RP-Initiated Logout 1.0).

1. No parameter is there twice; unknown ones are ignored.
2. `id_token_hint` is an ID token of ours, expired or not; another one counts as none. `client_id`, where both are there, agrees with it.
3. `post_logout_redirect_uri` is one of the client's, octet for octet. Where no client is known, nobody is sent anywhere.
4. Where nobody is signed in, there is nothing to ask.
5. The hint is of a session under the browser's login: whoever has it may end that. Else the user is asked, in a form with a CSRF token.
6. The login ends, and with it everything under it; the browser forgets its cookies and goes where it was to go, with `state` as it came.

A page elsewhere can thus make a browser ask the question, and nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Meta

from keyfob.base.errors import Denied, InvalidRequest
from keyfob.base.identifiers import SessionId
from keyfob.base.opaque import OpaqueKind
from keyfob.clients.client import Client
from keyfob.endpoints.bodies import read_oauth_form, read_oauth_query
from keyfob.endpoints.caller import is_vouched_for, require_csrf_of
from keyfob.endpoints.logout import cookie_tokens
from keyfob.endpoints.oauth.logout_page import confirmation_page, signed_out_page
from keyfob.endpoints.oauth.pages import refused
from keyfob.endpoints.route import Parameter, Route
from keyfob.endpoints.site import Site
from keyfob.http import cookies
from keyfob.http.headers import CLEAR_SITE_DATA, NO_STORE, Header
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.tokens.id_token import IdTokenHint

PATH = "/oauth/logout"
_FORGET: tuple[Header, ...] = (
    CLEAR_SITE_DATA,
    cookies.clear(cookies.SESSION_COOKIE),
    cookies.clear(cookies.REFRESH_COOKIE),
)


class EndSessionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`logout_hint` and `ui_locales` are taken and not needed. `csrf_token` is in the form of our own page alone."""

    id_token_hint: Annotated[str, Meta(max_length=8192)] | None = None
    client_id: Annotated[str, Meta(max_length=255)] | None = None
    post_logout_redirect_uri: Annotated[str, Meta(max_length=2048)] | None = None
    state: Annotated[str, Meta(max_length=1024)] | None = None
    csrf_token: Annotated[str, Meta(max_length=200)] | None = None


async def by_address(site: Site, request: HttpRequest) -> HttpResponse:
    """Sign out, or ask; `csrf_token` has no place in an address."""
    asked = read_oauth_query(request, EndSessionRequest)
    return await _end(site, request, msgspec.structs.replace(asked, csrf_token=None))


async def by_form(site: Site, request: HttpRequest) -> HttpResponse:
    """Sign out, or ask. The post of another site comes without our cookies: such a browser is sent to the same question by its address."""
    asked = await read_oauth_form(request, EndSessionRequest)
    if asked.csrf_token is not None:
        return await _confirmed(site, request, asked)
    if not request.all(b"cookie"):
        fields = {name: value for name, value in msgspec.structs.asdict(asked).items() if value}
        target = f"{_path(site)}?{urlencode(fields)}" if fields else _path(site)
        return HttpResponse(status=303, headers=((b"location", target.encode("ascii")), NO_STORE))
    return await _end(site, request, asked)


async def _end(site: Site, request: HttpRequest, asked: EndSessionRequest) -> HttpResponse:
    hint = _hint(site, asked)
    client = await _client(site, asked, hint)
    onward = _onward(client, asked)
    signed_in = await _signed_in(site, request)
    if not signed_in:
        return _done(onward)
    if hint is not None and await _is_meant(site, hint, signed_in):
        return await _sign_out(site, signed_in, onward)
    # Every login in the browser has one token; the page carries that of the first, and its form ends all of them.
    csrf_token = site.authority.csrf_token(next(iter(signed_in.values())))
    fields = {
        "client_id": None if client is None else client.client_id,
        "post_logout_redirect_uri": asked.post_logout_redirect_uri if onward else None,
        "state": asked.state,
        "csrf_token": csrf_token,
    }
    return confirmation_page(
        _path(site),
        client=client,
        fields={name: value for name, value in fields.items() if value},
        returns_to=onward or site.authority.issuer,
    )


async def _confirmed(site: Site, request: HttpRequest, asked: EndSessionRequest) -> HttpResponse:
    """Sign out as the user has said in our own form.

    Raises:
        Denied: `cross_origin`: the form is not ours, or was made for another session.
    """
    is_vouched_for(site, request)
    onward = _onward(await _client(site, asked, None), asked)
    signed_in = await _signed_in(site, request)
    if signed_in:
        require_csrf_of(site, request, next(iter(signed_in.values())), in_body=asked.csrf_token)
    return await _sign_out(site, signed_in, onward)


async def _sign_out(site: Site, signed_in: Mapping[str, SessionId], onward: str | None) -> HttpResponse:
    for token in signed_in:
        await site.authority.logout(token)
    return _done(onward, *(_FORGET if signed_in else ()))


def _path(site: Site) -> str:
    """Return the path that browsers know: an issuer may have one of its own before ours."""
    return urlsplit(site.authority.issuer).path + PATH


def _done(onward: str | None, *headers: Header) -> HttpResponse:
    if onward is None:
        return signed_out_page(headers)
    return HttpResponse(status=303, headers=((b"location", onward.encode("ascii")), NO_STORE, *headers))


def _hint(site: Site, asked: EndSessionRequest) -> IdTokenHint | None:
    if asked.id_token_hint is None:
        return None
    try:
        hint = site.authority.id_tokens.read_hint(asked.id_token_hint)
    except Denied:
        return None
    if asked.client_id not in {None, hint.client_id}:
        raise InvalidRequest("invalid_request", "client_id is not the client of id_token_hint.")
    return hint


async def _client(site: Site, asked: EndSessionRequest, hint: IdTokenHint | None) -> Client | None:
    client_id = asked.client_id if hint is None else hint.client_id
    return None if client_id is None else await site.authority.clients.find(client_id)


def _onward(client: Client | None, asked: EndSessionRequest) -> str | None:
    """Return where the browser goes afterwards, None: nowhere.

    Raises:
        InvalidRequest: the client has not registered it.
    """
    uri = asked.post_logout_redirect_uri
    if client is None or uri is None:
        return None
    if uri not in client.post_logout_redirect_uris or not uri.isascii():
        raise InvalidRequest(
            "invalid_request", "post_logout_redirect_uri is not one that the client has registered."
        )
    if asked.state is None:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}{urlencode({'state': asked.state})}"


async def _signed_in(site: Site, request: HttpRequest) -> Mapping[str, SessionId]:
    """Return the tokens of our cookies whose sessions are live, with these."""
    authority = site.authority
    live: dict[str, SessionId] = {}
    for token, session_id in cookie_tokens(authority, request).items():
        found = await authority.store.sessions.find(session_id)
        if found is None or found.session.kind is OpaqueKind.ANONYMOUS:  # nobody has signed in to a visit
            continue
        try:
            authority.sessions.require_live(found.session, authority.clock.now())
        except Denied:
            continue
        live[token] = session_id
    return live


async def _is_meant(site: Site, hint: IdTokenHint, signed_in: Mapping[str, SessionId]) -> bool:
    """Say whether *hint* is of a client's session under a login of this browser, and of the user of that login."""
    found = await site.authority.store.sessions.find(hint.session_id)
    if found is None or found.session.subject != hint.subject or found.session.client_id != hint.client_id:
        return False
    return found.session.parent_session_id in signed_in.values()


_QUERY = tuple(
    Parameter(name=name, summary=summary)
    for name, summary in (
        ("id_token_hint", "An ID token of the session that is to end"),
        ("client_id", "The client, where there is no hint"),
        ("post_logout_redirect_uri", "Where to go afterwards: one that the client has registered"),
        ("state", "Given back to the client"),
    )
)
ROUTES = (
    Route(
        method="GET",
        path=PATH,
        endpoint=by_address,
        summary="Sign out of the authority, for a client",
        query=_QUERY,
        response_type="text/html",
        render_error=refused,
    ),
    Route(
        method="POST",
        path=PATH,
        endpoint=by_form,
        summary="Sign out of the authority, for a client",
        request=EndSessionRequest,
        request_type="application/x-www-form-urlencoded",
        response_type="text/html",
        render_error=refused,
    ),
)
