"""`/admin/api/revocations`: revoke whatever has a scope, and say beforehand what that would do."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from keyfob.authority.preview import RevocationPreview
from keyfob.endpoints.admin.revocation_slo import LagAnswer, VerifierAnswer, lag_answer, verifier_answer
from keyfob.endpoints.admin.users import ReasonText
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.bodies import RequestBody, read_json
from keyfob.endpoints.caller import admin_caller, require_csrf
from keyfob.endpoints.route import Parameter, Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.query import once, parse_query
from keyfob.revocation.entry import Entry
from keyfob.revocation.slo import VerifierState


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


class PreviewAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a revocation would do now.

    `sessions` are the live ones that `end` would end and `claims` have refreshed: at least so many where `is_counted_out` is false.
    `is_over` says that the session is over, so that nothing would change. `verifiers` are counts by state; `lag` is how long those that
    are level take; `worst_seconds` how long any may go on accepting if the feed does not reach it, by its own word and at least the
    default of those that do not report. `behind` are the verifiers that are not level.
    """

    scope: str
    id: str
    reach: str
    is_over: bool
    sessions: int
    is_counted_out: bool
    verifiers: dict[str, int]
    window_seconds: float
    lag: LagAnswer | None
    worst_seconds: float
    behind: list[VerifierAnswer]


async def revoke(site: Site, request: HttpRequest) -> HttpResponse:
    """Revoke. When this answers, the entry is durable and in force."""
    caller = await admin_caller(site, request)
    asked = await read_json(request, RevocationRequest)
    require_csrf(site, request, caller)
    entry = await site.authority.revoke(
        asked.scope, asked.id, reach=asked.reach, reason=asked.reason, actor=caller.principal.subject
    )
    return json_answer(entry_answer(entry), status=201)


async def preview(site: Site, request: HttpRequest) -> HttpResponse:
    """Say what a revocation would do now. Nothing is changed."""
    await admin_caller(site, request)
    fields = once(parse_query(request.query), allowed=frozenset({"scope", "id", "reach"}))
    found = await site.authority.preview_revocation(
        fields.get("scope", ""), fields.get("id", ""), reach=fields.get("reach", "end")
    )
    return json_answer(preview_answer(found))


def preview_answer(found: RevocationPreview) -> PreviewAnswer:
    """Return *found* as the API shows it."""
    slo = found.slo
    return PreviewAnswer(
        scope=found.scope.value,
        id=found.id,
        reach=found.reach.value,
        is_over=found.is_over,
        sessions=found.sessions,
        is_counted_out=found.is_counted_out,
        verifiers={state.value: slo.count(state) for state in VerifierState},
        window_seconds=slo.window.total_seconds(),
        lag=lag_answer(slo.lags),
        worst_seconds=found.worst.total_seconds(),
        behind=[verifier_answer(one) for one in found.behind],
    )


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
    Route(
        method="GET",
        path="/admin/api/revocations/preview",
        endpoint=preview,
        summary="Say what a revocation would do, and change nothing",
        response=PreviewAnswer,
        query=(
            Parameter(name="scope", summary="token, session, subject, client, key or everything"),
            Parameter(name="id", summary="what the scope names; none for everything"),
            Parameter(name="reach", summary="end (the default) or claims"),
        ),
    ),
)
