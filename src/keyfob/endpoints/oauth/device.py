"""`/device`: the page on which somebody lets a device in that shows a code (RFC 8628, section 3.3).

1. They sign in, unless they have within a quarter of an hour: a login of yesterday lets nothing in (section 5.4).
2. They type the code, or see it filled in; nothing is sent without a click. Each try counts (section 5.1).
3. They see what asks, for what, from where and since when, and allow or deny it. That answer counts if it comes from a page of ours, with
   the session of whoever saw it, and with a token that is bound to that session and to that very code.
"""

from __future__ import annotations

import math
from html import escape
from typing import Annotated, Final, Literal

from msgspec import Meta

from keyfob.authority.device_flow import Asked
from keyfob.authority.issued import Issued
from keyfob.authority.sign_in import Device
from keyfob.base.errors import Cause, Denied, InvalidRequest, NotFound, RateLimited
from keyfob.base.identifiers import Strategy
from keyfob.base.principal import Principal
from keyfob.endpoints.bodies import RequestBody, read_form
from keyfob.endpoints.caller import is_vouched_for
from keyfob.endpoints.grant_answer import cookies_of
from keyfob.endpoints.login import Name, PasswordText, end_former, subject_of
from keyfob.endpoints.oauth import pages
from keyfob.endpoints.oauth.authorize import visitor_of
from keyfob.endpoints.oauth.consent import in_words, name_of
from keyfob.endpoints.oauth.paths import DEVICE, DEVICE_ANSWER, DEVICE_SIGN_IN
from keyfob.endpoints.redirect import see_other
from keyfob.endpoints.route import Endpoint, Parameter, Route
from keyfob.endpoints.site import Site
from keyfob.endpoints.user_agent import user_agent
from keyfob.grants import user_code
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.query import once, parse_query

_TITLE: Final = "Let a device in"
_Code = Annotated[str, Meta(max_length=40)]
_Token = Annotated[str, Meta(max_length=200)]


class CodeForm(RequestBody, frozen=True, kw_only=True):
    """A code that somebody typed."""

    user_code: _Code
    csrf_token: _Token


class DeviceAnswer(RequestBody, frozen=True, kw_only=True):
    """Whether the device that shows the code is let in."""

    user_code: _Code
    csrf_token: _Token
    answer: Literal["allow", "deny"]


class DeviceSignInForm(RequestBody, frozen=True, kw_only=True):
    """A name and a password; `user_code` is kept for the next page."""

    username: Name
    password: PasswordText
    user_code: _Code = ""


async def show(site: Site, request: HttpRequest) -> HttpResponse:
    """Show the page, with what the address says of a code filled in."""
    asked = once(parse_query(request.query), allowed=frozenset({"user_code"}))
    typed = asked.get("user_code", "")
    if len(typed) > 40:
        raise InvalidRequest("invalid_request", "That is no code.")
    visitor = await visitor_of(site, request)
    if visitor is None or not site.authority.device_flow.is_fresh(visitor):
        return _sign_in_page(site, typed, known=visitor is not None)
    return await _code_page(site, visitor, typed)


async def sign_in(site: Site, request: HttpRequest) -> HttpResponse:
    """Check the password, and go on with the code."""
    if not is_vouched_for(site, request):
        raise Denied(Cause.CROSS_ORIGIN, "the browser does not say whose form this is")
    form = await read_form(request, DeviceSignInForm)
    try:
        issued = await _signed_in(site, request, form)
    except RateLimited as limited:
        return _too_many(_sign_in_page(site, form.user_code, wrong=_wait_text(limited), status=429), limited)
    except Denied as denied:
        if denied.cause is not Cause.BAD_CREDENTIALS:
            raise
        wrong = "Name or password are not right."
        return _sign_in_page(site, form.user_code, wrong=wrong, status=403)
    code = user_code.read(form.user_code)
    path = DEVICE if code is None else f"{DEVICE}?user_code={user_code.shown(code)}"
    return see_other(path, *cookies_of(site, issued))


async def look_up(site: Site, request: HttpRequest) -> HttpResponse:
    """Find the device that shows the code, and ask whether it is let in."""
    is_vouched_for(site, request)
    form = await read_form(request, CodeForm)
    visitor = await _fresh_visitor(site, request)
    _require_token(site, visitor, "", form.csrf_token)
    try:
        asked = await site.authority.device_flow.find(form.user_code, visitor, address=request.address)
    except RateLimited as limited:
        page = await _code_page(site, visitor, form.user_code, wrong=_wait_text(limited), status=429)
        return _too_many(page, limited)
    except NotFound as missing:
        return await _code_page(site, visitor, form.user_code, wrong=str(missing), status=404)
    return _question_page(site, asked, visitor, name=await name_of(site, visitor.subject))


async def answer(site: Site, request: HttpRequest) -> HttpResponse:
    """Take the answer, once."""
    is_vouched_for(site, request)
    form = await read_form(request, DeviceAnswer)
    visitor = await _fresh_visitor(site, request)
    _require_token(site, visitor, form.user_code, form.csrf_token)
    flow = site.authority.device_flow
    if form.answer == "deny":
        await flow.deny(form.user_code, visitor)
        return pages.page("The device stays out", "<p>You can close this page.</p>")
    asked = await flow.approve(form.user_code, visitor)
    shown = escape(asked.client.name or asked.client.client_id)
    return pages.page("The device is in", f"<p>{shown} goes on by itself. You can close this page.</p>")


