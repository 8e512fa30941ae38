"""`/admin/api/clients`: applications that hold credentials, and services that follow the feed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from keyfob.base.identifiers import Strategy
from keyfob.clients.assertion import keys_of
from keyfob.clients.client import Client, GrantType
from keyfob.clients.redirect_uri import MAX_URI
from keyfob.clients.registration import MAX_NAME, MAX_URIS, Registration
from keyfob.endpoints.answers import NO_CONTENT, json_answer
from keyfob.endpoints.bodies import RequestBody, read_json
from keyfob.endpoints.caller import admin_caller, require_csrf
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.query import once, parse_query

PATH = "/admin/api/clients"
StrategyName = Literal["session", "jwt", "hybrid"]
GrantName = Literal[
    "client_credentials",
    "urn:ietf:params:oauth:grant-type:token-exchange",
    "authorization_code",
    "refresh_token",
    "urn:ietf:params:oauth:grant-type:device_code",
    "urn:keyfob:grant-type:hand-off",
]
_Text = Annotated[str, Meta(min_length=1, max_length=255)]
_Uri = Annotated[str, Meta(min_length=1, max_length=MAX_URI)]
_Uris = Annotated[list[_Uri], Meta(max_length=MAX_URIS)]


class ClientAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A client, without its secrets: how many there are, and which keys it signs with. `access_lifetime` is in seconds, null the deployment's."""

    client_id: str
    created_at: datetime
    scopes: list[str]
    audiences: list[str]
    strategies: list[str]
    default_strategy: str
    grant_types: list[str]
    access_lifetime: float | None
    secrets: int
    key_ids: list[str]
    name: str
    redirect_uris: list[str]
    post_logout_redirect_uris: list[str]
    backchannel_logout_uri: str | None
    backchannel_logout_session_required: bool
    cors_origins: list[str]
    first_party: bool
    public: bool
    require_par: bool


class ClientsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All clients, by id."""

    clients: list[ClientAnswer]


class NewClientAnswer(ClientAnswer, frozen=True, kw_only=True):
    """A client that was just added. Its secret is shown this once; null where it has keys or is public."""

    client_secret: str | None


class KeySet(msgspec.Struct, frozen=True, kw_only=True):
    """A JWK Set of public keys (RFC 7517, section 5)."""

    keys: Annotated[list[dict[str, str | list[str]]], Meta(min_length=1, max_length=8)]


class NewClientRequest(RequestBody, frozen=True, kw_only=True):
    """A client to be added; with `jwks`, a JWK Set, it signs with those keys and has no secret. Times are in seconds.

    Without `grant_types` it has `authorization_code` and `refresh_token` if it has redirect URIs or is `public`, else `client_credentials`.
    """

    client_id: _Text
    scopes: Annotated[list[_Text], Meta(max_length=64)] = msgspec.field(default_factory=list)
    audiences: Annotated[list[_Text], Meta(max_length=64)] = msgspec.field(default_factory=list)
    strategies: Annotated[list[StrategyName], Meta(min_length=1, max_length=3)] = msgspec.field(
        default_factory=lambda: ["hybrid"]
    )
    default_strategy: StrategyName | None = None
    grant_types: Annotated[list[GrantName], Meta(max_length=6)] | None = None
    access_lifetime: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    jwks: KeySet | None = None
    name: Annotated[str, Meta(max_length=MAX_NAME)] = ""
    redirect_uris: _Uris = msgspec.field(default_factory=list)
    post_logout_redirect_uris: _Uris = msgspec.field(default_factory=list)
    backchannel_logout_uri: _Uri | None = None
    backchannel_logout_session_required: bool = False
    cors_origins: _Uris = msgspec.field(default_factory=list)
    first_party: bool = False
    public: bool = False
    require_par: bool = False


async def list_clients(site: Site, request: HttpRequest) -> HttpResponse:
    """List all clients."""
    await admin_caller(site, request)
    once(parse_query(request.query), allowed=frozenset())
    return json_answer(
        ClientsAnswer(clients=[shown_client(client) for client in await site.authority.clients.list()])
    )


async def add_client(site: Site, request: HttpRequest) -> HttpResponse:
    """Add a client; the answer has its secret. Without `default_strategy` the first of its strategies is it."""
    caller = await admin_caller(site, request)
    asked = await read_json(request, NewClientRequest)
    require_csrf(site, request, caller)
    added = await site.authority.clients.add(
        asked.client_id,
        scopes=asked.scopes,
        audiences=asked.audiences,
        strategies=[Strategy(name) for name in asked.strategies],
        default_strategy=Strategy(asked.default_strategy or asked.strategies[0]),
        grant_types=None if asked.grant_types is None else [GrantType(name) for name in asked.grant_types],
        access_lifetime=None if asked.access_lifetime is None else timedelta(seconds=asked.access_lifetime),
        public_keys=None if asked.jwks is None else msgspec.json.encode(asked.jwks),
        registration=Registration(
            name=asked.name,
            redirect_uris=asked.redirect_uris,
            post_logout_redirect_uris=asked.post_logout_redirect_uris,
            backchannel_logout_uri=asked.backchannel_logout_uri,
            backchannel_logout_session_required=asked.backchannel_logout_session_required,
            cors_origins=asked.cors_origins,
            first_party=asked.first_party,
            public=asked.public,
            require_par=asked.require_par,
        ),
        actor=caller.principal.subject,
    )
    shown = msgspec.structs.asdict(shown_client(added.client))
    return json_answer(NewClientAnswer(**shown, client_secret=added.secret), status=201)


async def show_client(site: Site, request: HttpRequest) -> HttpResponse:
    """Show one client."""
    await admin_caller(site, request)
    once(parse_query(request.query), allowed=frozenset())
    return json_answer(shown_client(await site.authority.clients.get(request.parameters["client_id"])))


async def delete_client(site: Site, request: HttpRequest) -> HttpResponse:
    """Delete a client, and end everything that was issued to it."""
    caller = await admin_caller(site, request)
    require_csrf(site, request, caller)
    await site.authority.clients.delete(request.parameters["client_id"], actor=caller.principal.subject)
    return NO_CONTENT


def shown_client(client: Client) -> ClientAnswer:
    """Return what is shown of *client*."""
    return ClientAnswer(
        client_id=client.client_id,
        created_at=client.created_at,
        scopes=sorted(client.scopes),
        audiences=sorted(client.audiences),
        strategies=sorted(strategy.value for strategy in client.strategies),
        default_strategy=client.default_strategy.value,
        grant_types=sorted(grant_type.value for grant_type in client.grant_types),
        access_lifetime=None if client.access_lifetime is None else client.access_lifetime.total_seconds(),
        secrets=len(client.secret_digests),
        key_ids=sorted(set(keys_of(client.public_keys)) - {""}),
        name=client.name,
        redirect_uris=sorted(client.redirect_uris),
        post_logout_redirect_uris=sorted(client.post_logout_redirect_uris),
        backchannel_logout_uri=client.backchannel_logout_uri,
        backchannel_logout_session_required=client.backchannel_logout_session_required,
        cors_origins=sorted(client.cors_origins),
        first_party=client.first_party,
        public=client.public,
        require_par=client.require_par,
    )


ROUTES = (
    Route(method="GET", path=PATH, endpoint=list_clients, summary="List clients", response=ClientsAnswer),
    Route(
        method="POST",
        path=PATH,
        endpoint=add_client,
        summary="Add a client",
        status=201,
        request=NewClientRequest,
        response=NewClientAnswer,
    ),
    Route(
        method="GET",
        path=PATH + "/{client_id}",
        endpoint=show_client,
        summary="Show a client",
        response=ClientAnswer,
    ),
    Route(
        method="DELETE",
        path=PATH + "/{client_id}",
        endpoint=delete_client,
        summary="Delete a client",
        status=204,
    ),
)
