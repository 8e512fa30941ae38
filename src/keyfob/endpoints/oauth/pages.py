"""The pages on which people sign in and answer: small, without a script, never in a frame, and with nothing from anywhere else.

A browser applies `form-action` to where a form's answer leads as well, so a page states the one place that its request may return to.
With a form, `Referrer-Policy` is `same-origin`: the browser tells no other site where it comes from, and still names our own origin to us.
"""

from __future__ import annotations

import base64
import hashlib
import re
from html import escape
from typing import Final

import msgspec

from keyfob.http.headers import NO_STORE
from keyfob.http.messages import HttpResponse
from keyfob.http.problem import DEFAULT_REFUSAL, ProblemBody, Refusal, problem

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:4rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}"
    "h1{font-size:1.4rem}label{display:block;margin:0 0 1rem}"
    "input[type=text],input[type=password]{display:block;box-sizing:border-box;width:100%;font:inherit;padding:.4rem}"
    "button{font:inherit;padding:.5rem 1.4rem;margin:0 .6rem .6rem 0}.wrong{color:#a00;font-weight:600}code{overflow-wrap:anywhere}"
)
_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HTML: Final = (b"content-type", b"text/html; charset=utf-8")
_ORIGIN: Final = re.compile(r"(https?://[A-Za-z0-9.-]+(?::[0-9]+)?)(?:[/?].*)?")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:).*")


def page(
    title: str,
    content: str,
    *,
    status: int = 200,
    returns_to: str | None = None,
    script: str = "",
    referrer: bytes = b"same-origin",
) -> HttpResponse:
    """Answer with a page; *content* is HTML in which everything of others is escaped. With a form, *returns_to* is where that may lead in the end.

    *script* is the source expression of the one script that runs there; *referrer* what a page with a form tells of itself.
    """
    scripts = f"script-src {script}; " if script else ""
    targets = "'self'" if returns_to is None else f"'self' {source_of(returns_to)}"
    policy = f"default-src 'none'; {scripts}style-src 'sha256-{_DIGEST}'; form-action {targets}; base-uri 'none'; frame-ancestors 'none'"
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{content}</body></html>"
    )
    told = () if returns_to is None else ((b"referrer-policy", referrer),)
    headers = (
        _HTML,
        NO_STORE,
        (b"content-security-policy", policy.encode("ascii")),
        (b"x-frame-options", b"DENY"),
        *told,
    )
    return HttpResponse(status=status, headers=headers, body=text.encode())


def source_of(uri: str) -> str:
    """Return the source expression of a registered redirect URI: its origin, or its scheme where there is none that a policy can name.

    A policy cannot name an IPv6 address.
    """
    origin = _ORIGIN.fullmatch(uri)
    scheme = _SCHEME.fullmatch(uri)
    found = origin or scheme
    assert found is not None  # whatever is registered has a scheme
    return found[1]


def hidden(**fields: str) -> str:
    """Return hidden inputs."""
    return "".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in fields.items()
    )


def refused(error: Exception, refusal: Refusal = DEFAULT_REFUSAL) -> HttpResponse:
    """Answer a person with *error*: what a problem document says, as a page, and nothing of it anywhere else."""
    told = problem(error, refusal)
    detail = msgspec.json.decode(told.body, type=ProblemBody).detail
    answer = page("This did not work", alert(detail), status=told.status)
    kept = {b"retry-after", b"allow", b"x-auth-cause", b"www-authenticate"}
    return HttpResponse(
        status=answer.status,
        headers=(*answer.headers, *(header for header in told.headers if header[0] in kept)),
        body=answer.body,
    )


def alert(text: str) -> str:
    """Return *text* as what a reader is told first."""
    return f'<p class="wrong" role="alert">{escape(text)}</p>'
