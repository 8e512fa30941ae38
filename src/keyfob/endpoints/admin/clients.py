"""`/admin/api/clients`: applications that hold credentials, and services that follow the feed."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from keyfob.base.identifiers import Strategy
from keyfob.clients.client import Client
from keyfob.endpoints.answers import NO_CONTENT, json_answer
from keyfob.endpoints.bodies import RequestBody, read_json
from keyfob.endpoints.caller import admin_caller, require_csrf
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.query import once, parse_query

PATH = "/admin/api/clients"
StrategyName = Literal["session", "jwt", "hybrid"]
_Text = Annotated[str, Meta(min_length=1, max_length=255)]


class ClientAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A client, without its secret."""

    client_id: str
    created_at: datetime
    scopes: list[str]
    audiences: list[str]
    strategies: list[str]
    default_strategy: str


class ClientsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All clients, by id."""

    clients: list[ClientAnswer]


class NewClientAnswer(ClientAnswer, frozen=True, kw_only=True):
    """A client that was just added. Its secret is shown this once."""

    client_secret: str


class NewClientRequest(RequestBody, frozen=True, kw_only=True):
    """A confidential client to be added."""

    client_id: _Text
    scopes: Annotated[list[_Text], Meta(max_length=64)] = msgspec.field(default_factory=list)
    audiences: Annotated[list[_Text], Meta(max_length=64)] = msgspec.field(default_factory=list)
    strategies: Annotated[list[StrategyName], Meta(min_length=1, max_length=3)] = msgspec.field(
        default_factory=lambda: ["hybrid"]
    )
    default_strategy: StrategyName | None = None


async def list_clients(site: Site, request: HttpRequest) -> HttpResponse:
    """List all clients."""
    await admin_caller(site, request)
    once(parse_query(request.query), allowed=frozenset())
    return json_answer(
        ClientsAnswer(clients=[_shown(client) for client in await site.authority.clients.list()])
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
        actor=caller.principal.subject,
    )
    shown = msgspec.structs.asdict(_shown(added.client))
    return json_answer(NewClientAnswer(**shown, client_secret=added.secret), status=201)


async def delete_client(site: Site, request: HttpRequest) -> HttpResponse:
    """Delete a client, and end everything that was issued to it."""
    caller = await admin_caller(site, request)
    require_csrf(site, request, caller)
    await site.authority.clients.delete(request.parameters["client_id"], actor=caller.principal.subject)
    return NO_CONTENT


def _shown(client: Client) -> ClientAnswer:
    return ClientAnswer(
        client_id=client.client_id,
        created_at=client.created_at,
        scopes=sorted(client.scopes),
        audiences=sorted(client.audiences),
        strategies=sorted(strategy.value for strategy in client.strategies),
        default_strategy=client.default_strategy.value,
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
        method="DELETE",
        path=PATH + "/{client_id}",
        endpoint=delete_client,
        summary="Delete a client",
        status=204,
    ),
)
