"""`/oauth/sign-in`: a page with a name and a password, for a request that is kept.

Only the browser's own word that the form is ours lets it through (`cross_origin`): whoever could post a name and a password from elsewhere
would sign somebody in to an account that is not theirs. Nothing that is typed or kept says where to go next but the secret of the request.

Whoever signs in again as who they are keeps their session, with a fresh secret and a fresh proof: what they use at other clients goes on.
"""

from __future__ import annotations

import math
from html import escape
from typing import Annotated

from msgspec import Meta

from keyfob.authority.authorizations import Opened, Refused
from keyfob.authority.issued import Issued
from keyfob.authority.sign_in import Device
from keyfob.base.errors import Cause, Denied, RateLimited
from keyfob.base.identifiers import Strategy
from keyfob.endpoints.bodies import RequestBody, read_form
from keyfob.endpoints.caller import is_vouched_for
from keyfob.endpoints.grant_answer import cookies_of
from keyfob.endpoints.login import Name, PasswordText, end_former, subject_of
from keyfob.endpoints.oauth import pages
from keyfob.endpoints.oauth.authorize import go_on, visitor_of
from keyfob.endpoints.oauth.paths import RESUME, SIGN_IN, path_to
from keyfob.endpoints.redirect import see_other
from keyfob.endpoints.route import Parameter, Route
from keyfob.endpoints.site import Site
from keyfob.endpoints.user_agent import user_agent
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.query import once, parse_query


class SignInForm(RequestBody, frozen=True, kw_only=True):
    """`request` is the secret of the request that is kept."""

    request: Annotated[str, Meta(max_length=100)]
    username: Name
    password: PasswordText


async def show(site: Site, request: HttpRequest) -> HttpResponse:
    """Show the page."""
    asked = once(parse_query(request.query), allowed=frozenset({"request"}))
    opened = await site.authority.authorizations.resume(asked.get("request", ""))
    if isinstance(opened, Refused):
        return await go_on(site, request, opened)
    return _page(opened, name=opened.request.login_hint)


async def sign_in(site: Site, request: HttpRequest) -> HttpResponse:
    """Check the password, and go on with the request."""
    if not is_vouched_for(site, request):
        raise Denied(Cause.CROSS_ORIGIN, "the browser does not say whose form this is")
    form = await read_form(request, SignInForm)
    opened = await site.authority.authorizations.resume(form.request)
    if isinstance(opened, Refused):
        return await go_on(site, request, opened)
    try:
        issued = await _signed_in(site, request, form)
    except RateLimited as limited:
        wait = math.ceil(limited.retry_after)
        answer = _page(
            opened, name=form.username, wrong=f"Too many attempts; try again in {wait} s.", status=429
        )
        return _with(answer, (b"retry-after", b"%d" % wait))
    except Denied as denied:
        if denied.cause is not Cause.BAD_CREDENTIALS:
            raise
        return _page(opened, name=form.username, wrong="Name or password are not right.", status=403)
    return see_other(path_to(RESUME, form.request), *cookies_of(site, issued))


async def _signed_in(site: Site, request: HttpRequest, form: SignInForm) -> Issued:
    authority, address = site.authority, request.address
    visitor = await visitor_of(site, request)
    # `as_of` is read before the account is: whatever ends the account while the password waits ends this login.
    async with authority.sign_in() as attempt:
        subject = await subject_of(site, form.username, form.password, address=address)
        if visitor is not None and visitor.subject == subject and visitor.parent_session_id is None:
            return await attempt.prove(visitor)
        issued = await attempt.login(
            subject,
            strategy=Strategy.SESSION,
            device=Device(user_agent=user_agent(request), address=address),
        )
    await end_former(authority, request)
    return issued


def _page(opened: Opened, *, name: str, wrong: str = "", status: int = 200) -> HttpResponse:
    assert opened.secret is not None  # it was found by it
    client = opened.client.name or opened.client.client_id
    told = pages.alert(wrong) if wrong else ""
    focus = ("", " autofocus") if name else (" autofocus", "")
    return pages.page(
        "Sign in",
        f'<p>to go on to <strong>{escape(client)}</strong></p>{told}<form method="post" action="{SIGN_IN}">'
        f"{pages.hidden(request=opened.secret)}"
        f'<label>Name <input type="text" name="username" value="{escape(name)}" maxlength="255" autocomplete="username" required{focus[0]}></label>'
        f'<label>Password <input type="password" name="password" maxlength="1024" autocomplete="current-password" required{focus[1]}></label>'
        '<button type="submit">Sign in</button></form>',
        status=status,
        returns_to=opened.request.redirect_uri,
    )


def _with(answer: HttpResponse, header: tuple[bytes, bytes]) -> HttpResponse:
    return HttpResponse(status=answer.status, headers=(*answer.headers, header), body=answer.body)


ROUTES = (
    Route(
        method="GET",
        path=SIGN_IN,
        endpoint=show,
        summary="The page on which people sign in for a client",
        query=(Parameter(name="request", summary="what the page before said"),),
        response_type="text/html",
        public=True,
        render_error=pages.refused,
    ),
    Route(
        method="POST",
        path=SIGN_IN,
        endpoint=sign_in,
        summary="Sign in by that page",
        status=303,
        request=SignInForm,
        request_type="application/x-www-form-urlencoded",
        response_type="text/html",
        public=True,
        render_error=pages.refused,
    ),
)
