"""The pages of `/oauth/logout`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from html import escape

from keyfob.clients.client import Client
from keyfob.endpoints.oauth.pages import hidden, page
from keyfob.http.headers import Header
from keyfob.http.messages import HttpResponse


def confirmation_page(
    action: str, *, client: Client | None, fields: Mapping[str, str], returns_to: str
) -> HttpResponse:
    """Ask whether to sign out. The form posts *fields* to *action*; the browser may go on from there to *returns_to*."""
    name = "An application" if client is None else escape(client.name or client.client_id)
    return page(
        "Sign out?",
        f"<p>{name} asks to sign you out, here and everywhere you went from here.</p>"
        f'<form method="post" action="{escape(action)}">{hidden(**fields)}<button type="submit">Sign out</button></form>'
        "<p>To stay signed in, close this page.</p>",
        returns_to=returns_to,
    )


def signed_out_page(headers: Iterable[Header]) -> HttpResponse:
    """Say that nobody is signed in any more."""
    answer = page("Signed out", "<p>You are signed out.</p>")
    return replace(answer, headers=(*answer.headers, *headers))
