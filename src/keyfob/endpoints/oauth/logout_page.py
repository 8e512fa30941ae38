"""The pages of `/oauth/logout`: without a script, and with nothing in them that was not escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Final
from urllib.parse import urlsplit

from keyfob.clients.client import Client
from keyfob.http.headers import NO_STORE, Header
from keyfob.http.messages import HttpResponse
from keyfob.http.problem import DEFAULT_REFUSAL, Refusal, problem

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:4rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}"
    "button{font:inherit;padding:.4rem 1.2rem}"
)
_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_SOURCE: Final = re.compile(
    r"[a-z][a-z0-9+.-]*:(//[A-Za-z0-9.\[\]:-]+)?"
)  # what a policy can name without a separator


def confirmation_page(
    action: str, *, client: Client | None, csrf_token: str, onward: str | None, carried: Mapping[str, str]
) -> HttpResponse:
    """Ask whether to sign out. The form posts to *action* what is *carried*; the browser may go on from there to *onward*."""
    name = "An application" if client is None else escape(client.name or client.client_id)
    fields = "".join(
        f'<input type="hidden" name="{escape(field)}" value="{escape(value)}">'
        for field, value in {**carried, "csrf_token": csrf_token}.items()
    )
    return _page(
        "Sign out?",
        f"<p>{name} asks to sign you out, here and wherever you went from here.</p>"
        f'<form method="post" action="{escape(action)}">{fields}<button type="submit">Sign out</button></form>'
        "<p>To stay signed in, close this page.</p>",
        targets=("'self'", *_sources(onward)),
    )


def signed_out_page(headers: Iterable[Header]) -> HttpResponse:
    """Say that nobody is signed in any more."""
    return _page("Signed out", "<p>You are signed out.</p>", headers=headers)


def logout_error(error: Exception, refusal: Refusal = DEFAULT_REFUSAL) -> HttpResponse:
    """Return the page for *error*: status and headers are those of the problem that it is. Nobody is sent anywhere."""
    told = problem(error, refusal)
    headers = [header for header in told.headers if header[0] not in {b"content-type", NO_STORE[0]}]
    text = (
        "This cannot be done at the moment. Try again."
        if told.status >= 500
        else "This request is not right."
    )
    return _page("Not signed out", f"<p>{text} Nothing was changed.</p>", status=told.status, headers=headers)


def _sources(uri: str | None) -> tuple[str, ...]:
    """Return what a policy calls the place of *uri*: browsers hold the redirect after a form to it as well."""
    if uri is None:
        return ()
    parts = urlsplit(uri)
    source = f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:"
    return (source,) if _SOURCE.fullmatch(source) else ()


def _page(
    title: str,
    body: str,
    *,
    status: int = 200,
    headers: Iterable[Header] = (),
    targets: Iterable[str] = ("'none'",),
) -> HttpResponse:
    policy = (
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; form-action {' '.join(targets)}; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1>{body}</body></html>"
    )
    return HttpResponse(
        status=status,
        headers=(
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-security-policy", policy.encode("ascii")),
            NO_STORE,
            *headers,
        ),
        body=html.encode(),
    )
