"""`/admin/api/api-keys`: everybody's API keys, people's and services'."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from keyfob.base.errors import InvalidRequest
from keyfob.endpoints.answers import NO_CONTENT, json_answer
from keyfob.endpoints.api_keys import (
    ApiKeyRequest,
    ApiKeysAnswer,
    NewApiKeyAnswer,
    new_key_answer,
    order_of,
    page_answer,
)
from keyfob.endpoints.bodies import read_json
from keyfob.endpoints.caller import admin_caller, require_csrf
from keyfob.endpoints.paging import PAGING, read_page
from keyfob.endpoints.route import Parameter, Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse

PATH = "/admin/api/api-keys"


class AnyApiKeyRequest(ApiKeyRequest, frozen=True, kw_only=True):
    """A key to be made for a user (a login name or a subject), or for a service (a client id)."""

    user: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    client_id: Annotated[str, Meta(min_length=1, max_length=255)] | None = None


async def list_keys(site: Site, request: HttpRequest) -> HttpResponse:
    """List live keys: of one user (a login name or a subject), of one service (a client id), or everybody's."""
    await admin_caller(site, request)
    asked = read_page(request, also=frozenset({"user", "client"}))
    user, owner = asked.rest.get("user"), asked.rest.get("client")
    if user is not None and owner is not None:
        raise InvalidRequest("invalid_request", "A key has one owner: give user or client.", status=422)
    if user is not None:
        owner = await site.authority.accounts.resolve(user)
    page = await site.authority.api_keys.list(owner, after=asked.after, limit=asked.limit)
    return json_answer(page_answer(page))


async def add_key(site: Site, request: HttpRequest) -> HttpResponse:
    """Make a key for a user or for a service."""
    caller = await admin_caller(site, request)
    asked = await read_json(request, AnyApiKeyRequest)
    require_csrf(site, request, caller)
    keys, actor = site.authority.api_keys, caller.principal.subject
    if (asked.user is None) == (asked.client_id is None):
        raise InvalidRequest("invalid_request", "A key has one owner: give user or client_id.", status=422)
    if asked.client_id is not None:
        return new_key_answer(await keys.add_for_service(asked.client_id, order_of(asked), actor=actor))
    subject = await site.authority.accounts.resolve(asked.user or "")
    return new_key_answer(await keys.add_for_subject(subject, order_of(asked), actor=actor))


async def revoke_key(site: Site, request: HttpRequest) -> HttpResponse:
    """End a key, everywhere."""
    caller = await admin_caller(site, request)
    require_csrf(site, request, caller)
    await site.authority.api_keys.revoke(request.parameters["key_id"], actor=caller.principal.subject)
    return NO_CONTENT


ROUTES = (
    Route(
        method="GET",
        path=PATH,
        endpoint=list_keys,
        summary="List API keys",
        response=ApiKeysAnswer,
        query=(
            *PAGING,
            Parameter(name="user", summary="a login name or a subject"),
            Parameter(name="client", summary="a client id"),
        ),
    ),
    Route(
        method="POST",
        path=PATH,
        endpoint=add_key,
        summary="Make an API key",
        status=201,
        request=AnyApiKeyRequest,
        response=NewApiKeyAnswer,
    ),
    Route(
        method="DELETE",
        path=PATH + "/{key_id}",
        endpoint=revoke_key,
        summary="End an API key",
        status=204,
    ),
)
