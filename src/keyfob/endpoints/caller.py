"""Who is calling: the credential of a request, checked, and the cross-origin guard in front of what changes something.

The order for what changes something: the browser's headers (403) → the credential (401) → the body → the CSRF token, where a cookie is the
credential and the browser sent neither header (403) → the change.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import FIRST_PARTY, SessionId
from keyfob.base.principal import Principal
from keyfob.endpoints.site import Site
from keyfob.http import cross_origin
from keyfob.http.credential import Presented, read_credential
from keyfob.http.messages import HttpRequest

MAX_CSRF_TOKEN = 200  # characters
ADMIN = "keyfob:admin"
"""The role, or the scope, that opens the admin API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is calling. `vouched` says that no CSRF token is needed."""

    principal: Principal
    presented: Presented
    vouched: bool


def presented(request: HttpRequest) -> Presented:
    """Return the one credential of *request*.

    Raises:
        Denied: `no_credential`; `malformed` for one that cannot be read, and for two.
    """
    return read_credential(authorization=request.all(b"authorization"), cookie=request.all(b"cookie"))


def is_vouched_for(site: Site, request: HttpRequest) -> bool:
    """Say whether method or browser vouch for *request* (`cross_origin`).

    Raises:
        Denied: `cross_origin`.
    """
    return cross_origin.is_vouched_for(
        request.method,
        site=request.all(b"sec-fetch-site"),
        origin=request.all(b"origin"),
        own_origins=site.own_origins,
    )


async def any_caller(site: Site, request: HttpRequest) -> Caller:
    """Return the caller, by a credential for any audience of this issuer.

    Raises:
        Denied: the cause.
    """
    vouched = is_vouched_for(site, request)
    credential = presented(request)
    principal = await site.authority.authenticate(credential.token)
    return Caller(principal=principal, presented=credential, vouched=vouched)


async def account_caller(site: Site, request: HttpRequest) -> Caller:
    """Return the caller of an account route: by the cookie, or by a token whose audience is the authority. Only a login has an account.

    Raises:
        Denied: the cause; `reauthentication_required` for an API key, and for a service; `insufficient_scope` for what somebody let a client
            of others do: their account is not part of it.
    """
    vouched = is_vouched_for(site, request)
    credential = presented(request)
    audience = None if credential.by_cookie else site.authority.issuer
    principal = await site.authority.authenticate(credential.token, audience=audience)
    if principal.auth_time is None:
        raise Denied(Cause.REAUTHENTICATION_REQUIRED, "an API key or a service is no login")
    if not credential.by_cookie and principal.client_id != FIRST_PARTY:
        await _require_own(site, principal)
    return Caller(principal=principal, presented=credential, vouched=vouched)


async def _require_own(site: Site, principal: Principal) -> None:
    found = await site.authority.store.sessions.find(principal.session_id) if principal.session_id else None
    if found is None or found.session.is_delegated:
        raise Denied(Cause.INSUFFICIENT_SCOPE, "what somebody let a client do is no way to their account")


async def admin_caller(site: Site, request: HttpRequest) -> Caller:
    """Return the caller of the admin API: audience the authority, role or scope `keyfob:admin`.

    Raises:
        Denied: the cause; `insufficient_role` without either.
    """
    vouched = is_vouched_for(site, request)
    credential = presented(request)
    principal = await site.authority.authenticate(credential.token, audience=site.authority.issuer)
    if ADMIN not in principal.roles and ADMIN not in principal.scopes:
        raise Denied(Cause.INSUFFICIENT_ROLE, f"neither role nor scope {ADMIN}")
    return Caller(principal=principal, presented=credential, vouched=vouched)


def require_csrf(site: Site, request: HttpRequest, caller: Caller, *, in_body: str | None = None) -> None:
    """Refuse a caller by cookie for whom nothing vouches: neither the browser's headers nor a CSRF token of its session.

    Raises:
        Denied: `cross_origin`.
    """
    if caller.vouched or not caller.presented.by_cookie:
        return
    require_csrf_of(site, request, caller.principal.session_id, in_body=in_body)


def require_csrf_of(
    site: Site, request: HttpRequest, session_id: SessionId | None, *, in_body: str | None = None
) -> None:
    """Refuse *request* unless its `X-CSRF-Token`, or the field *in_body* where there is no such header, is the session's.

    Raises:
        Denied: `cross_origin`.
    """
    values = request.all(b"x-csrf-token")
    token = values[0].decode("latin-1") if len(values) == 1 else in_body
    if (
        len(values) > 1
        or not token
        or len(token) > MAX_CSRF_TOKEN
        or session_id is None
        or not site.authority.csrf_matches(session_id, token)
    ):
        raise Denied(Cause.CROSS_ORIGIN, "no CSRF token of the session")