async def _fresh_visitor(site: Site, request: HttpRequest) -> Principal:
    visitor = await visitor_of(site, request)
    if visitor is None or not site.authority.device_flow.is_fresh(visitor):
        raise Denied(Cause.REAUTHENTICATION_REQUIRED, "nobody has signed in here, or not lately")
    return visitor


async def _signed_in(site: Site, request: HttpRequest, form: DeviceSignInForm) -> Issued:
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


def _bound(visitor: Principal, typed: str) -> str:
    """Return what the token of a form is bound to: a session, and a code once there is one."""
    code = user_code.read(typed) or ""
    return f"{visitor.session_id} device {code}"


def _require_token(site: Site, visitor: Principal, typed: str, token: str) -> None:
    if not site.authority.csrf_matches(_bound(visitor, typed), token):
        raise Denied(Cause.CROSS_ORIGIN, "no token of this session and this code")


def _sign_in_page(
    site: Site, typed: str, *, known: bool = False, wrong: str = "", status: int = 200
) -> HttpResponse:
    told = pages.alert(wrong) if wrong else ""
    why = "Sign in once more, since it is a while ago." if known else "Sign in first."
    return pages.page(
        _TITLE,
        f'<p>{why}</p>{told}<form method="post" action="{DEVICE_SIGN_IN}">{pages.hidden(user_code=typed)}'
        '<label>Name <input type="text" name="username" maxlength="255" autocomplete="username" required autofocus></label>'
        '<label>Password <input type="password" name="password" maxlength="1024" autocomplete="current-password" required></label>'
        '<button type="submit">Sign in</button></form>',
        status=status,
        returns_to=site.authority.issuer,
    )


async def _code_page(
    site: Site, visitor: Principal, typed: str, *, wrong: str = "", status: int = 200
) -> HttpResponse:
    told = pages.alert(wrong) if wrong else ""
    name = escape(await name_of(site, visitor.subject))
    token = site.authority.csrf_token(_bound(visitor, ""))
    return pages.page(
        _TITLE,
        f"<p>You are signed in as <strong>{name}</strong>. Type the code that the device shows.</p>{told}"
        f'<form method="post" action="{DEVICE}">{pages.hidden(csrf_token=token)}'
        f'<label>Code <input type="text" name="user_code" value="{escape(typed)}" maxlength="40" autocomplete="off" autocapitalize="characters"'
        ' spellcheck="false" required autofocus></label><button type="submit">Go on</button></form>',
        status=status,
        returns_to=site.authority.issuer,
    )


def _question_page(site: Site, asked: Asked, visitor: Principal, *, name: str) -> HttpResponse:
    client, request = asked.client, asked.request
    shown = escape(client.name or client.client_id)
    lines = "".join(f"<li>{in_words(one, request.audience)}</li>" for one in sorted(request.scopes))
    code = user_code.shown(asked.user_code)
    token = site.authority.csrf_token(_bound(visitor, code))
    since = asked.record.created_at.strftime("%H:%M:%S UTC")
    device = escape(request.user_agent or "a device that does not say what it is")
    return pages.page(
        f"Let {client.name or client.client_id} in?",
        f"<p>You are signed in as <strong>{escape(name)}</strong>. <strong>{shown}</strong> (<code>{escape(client.client_id)}</code>) wants to</p>"
        f"<ul>{lines or '<li>sign you in</li>'}</ul>"
        f"<p>It began at {since}, from <code>{escape(request.address or 'an unknown address')}</code>, with {device}, and shows <strong>{code}</strong>.</p>"
        + pages.alert(
            "Allow it only if you began this yourself, on a device in front of you. Whoever sent you this code gets into your account."
        )
        + f'<form method="post" action="{DEVICE_ANSWER}">{pages.hidden(user_code=code, csrf_token=token)}'
        '<button type="submit" name="answer" value="deny">Deny</button>'
        '<button type="submit" name="answer" value="allow">Allow</button></form>',
        returns_to=site.authority.issuer,
    )


def _wait_text(limited: RateLimited) -> str:
    return f"Too many attempts; try again in {math.ceil(limited.retry_after)} s."


def _too_many(page: HttpResponse, limited: RateLimited) -> HttpResponse:
    wait = (b"retry-after", b"%d" % math.ceil(limited.retry_after))
    return HttpResponse(status=page.status, headers=(*page.headers, wait), body=page.body)


def _route(
    path: str, endpoint: Endpoint[Site], *, summary: str, request: type[RequestBody], status: int = 200
) -> Route[Site]:
    return Route(
        method="POST",
        path=path,
        endpoint=endpoint,
        summary=summary,
        status=status,
        request=request,
        request_type="application/x-www-form-urlencoded",
        response_type="text/html",
        public=True,
        render_error=pages.refused,
    )


ROUTES = (
    Route(
        method="GET",
        path=DEVICE,
        endpoint=show,
        summary="The page on which people type the code of a device",
        query=(Parameter(name="user_code", summary="what the device shows"),),
        response_type="text/html",
        public=True,
        render_error=pages.refused,
    ),
    _route(DEVICE, look_up, summary="Find the device of a code", request=CodeForm),
    _route(DEVICE_ANSWER, answer, summary="Let a device in, or keep it out", request=DeviceAnswer),
    _route(
        DEVICE_SIGN_IN,
        sign_in,
        summary="Sign in on the page of devices",
        request=DeviceSignInForm,
        status=303,
    ),
)
