"""`/oauth/consent`: whether somebody allows what a client asks, and whether they go on as who they are.

An answer counts if it comes from a page of ours (the browser says so, `cross_origin`), with the session of whoever was asked, and with a
token that is bound to that session and to that very request: neither another site, nor an answer to another request, nor a page in a frame
can give it.
"""

from __future__ import annotations

from html import escape
from typing import Annotated, Final, Literal

from msgspec import Meta

from keyfob.authority.authorizations import Opened, Refused
from keyfob.base.errors import Cause, Denied, InvalidRequest
from keyfob.base.identifiers import Subject
from keyfob.base.principal import Principal
from keyfob.endpoints.bodies import RequestBody, read_form
from keyfob.endpoints.caller import is_vouched_for
from keyfob.endpoints.oauth import pages
from keyfob.endpoints.oauth.authorization_response import code_response, error_response
from keyfob.endpoints.oauth.authorize import go_on, visitor_of
from keyfob.endpoints.oauth.paths import CONSENT, RESUME, SIGN_IN, path_to
from keyfob.endpoints.redirect import see_other
from keyfob.endpoints.route import Parameter, Route
from keyfob.endpoints.site import Site
from keyfob.grants import scope
from keyfob.grants.prompting import AskConsent, ChooseAccount
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.query import once, parse_query

_WORDS: Final = {
    "openid": "know who you are",
    "profile": "read your name",
    "email": "read your e-mail address",
    scope.OFFLINE_ACCESS: "act for you also when you are signed out here, until you end it",
}


class ConsentAnswer(RequestBody, frozen=True, kw_only=True):
    """`allow` or `deny` what is asked; `go_on` as who is signed in, or `switch` to another account."""

    request: Annotated[str, Meta(max_length=100)]
    csrf_token: Annotated[str, Meta(max_length=200)]
    answer: Literal["allow", "deny", "go_on", "switch"]


async def show(site: Site, request: HttpRequest) -> HttpResponse:
    """Show what is asked; where nothing is (any more), go on."""
    asked = once(parse_query(request.query), allowed=frozenset({"request"}))
    opened = await site.authority.authorizations.resume(asked.get("request", ""))
    if isinstance(opened, Refused):
        return await go_on(site, request, opened)
    visitor = await visitor_of(site, request)
    if visitor is None:
        return await go_on(site, request, opened)
    match await site.authority.authorizations.next_step(opened, visitor):
        case AskConsent():
            return _consent_page(site, opened, visitor, name=await name_of(site, visitor.subject))
        case ChooseAccount():
            return _account_page(site, opened, visitor, name=await name_of(site, visitor.subject))
        case _:
            return await go_on(site, request, opened)


async def answer(site: Site, request: HttpRequest) -> HttpResponse:
    """Take the answer, once."""
    is_vouched_for(site, request)
    form = await read_form(request, ConsentAnswer)
    authorizations = site.authority.authorizations
    opened = await authorizations.resume(form.request)
    visitor = await visitor_of(site, request)
    if isinstance(opened, Refused) or visitor is None:
        return await go_on(site, request, opened)
    if not site.authority.csrf_matches(_bound(visitor, form.request), form.csrf_token):
        raise Denied(Cause.CROSS_ORIGIN, "no token of this session and this request")
    match form.answer:
        case "allow":
            code = await authorizations.allow(opened, visitor)
            if isinstance(code, str):
                return code_response(site, opened.request.place, code)
        case "deny":
            await authorizations.deny(opened)
            return error_response(site, opened.request.place, "access_denied", "The user does not allow it.")
        case "switch":
            return see_other(path_to(SIGN_IN, form.request))
        case "go_on":
            await authorizations.choose(opened, visitor)
    return see_other(path_to(RESUME, form.request))


def _bound(visitor: Principal, secret: str) -> str:
    """Return what the token of an answer is bound to. A session id has no space in it."""
    if visitor.session_id is None:
        raise InvalidRequest("invalid_request", "There is no session to answer with.")
    return f"{visitor.session_id} {secret}"


async def name_of(site: Site, subject: Subject) -> str:
    """Return what to call *subject*: the name of its account, where the account is here."""
    account = await site.authority.store.accounts.find(subject)
    return subject if account is None else account.name


def _consent_page(site: Site, opened: Opened, visitor: Principal, *, name: str) -> HttpResponse:
    client, request = opened.client, opened.request
    shown = escape(client.name or client.client_id)
    lines = "".join(f"<li>{in_words(one, request.audience)}</li>" for one in sorted(request.scopes))
    lasting = (
        "It lasts until you or the application ends it."
        if scope.OFFLINE_ACCESS in request.scopes
        else "It lasts as long as you are signed in here."
    )
    return pages.page(
        f"Allow {client.name or client.client_id}?",
        f"<p>You are signed in as <strong>{escape(name)}</strong>. <strong>{shown}</strong> (<code>{escape(client.client_id)}</code>) wants to</p>"
        f"<ul>{lines or '<li>sign you in</li>'}</ul><p>{lasting} You go back to <code>{escape(pages.source_of(request.redirect_uri))}</code>.</p>"
        + _form(site, opened, visitor, allow="Allow", deny="Deny", switch="Use another account"),
        returns_to=request.redirect_uri,
    )


def _account_page(site: Site, opened: Opened, visitor: Principal, *, name: str) -> HttpResponse:
    return pages.page(
        "Go on as",
        f"<p><strong>{escape(name)}</strong> to {escape(opened.client.name or opened.client.client_id)}</p>"
        + _form(site, opened, visitor, go_on=f"Go on as {name}", switch="Use another account"),
        returns_to=opened.request.redirect_uri,
    )


def _form(site: Site, opened: Opened, visitor: Principal, **buttons: str) -> str:
    assert opened.secret is not None  # it was found by it
    token = site.authority.csrf_token(_bound(visitor, opened.secret))
    shown = "".join(
        f'<button type="submit" name="answer" value="{value}">{escape(text)}</button>'
        for value, text in buttons.items()
    )
    return f'<form method="post" action="{CONSENT}">{pages.hidden(request=opened.secret, csrf_token=token)}{shown}</form>'


def in_words(one: str, audience: str) -> str:
    """Return what the scope *one* lets an application do, as HTML."""
    words = _WORDS.get(one)
    return escape(words) if words else f"use <code>{escape(one)}</code> at <code>{escape(audience)}</code>"


ROUTES = (
    Route(
        method="GET",
        path=CONSENT,
        endpoint=show,
        summary="The page on which people allow what a client asks",
        query=(Parameter(name="request", summary="what the page before said"),),
        response_type="text/html",
        public=True,
        render_error=pages.refused,
    ),
    Route(
        method="POST",
        path=CONSENT,
        endpoint=answer,
        summary="Answer by that page",
        status=303,
        request=ConsentAnswer,
        request_type="application/x-www-form-urlencoded",
        response_type="text/html",
        public=True,
        render_error=pages.refused,
    ),
)
