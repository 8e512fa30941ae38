"""`POST /feed/reports`: verifiers say where they stand, and when they began to deny each canary.

Whoever reports is known by its credentials: a client can say what it likes of its own verifiers, and nothing of another's.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from keyfob.base.clock import from_micros
from keyfob.base.identifiers import Position, Timeline
from keyfob.clients import scopes
from keyfob.endpoints.answers import NO_CONTENT
from keyfob.endpoints.bodies import RequestBody, read_json
from keyfob.endpoints.machine import follower
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.problem import Challenge, Refusal
from keyfob.revocation.reports import Denial, Report, Reporter

MAX_DENIALS = 64
"""Canaries in one report: five minutes of them at one every 5 s, then their entries are gone."""
_YEAR = 366 * 86_400

# A `$` alone would take a line feed behind the text.
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$(?!\n)")]
Instance = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$(?!\n)")]
Micros = Annotated[int, Meta(ge=0, le=2**53)]
PositionNumber = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Seconds = Annotated[float, Meta(ge=0, le=_YEAR)]


class DenialReport(RequestBody, frozen=True, kw_only=True):
    """The entry at `position` is denied since `at`, in microseconds since the epoch by the verifier's reckoning of the server's time."""

    position: PositionNumber
    at: Micros


class VerifierReport(RequestBody, frozen=True, kw_only=True):
    """Where a verifier stands at `sent_at`.

    Moments are microseconds since the epoch, UTC; `max_staleness` and `bound` are seconds. `level_at` is null for one that was never level.
    With `leaving` it was closed, and is forgotten.
    """

    verifier: Name
    instance: Instance
    sent_at: Micros
    timeline: Annotated[str, Meta(max_length=64)]
    position: PositionNumber
    level_at: Micros | None
    max_staleness: Seconds
    bound: Seconds
    denials: Annotated[list[DenialReport], Meta(max_length=MAX_DENIALS)] = msgspec.field(default_factory=list)
    leaving: bool = False


async def report(site: Site, request: HttpRequest) -> HttpResponse:
    """Note the report. Canaries that are unknown, or were reported before, are passed over."""
    client_id = await follower(site, request)
    asked = await read_json(request, VerifierReport)
    reporter = Reporter(client_id=client_id, name=asked.verifier, instance=asked.instance)
    if asked.leaving:
        await site.authority.reports.leave(reporter)
    else:
        await site.authority.reports.report(reporter, _report(asked))
    return NO_CONTENT


def _report(asked: VerifierReport) -> Report:
    return Report(
        sent_at=from_micros(asked.sent_at),
        timeline=Timeline(asked.timeline),
        position=Position(asked.position),
        level_at=None if asked.level_at is None else from_micros(asked.level_at),
        max_staleness=timedelta(seconds=asked.max_staleness),
        bound=timedelta(seconds=asked.bound),
        denials=[Denial(Position(denial.position), from_micros(denial.at)) for denial in asked.denials],
    )


ROUTES = (
    Route(
        method="POST",
        path="/feed/reports",
        endpoint=report,
        summary="Report where a verifier stands (scope keyfob:feed)",
        status=204,
        request=VerifierReport,
        refusal=Refusal(challenge=Challenge.EITHER, scopes=(scopes.FEED,)),
    ),
)
