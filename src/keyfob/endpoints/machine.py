"""Clients that call for themselves: by Basic credentials, or by a token with the scope."""

from __future__ import annotations

from keyfob.authority.client_authentication import ClientSecret
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import ClientId
from keyfob.clients import scopes
from keyfob.clients.client import Client
from keyfob.endpoints.site import Site
from keyfob.http import bearer
from keyfob.http.messages import HttpRequest


async def client_by_basic(site: Site, request: HttpRequest, scope: str) -> Client:
    """Return the client that *request* authenticates by HTTP Basic, if it has *scope*.

    Raises:
        Denied: `no_credential`, `bad_credentials` or `insufficient_scope`.
    """
    return await _client(site, request, request.all(b"authorization"), scope)


async def proxy(site: Site, request: HttpRequest) -> Client:
    """Return the proxy that authenticates itself in `X-Keyfob-Proxy`, with the scope `keyfob:check`.

    Raises:
        Denied: `insufficient_scope` if nobody does; `bad_credentials`.
    """
    values = request.all(b"x-keyfob-proxy")
    if not values:
        raise Denied(Cause.INSUFFICIENT_SCOPE, "mint is for a proxy that authenticates itself")
    return await _client(site, request, values, scopes.CHECK)


async def follower(site: Site, request: HttpRequest) -> ClientId:
    """Return the client that follows the feed: by Basic, or by a token for this authority, with the scope `keyfob:feed`.

    Raises:
        Denied: the cause.
    """
    values = request.all(b"authorization")
    if bearer.is_basic(values) or not values:
        credentials = _credentials(values)
        # Wrong ones are not counted: behind the address of a relay are many followers, and each is to hear that it is wrong.
        client = await site.authority.clients.authenticate(credentials.client_id, credentials.secret)
        return _require_scope(client, scopes.FEED).client_id
    token = bearer.read_bearer(values) or ""
    principal = await site.authority.authenticate(
        token, audience=site.authority.issuer, scopes=frozenset({scopes.FEED})
    )
    return principal.client_id


async def _client(site: Site, request: HttpRequest, values: list[bytes], scope: str) -> Client:
    credentials = _credentials(values)
    client = await site.authority.client_authentication.authenticate(
        ClientSecret(credentials.client_id, credentials.secret), address=request.address
    )
    return _require_scope(client, scope)


def _credentials(values: list[bytes]) -> bearer.BasicCredentials:
    credentials = bearer.read_basic(values)
    if credentials is None:
        raise Denied(Cause.NO_CREDENTIAL, "no client credentials")
    return credentials


def _require_scope(client: Client, scope: str) -> Client:
    if scope not in client.scopes:
        raise Denied(Cause.INSUFFICIENT_SCOPE, f"the client lacks {scope}")
    return client
