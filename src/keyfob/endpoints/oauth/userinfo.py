"""`GET` and `POST /oauth/userinfo`: claims about who has logged in (OpenID Connect Core 1.0, section 5.3).

1. The credential is an access token in the `Authorization` header, and nothing else: no cookie, no session token, no API key.
2. It stands, as at any other door: signature, times, the feed's rule.
3. Its audience is this endpoint, or the authority itself: a service that was given a token for itself cannot ask here with it.
4. It is of somebody's login, with the scope `openid`.
"""

from __future__ import annotations

from keyfob.authority.user_info import userinfo_audience
from keyfob.base.errors import Cause, Denied
from keyfob.base.opaque import kind_of
from keyfob.base.principal import Principal
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http import bearer
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.problem import Refusal

PATH = "/oauth/userinfo"
_OPENID = frozenset({"openid"})


async def userinfo(site: Site, request: HttpRequest) -> HttpResponse:
    """Answer with what the scopes of the token ask for."""
    principal = await _asking(site, request)
    return json_answer(await site.authority.user_info.about(principal))


async def _asking(site: Site, request: HttpRequest) -> Principal:
    token = bearer.read_bearer(request.all(b"authorization"))
    if token is None:
        raise Denied(Cause.NO_CREDENTIAL, "no access token")
    if kind_of(token) is not None:
        raise Denied(Cause.WRONG_TYPE, "an opaque token, where an access token belongs")
    issuer = site.authority.issuer
    principal = await site.authority.authenticate(token)
    if not {issuer, userinfo_audience(issuer)} & set(principal.audience):
        raise Denied(Cause.WRONG_AUDIENCE, f"for {list(principal.audience)}, not this endpoint")
    if not principal.scopes >= _OPENID or principal.session_id is None or principal.auth_time is None:
        raise Denied(Cause.INSUFFICIENT_SCOPE, "no login with the scope openid")
    return principal


ROUTES = tuple(
    Route(
        method=method,
        path=PATH,
        endpoint=userinfo,
        summary="Claims about who has logged in (access token with scope openid)",
        refusal=Refusal(scopes=("openid",)),
    )
    for method in ("GET", "POST")
)
