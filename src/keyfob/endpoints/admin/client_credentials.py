"""`/admin/api/clients/{client_id}/secrets` and `/keys`: by what a client shows that it is itself."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from keyfob.endpoints.admin.clients import PATH, ClientAnswer, KeySet, shown_client
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.bodies import RequestBody, read_json, read_json_if_any
from keyfob.endpoints.caller import admin_caller, require_csrf
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse


class NewSecretRequest(RequestBody, frozen=True, kw_only=True):
    """`compromised`: the secrets and keys that there are end at once, and so does everything that was issued to the client."""

    compromised: bool = False
    reason: Annotated[str, Meta(max_length=500)] = ""


class NewSecretAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A secret, shown this once. `secrets` is how many the client has now; `position` that of the entry, where anything was ended."""

    client_id: str
    client_secret: str
    secrets: int
    position: int | None


class KeysRequest(RequestBody, frozen=True, kw_only=True):
    """The keys with which a client signs from now on; the newest `keep_secrets` of its secrets go on."""

    jwks: KeySet
    keep_secrets: Annotated[int, Meta(ge=0, le=2)] = 0


async def add_secret(site: Site, request: HttpRequest) -> HttpResponse:
    """Give the client one more secret, or one in the place of all that is compromised."""
    caller = await admin_caller(site, request)
    asked = await read_json_if_any(request, NewSecretRequest)
    require_csrf(site, request, caller)
    client_id, actor = request.parameters["client_id"], caller.principal.subject
    clients = site.authority.clients
    if asked.compromised:
        given = await clients.replace_credentials(client_id, actor=actor, reason=asked.reason)
    else:
        given = await clients.rotate_secret(client_id, actor=actor)
    return json_answer(
        NewSecretAnswer(
            client_id=given.client.client_id,
            client_secret=given.secret,
            secrets=len(given.client.secret_digests),
            position=None if given.entry is None else given.entry.position,
        ),
        status=201,
    )


async def set_keys(site: Site, request: HttpRequest) -> HttpResponse:
    """Let the client sign with other keys."""
    caller = await admin_caller(site, request)
    asked = await read_json(request, KeysRequest)
    require_csrf(site, request, caller)
    client = await site.authority.clients.set_keys(
        request.parameters["client_id"],
        msgspec.json.encode(asked.jwks),
        actor=caller.principal.subject,
        keep_secrets=asked.keep_secrets,
    )
    return json_answer(shown_client(client))


ROUTES = (
    Route(
        method="POST",
        path=PATH + "/{client_id}/secrets",
        endpoint=add_secret,
        summary="Give a client a new secret",
        status=201,
        request=NewSecretRequest,
        response=NewSecretAnswer,
    ),
    Route(
        method="PUT",
        path=PATH + "/{client_id}/keys",
        endpoint=set_keys,
        summary="Set the keys with which a client signs",
        request=KeysRequest,
        response=ClientAnswer,
    ),
)
