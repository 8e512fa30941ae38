"""`/api-keys`: your own keys, for scripts and tools."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from keyfob.authority.api_keys import ApiKey, ApiKeyOrder, ApiKeyPage, NewApiKey
from keyfob.endpoints.answers import NO_CONTENT, json_answer
from keyfob.endpoints.bodies import RequestBody, read_json
from keyfob.endpoints.caller import account_caller, require_csrf
from keyfob.endpoints.paging import PAGING, read_page
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse

PATH = "/api-keys"
_Text = Annotated[str, Meta(min_length=1, max_length=255)]


class ApiKeyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A key, without its secret. `last_used_at` is null for one that was never used, and else up to a minute old."""

    key_id: str
    name: str
    subject: str
    client_id: str
    audience: list[str]
    scopes: list[str]
    roles: list[str]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


class NewApiKeyAnswer(ApiKeyAnswer, frozen=True, kw_only=True):
    """A key that was just made. It is shown this once."""

    api_key: str


class ApiKeysAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Live keys, newest first; `next` continues the list. A page may be empty although it is not the last."""

    api_keys: list[ApiKeyAnswer]
    next: str | None


class ApiKeyRequest(RequestBody, frozen=True, kw_only=True):
    """A key to be made. `audience` are the services that take it, `expires_in` is in seconds; without it a key lasts as the deployment says."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    audience: Annotated[list[_Text], Meta(min_length=1, max_length=16)]
    scopes: Annotated[list[_Text], Meta(max_length=64)] = msgspec.field(default_factory=list)
    roles: Annotated[list[_Text], Meta(max_length=64)] = msgspec.field(default_factory=list)
    expires_in: Annotated[int, Meta(ge=1, le=10 * 366 * 86_400)] | None = None


async def list_keys(site: Site, request: HttpRequest) -> HttpResponse:
    """List the caller's live keys."""
    caller = await account_caller(site, request)
    asked = read_page(request)
    page = await site.authority.api_keys.list(caller.principal.subject, after=asked.after, limit=asked.limit)
    return json_answer(page_answer(page))


async def add_key(site: Site, request: HttpRequest) -> HttpResponse:
    """Make a key for the caller, who must have signed in a short while ago."""
    caller = await account_caller(site, request)
    asked = await read_json(request, ApiKeyRequest)
    require_csrf(site, request, caller)
    return new_key_answer(await site.authority.api_keys.add_own(caller.principal, order_of(asked)))


async def revoke_key(site: Site, request: HttpRequest) -> HttpResponse:
    """End one of the caller's keys, everywhere. Another's looks like none at all."""
    caller = await account_caller(site, request)
    require_csrf(site, request, caller)
    owner = caller.principal.subject
    await site.authority.api_keys.revoke(request.parameters["key_id"], actor=owner, owner=owner)
    return NO_CONTENT


def order_of(asked: ApiKeyRequest) -> ApiKeyOrder:
    """Return what *asked* says a key is to be."""
    return ApiKeyOrder(
        name=asked.name,
        audience=asked.audience,
        scopes=asked.scopes,
        roles=asked.roles,
        lifetime=None if asked.expires_in is None else timedelta(seconds=asked.expires_in),
    )


def new_key_answer(made: NewApiKey) -> HttpResponse:
    """Answer with a key that was just made."""
    shown = msgspec.structs.asdict(_shown(made.api_key))
    return json_answer(NewApiKeyAnswer(**shown, api_key=made.text), status=201)


def page_answer(page: ApiKeyPage) -> ApiKeysAnswer:
    """Return what is shown of a page of keys."""
    return ApiKeysAnswer(api_keys=[_shown(key) for key in page.api_keys], next=page.next)


def _shown(key: ApiKey) -> ApiKeyAnswer:
    return ApiKeyAnswer(
        key_id=key.key_id,
        name=key.name,
        subject=key.subject,
        client_id=key.client_id,
        audience=_listed(key.audience),
        scopes=_listed(key.scopes),
        roles=_listed(key.roles),
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
    )


def _listed(names: Sequence[str]) -> list[str]:
    return list(names)


ROUTES = (
    Route(
        method="GET",
        path=PATH,
        endpoint=list_keys,
        summary="Your API keys",
        response=ApiKeysAnswer,
        query=PAGING,
    ),
    Route(
        method="POST",
        path=PATH,
        endpoint=add_key,
        summary="Make an API key of your own",
        status=201,
        request=ApiKeyRequest,
        response=NewApiKeyAnswer,
    ),
    Route(
        method="DELETE",
        path=PATH + "/{key_id}",
        endpoint=revoke_key,
        summary="End one of your API keys",
        status=204,
    ),
)
