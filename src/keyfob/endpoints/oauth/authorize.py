"""`GET` and `POST /oauth/authorize` (RFC 6749, section 4.1.1), and `GET /oauth/resume`, to which the browser comes back.

1. An unknown client, or a redirect URI that is not its own: the user is told, and sent nowhere.
2. Anything else that is wrong: the client is told by redirect, where somebody has signed in or nothing may be shown. To a browser in which
   nobody has signed in the error is shown first: it goes on by a click of its own (RFC 9700, section 4.11.2).
3. What comes next (`grants.prompting`): sign in, choose, consent, or the code.

A form that another site posts brings no cookie of ours (they are `SameSite=Lax`), so a posted request is kept and asked for again by GET.
"""

from __future__ import annotations

from html import escape

from keyfob.authority.authorizations import Opened, Refused
from keyfob.base.errors import Denied
from keyfob.base.principal import Principal
from keyfob.endpoints.bodies import read_pairs
from keyfob.endpoints.oauth import pages
from keyfob.endpoints.oauth.authorization_response import (
    code_response,
    error_location,
    error_response,
)
from keyfob.endpoints.oauth.paths import AUTHORIZE, CONSENT, RESUME, SIGN_IN, path_to
from keyfob.endpoints.redirect import see_other
from keyfob.endpoints.route import Parameter, Route
from keyfob.endpoints.site import Site
from keyfob.grants.parameters import Parameters
from keyfob.grants.prompting import AskConsent, ChooseAccount, GoOn, Refuse, SignIn
from keyfob.http import cookies
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.query import once, parse_query


async def authorize(site: Site, request: HttpRequest) -> HttpResponse:
    """Answer an authorization request that a browser brings in the address."""
    opened = await site.authority.authorizations.open(Parameters.of(parse_query(request.query)))
    return await go_on(site, request, opened)


async def authorize_by_form(site: Site, request: HttpRequest) -> HttpResponse:
    """Keep an authorization request that a browser posts, and have it asked for by GET."""
    opened = await site.authority.authorizations.open(Parameters.of(await read_pairs(request)))
    if isinstance(opened, Refused):
        return await _tell(site, request, opened)
    return see_other(path_to(RESUME, await site.authority.authorizations.keep(opened)))


async def resume(site: Site, request: HttpRequest) -> HttpResponse:
    """Go on with a request that is kept."""
    asked = once(parse_query(request.query), allowed=frozenset({"request"}))
    opened = await site.authority.authorizations.resume(asked.get("request", ""))
    return await go_on(site, request, opened)


async def go_on(site: Site, request: HttpRequest, opened: Opened | Refused) -> HttpResponse:
    """Take the next step of a request."""
    if isinstance(opened, Refused):
        return await _tell(site, request, opened)
    authorizations = site.authority.authorizations
    visitor = await visitor_of(site, request)
    place = opened.request.place
    match await authorizations.next_step(opened, visitor):
        case Refuse(error):
            return error_response(site, place, error.value)
        case GoOn() if visitor is not None:
            return code_response(site, place, await authorizations.answer(opened, visitor))
        case ChooseAccount() | AskConsent():
            return see_other(path_to(CONSENT, await authorizations.keep(opened)))
        case SignIn() | GoOn():
            return see_other(path_to(SIGN_IN, await authorizations.keep(opened)))


async def visitor_of(site: Site, request: HttpRequest) -> Principal | None:
    """Return who has signed in at the browser of *request*; a cookie that is no good is none."""
    try:
        token = cookies.read(request.all(b"cookie"), cookies.SESSION_COOKIE)
    except Denied:
        token = None
    return await site.authority.authorizations.visitor(token)


async def _tell(site: Site, request: HttpRequest, refused: Refused) -> HttpResponse:
    """Tell the client what is wrong with its request."""
    if refused.silent or await visitor_of(site, request) is not None:
        return error_response(site, refused.place, refused.code, refused.detail)
    onward = error_location(site, refused.place, refused.code, refused.detail)
    name = refused.client.name or refused.client.client_id
    return pages.page(
        "This did not work",
        f"{pages.alert(f'{name} asks for something that it cannot have.')}<p>{escape(refused.detail)} "
        f'(<code>{escape(refused.code)}</code>)</p><p><a rel="noreferrer" href="{escape(onward)}">Go back to {escape(name)}</a></p>',
        status=400,
    )


_QUERY = tuple(
    Parameter(name=name, summary=summary)
    for name, summary in (
        ("client_id", "the client"),
        ("request_uri", "a request that was pushed, in place of all the rest"),
        ("response_type", "code"),
        ("redirect_uri", "one that is registered; may be left out where there is one alone"),
        ("scope", "scopes of the client, one space between two"),
        ("state", "comes back with the answer"),
        ("code_challenge", "SHA-256 of the verifier, base64url"),
        ("code_challenge_method", "S256"),
        ("nonce", "comes back in the ID token"),
        ("prompt", "none, login, consent, select_account"),
        ("max_age", "seconds since the last login"),
        ("resource", "the audience of the access token; audience is another name of it"),
        ("login_hint", "the name to begin with"),
        ("id_token_hint", "an ID token of whoever is meant"),
        ("acr_values", "not looked at"),
        ("response_mode", "query"),
    )
)

ROUTES = (
    Route(
        method="GET",
        path=AUTHORIZE,
        endpoint=authorize,
        summary="Send somebody to sign in, and back with a code",
        status=303,
        query=_QUERY,
        response_type="text/html",
        public=True,
        render_error=pages.refused,
    ),
    Route(
        method="POST",
        path=AUTHORIZE,
        endpoint=authorize_by_form,
        summary="The same by a form",
        status=303,
        response_type="text/html",
        public=True,
        render_error=pages.refused,
    ),
    Route(
        method="GET",
        path=RESUME,
        endpoint=resume,
        summary="Go on with a request that is kept",
        status=303,
        query=(Parameter(name="request", summary="what the page before said"),),
        response_type="text/html",
        public=True,
        render_error=pages.refused,
    ),
)
