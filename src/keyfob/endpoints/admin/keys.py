"""`/admin/api/keys`: the keys of the authority; secrets never leave the key ring."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from keyfob.endpoints.admin.revocations import EntryAnswer, entry_answer
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.bodies import RequestBody, read_json_if_any
from keyfob.endpoints.caller import admin_caller, require_csrf
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.query import once, parse_query
from keyfob.keys.store import KeyPurpose, StoredKey

PATH = "/admin/api/keys"


class KeyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One key, without its secret part."""

    key_id: str
    purpose: str
    algorithm: str
    created_at: datetime
    activates_at: datetime
    revoked_at: datetime | None


class KeysAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All keys, oldest first."""

    keys: list[KeyAnswer]


class RotateRequest(RequestBody, frozen=True, kw_only=True):
    """Which kind of key is to get a successor."""

    purpose: Literal["access", "feed", "opaque", "csrf"] = "access"


class RevokeKeyRequest(RequestBody, frozen=True, kw_only=True):
    """Why, for the audit trail."""

    reason: Annotated[str, Meta(max_length=500)] = ""


async def list_keys(site: Site, request: HttpRequest) -> HttpResponse:
    """List all keys."""
    await admin_caller(site, request)
    once(parse_query(request.query), allowed=frozenset())
    stored = await site.authority.store.keys.all()
    return json_answer(KeysAnswer(keys=[_shown(key) for key in stored]))


async def rotate_key(site: Site, request: HttpRequest) -> HttpResponse:
    """Make the next key of a purpose. It is announced first, and used once everybody can know it."""
    caller = await admin_caller(site, request)
    asked = await read_json_if_any(request, RotateRequest)
    require_csrf(site, request, caller)
    await site.authority.keys.rotate(KeyPurpose(asked.purpose))
    stored = await site.authority.store.keys.all()
    return json_answer(KeysAnswer(keys=[_shown(key) for key in stored]), status=201)


async def revoke_key(site: Site, request: HttpRequest) -> HttpResponse:
    """Declare an access key compromised: whatever it signed is refused from now on, for good."""
    caller = await admin_caller(site, request)
    asked = await read_json_if_any(request, RevokeKeyRequest)
    require_csrf(site, request, caller)
    entry = await site.authority.revoke(
        "key", request.parameters["key_id"], reason=asked.reason, actor=caller.principal.subject
    )
    return json_answer(entry_answer(entry), status=201)


def _shown(key: StoredKey) -> KeyAnswer:
    return KeyAnswer(
        key_id=key.key_id,
        purpose=key.purpose.value,
        algorithm=key.algorithm,
        created_at=key.created_at,
        activates_at=key.activates_at,
        revoked_at=key.revoked_at,
    )


ROUTES = (
    Route(method="GET", path=PATH, endpoint=list_keys, summary="List keys", response=KeysAnswer),
    Route(
        method="POST",
        path=PATH + "/rotate",
        endpoint=rotate_key,
        summary="Make the next key",
        status=201,
        request=RotateRequest,
        response=KeysAnswer,
    ),
    Route(
        method="POST",
        path=PATH + "/{key_id}/revoke",
        endpoint=revoke_key,
        summary="Declare a key compromised",
        status=201,
        request=RevokeKeyRequest,
        response=EntryAnswer,
    ),
)
