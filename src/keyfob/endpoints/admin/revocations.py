"""`POST /admin/api/revocations`: revoke whatever has a scope."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from keyfob.endpoints.admin.users import ReasonText
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.bodies import RequestBody, read_json
from keyfob.endpoints.caller import admin_caller, require_csrf
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.revocation.entry import Entry


class RevocationRequest(RequestBody, frozen=True, kw_only=True):
    """`id` is left out for the scope `everything`. `reach` `claims` makes credentials be refreshed instead of ended."""

    scope: Literal["token", "session", "subject", "client", "key", "everything"]
    id: Annotated[str, Meta(max_length=255)] = ""
    reach: Literal["end", "claims"] = "end"
    reason: ReasonText = ""


class EntryAnswer(msgspec.Struct, frozen=True, kw_only=True, rename={"spared": "except"}):
    """The entry as it stands in the feed. `until` null means for good; `chain` is the hash chain, in hex."""

    position: int
    at: datetime
    scope: str
    id: str
    reach: str
    spared: str | None
    until: datetime | None
    chain: str


async def revoke(site: Site, request: HttpRequest) -> HttpResponse:
    """Revoke. When this answers, the entry is durable and in force."""
    caller = await admin_caller(site, request)
    asked = await read_json(request, RevocationRequest)
    require_csrf(site, request, caller)
    entry = await site.authority.revoke(
        asked.scope, asked.id, reach=asked.reach, reason=asked.reason, actor=caller.principal.subject
    )
    return json_answer(entry_answer(entry), status=201)


def entry_answer(entry: Entry) -> EntryAnswer:
    """Return *entry* as the API shows it."""
    return EntryAnswer(
        position=entry.position,
        at=entry.at,
        scope=entry.scope.value,
        id=entry.id,
        reach=entry.reach.value,
        spared=entry.spared,
        until=entry.until,
        chain=entry.chain.hex(),
    )


ROUTES = (
    Route(
        method="POST",
        path="/admin/api/revocations",
        endpoint=revoke,
        summary="Revoke a token, session, subject, client, key, or everything",
        status=201,
        request=RevocationRequest,
        response=EntryAnswer,
    ),
)
