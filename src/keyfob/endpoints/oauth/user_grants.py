"""At `/oauth/token`: tokens for somebody who signed in at a client, by a code or by a refresh token."""

from __future__ import annotations

from keyfob.authority.client_authentication import ClientCredentials
from keyfob.authority.client_logins import Origin
from keyfob.authority.user_tokens import UserGranted
from keyfob.base.errors import Cause, Denied, InvalidRequest
from keyfob.clients.client import Client
from keyfob.endpoints.site import Site
from keyfob.endpoints.user_agent import user_agent
from keyfob.grants.authorization_code import CodeUse
from keyfob.http.messages import HttpRequest


async def for_code(
    site: Site, request: HttpRequest, credentials: ClientCredentials | None, *, use: CodeUse
) -> UserGranted:
    """Exchange a code (RFC 6749, section 4.1.3).

    Raises:
        Denied, GrantRefused: as `UserTokens.for_code`, and for a client that does not say who it is.
    """
    if not use.secret:
        raise InvalidRequest("invalid_request", "code is required.")
    client = await _client(site, request, credentials)
    return await site.authority.user_tokens.for_code(client, use, origin=_origin(request))


async def for_refresh_token(
    site: Site,
    request: HttpRequest,
    credentials: ClientCredentials | None,
    *,
    token: str | None,
    scope: str | None,
) -> UserGranted:
    """Exchange a refresh token (RFC 6749, section 6).

    Raises:
        Denied, GrantRefused: as `UserTokens.for_refresh_token`, and for a client that does not say who it is.
    """
    if token is None:
        raise InvalidRequest("invalid_request", "refresh_token is required.")
    client = await _client(site, request, credentials)
    return await site.authority.user_tokens.for_refresh_token(
        client, token, asked_scope=scope, origin=_origin(request)
    )


async def for_device(
    site: Site, request: HttpRequest, credentials: ClientCredentials | None, *, device_code: str | None
) -> UserGranted:
    """Answer a device that asks whether it is let in (RFC 8628, section 3.4).

    Raises:
        Denied, GrantRefused: as `DeviceFlow.poll`, and for a client that does not say who it is.
    """
    if device_code is None:
        raise InvalidRequest("invalid_request", "device_code is required.")
    client = await _client(site, request, credentials)
    return await site.authority.device_flow.poll(client, device_code, origin=_origin(request))


async def for_hand_off(
    site: Site,
    request: HttpRequest,
    credentials: ClientCredentials | None,
    *,
    hand_off: str | None,
    redirect_uri: str | None,
) -> UserGranted:
    """Exchange what a browser brought from our origin (ADR 0019).

    Raises:
        Denied, GrantRefused: as `HandOffs.redeem`, and for a client that does not say who it is.
    """
    if hand_off is None:
        raise InvalidRequest("invalid_request", "hand_off is required.")
    client = await _client(site, request, credentials)
    return await site.authority.hand_offs.redeem(
        client, hand_off, redirect_uri=redirect_uri, origin=_origin(request)
    )


async def _client(site: Site, request: HttpRequest, credentials: ClientCredentials | None) -> Client:
    if credentials is None:
        raise Denied(Cause.NO_CREDENTIAL, "a client that does not say who it is")
    return await site.authority.client_authentication.authenticate(credentials, address=request.address)


def _origin(request: HttpRequest) -> Origin:
    return Origin(user_agent=user_agent(request), address=request.address)
