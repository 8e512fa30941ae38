"""What login, refresh and a changed password answer: the same body, and the same cookies."""

from __future__ import annotations

from datetime import datetime

import msgspec

from keyfob.authority.issued import Issued
from keyfob.authority.strategies import Transport
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.site import Site
from keyfob.http import cookies
from keyfob.http.headers import Header
from keyfob.http.messages import HttpResponse


class GrantAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`expires_at` is the absolute end of the session (RFC 3339, UTC); `expires_in` the seconds of the access token."""

    strategy: str
    subject: str
    session_id: str
    expires_at: datetime
    csrf_token: str
    access_token: str | None = None
    token_type: str | None = None
    expires_in: int | None = None
    session_token: str | None = None
    refresh_token: str | None = None


def grant_answer(site: Site, issued: Issued, transport: Transport) -> HttpResponse:
    """Answer with *issued*: opaque tokens in cookies, or in the body for native clients."""
    in_body = transport is Transport.BODY
    return json_answer(
        GrantAnswer(
            strategy=issued.strategy.value,
            subject=issued.subject,
            session_id=issued.session_id,
            expires_at=issued.expires_at,
            csrf_token=site.authority.csrf_token(issued.session_id),
            access_token=issued.access_token,
            token_type="Bearer" if issued.access_token else None,
            expires_in=issued.expires_in,
            session_token=issued.session_token if in_body else None,
            refresh_token=issued.refresh_token if in_body else None,
        ),
        *(() if in_body else cookies_of(site, issued)),
    )


def cookies_of(site: Site, issued: Issued) -> tuple[Header, ...]:
    """Return the headers that set the cookie of *issued*, and make the browser forget our other one.

    So a browser never holds the cookies of two logins. Without a word of the client that it should last, a cookie has no Max-Age.
    """
    max_age = issued.expires_at - site.authority.clock.now() if issued.persistent else None
    held = {cookies.SESSION_COOKIE: issued.session_token, cookies.REFRESH_COOKIE: issued.refresh_token}
    if not any(held.values()):
        return ()
    return tuple(
        cookies.write(name, token, max_age=max_age) if token else cookies.clear(name)
        for name, token in held.items()
    )
