"""`/oauth/hand-off`: a login goes along to another domain of the same owner, without a password there (ADR 0019).

The secret is in the body of a form that the browser posts across: in no address, so in no log, history or `Referer`. The page that does it
says `strict-origin`, so that the browser names our origin to the target in `Origin`, which must look: else whoever begins a hand-off of
their own could have it posted from another page, and sign somebody in as themselves.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Annotated, Final

from msgspec import Meta

from keyfob.base.errors import Cause, Denied
from keyfob.base.principal import Principal
from keyfob.clients.redirect_uri import MAX_URI
from keyfob.endpoints.bodies import RequestBody, read_form
from keyfob.endpoints.caller import is_vouched_for, require_csrf_of
from keyfob.endpoints.oauth import pages
from keyfob.endpoints.oauth.authorize import visitor_of
from keyfob.endpoints.oauth.consent import name_of
from keyfob.endpoints.oauth.paths import HAND_OFF
from keyfob.endpoints.route import Parameter, Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.query import once, parse_query

_SUBMIT: Final = "document.forms[0].submit()"
_SCRIPT: Final = f"'sha256-{base64.b64encode(hashlib.sha256(_SUBMIT.encode()).digest()).decode()}'"


class HandOffForm(RequestBody, frozen=True, kw_only=True):
    """Where to go on; `csrf_token` is the session's, where the browser does not say whose form this is."""

    client_id: Annotated[str, Meta(max_length=255)]
    redirect_uri: Annotated[str, Meta(max_length=MAX_URI)]
    csrf_token: Annotated[str, Meta(max_length=200)] | None = None


async def show(site: Site, request: HttpRequest) -> HttpResponse:
    """Ask whether to go on: an address alone hands nothing over."""
    asked = once(parse_query(request.query), allowed=frozenset({"client_id", "redirect_uri"}))
    client_id, redirect_uri = asked.get("client_id", ""), asked.get("redirect_uri", "")
    client = await site.authority.hand_offs.target(client_id, redirect_uri)
    visitor = await _visitor(site, request)
    assert visitor.session_id is not None  # a login has a session
    token = site.authority.csrf_token(visitor.session_id)
    hidden = pages.hidden(client_id=client_id, redirect_uri=redirect_uri, csrf_token=token)
    name = escape(await name_of(site, visitor.subject))
    shown = escape(client.name or client.client_id)
    return pages.page(
        f"Go on to {client.name or client.client_id}",
        f"<p>As <strong>{name}</strong>, to <strong>{shown}</strong> at <code>{escape(pages.source_of(redirect_uri))}</code></p>"
        f'<form method="post" action="{HAND_OFF}">{hidden}<button type="submit">Go on</button></form>',
        returns_to=redirect_uri,
    )


async def hand_off(site: Site, request: HttpRequest) -> HttpResponse:
    """Send the browser there, with the secret in what it posts."""
    is_vouched = is_vouched_for(site, request)
    form = await read_form(request, HandOffForm)
    visitor = await _visitor(site, request)
    if not is_vouched:
        require_csrf_of(site, request, visitor.session_id, in_body=form.csrf_token)
    begun = await site.authority.hand_offs.begin(form.client_id, form.redirect_uri, visitor)
    hidden = pages.hidden(hand_off=begun.secret, iss=site.authority.issuer)
    return pages.page(
        "Going on",
        f'<form method="post" action="{escape(begun.redirect_uri)}">{hidden}<button type="submit">Go on</button></form>'
        f"<script>{_SUBMIT}</script>",
        returns_to=begun.redirect_uri,
        script=_SCRIPT,
        referrer=b"strict-origin",
    )


async def _visitor(site: Site, request: HttpRequest) -> Principal:
    visitor = await visitor_of(site, request)
    if visitor is None:
        raise Denied(Cause.NO_CREDENTIAL, "nobody has signed in at this browser")
    return visitor


ROUTES = (
    Route(
        method="GET",
        path=HAND_OFF,
        endpoint=show,
        summary="Ask whether to go on to another domain as who one is",
        query=(
            Parameter(name="client_id", summary="the client there"),
            Parameter(name="redirect_uri", summary="one of its redirect URIs, exactly"),
        ),
        response_type="text/html",
        public=True,
        render_error=pages.refused,
    ),
    Route(
        method="POST",
        path=HAND_OFF,
        endpoint=hand_off,
        summary="Go on to another domain as who one is",
        request=HandOffForm,
        request_type="application/x-www-form-urlencoded",
        response_type="text/html",
        public=True,
        render_error=pages.refused,
    ),
)
