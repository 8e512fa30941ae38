"""`GET /admin/api/revocation-slo`: how long revocations take until every verifier denies them, measured all the time."""

from __future__ import annotations

from datetime import datetime

import msgspec

from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.caller import admin_caller
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.query import once, parse_query
from keyfob.revocation.slo import Percentiles, RevocationSlo, VerifierSlo


class LagAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from a revocation until it is denied. `p99` of fewer than 100 canaries is the longest."""

    p50: float
    p99: float
    max: float


class VerifierAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One verifier that reports.

    `state` is `level`, `behind`, `stale` or `silent`; only what is level has `lag` (by its own word, bounded by when its reports came) and
    `vouched` (by that alone). `staleness_seconds` is the time since it is known to have been level, null for never; `bound_seconds` how
    long any of its routes may go on accepting when it is cut off.
    """

    client_id: str
    verifier: str
    instance: str
    state: str
    position: int
    heard_at: datetime
    level_at: datetime | None
    staleness_seconds: float | None
    max_staleness_seconds: float
    bound_seconds: float
    clock_error_seconds: float
    canaries: int
    missed: int
    doubtful: int
    lag: LagAnswer | None
    vouched: LagAnswer | None


class CanaryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The latest canary."""

    number: int
    position: int
    at: datetime


class SloAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All verifiers that report, within the last `window_seconds`.

    `state` is the worst of theirs, null where none reports; `lag` is that of all that are level. `canary_period_seconds` is 0 where this
    authority revokes none.
    """

    at: datetime
    window_seconds: float
    canary_period_seconds: float
    last_canary: CanaryAnswer | None
    state: str | None
    lag: LagAnswer | None
    verifiers: list[VerifierAnswer]


async def revocation_slo(site: Site, request: HttpRequest) -> HttpResponse:
    """Sum up what verifiers have reported."""
    await admin_caller(site, request)
    once(parse_query(request.query), allowed=frozenset())
    reports = site.authority.reports
    return json_answer(slo_answer(await reports.summary(), period=reports.period.total_seconds()))


def slo_answer(slo: RevocationSlo, *, period: float) -> SloAnswer:
    """Return *slo* as the API shows it; *period* is that of the canary, in seconds."""
    last = slo.last_canary
    return SloAnswer(
        at=slo.at,
        window_seconds=slo.window.total_seconds(),
        canary_period_seconds=period,
        last_canary=None
        if last is None
        else CanaryAnswer(number=last.number, position=last.position, at=last.at),
        state=None if slo.state is None else slo.state.value,
        lag=lag_answer(slo.lags),
        verifiers=[verifier_answer(verifier) for verifier in slo.verifiers],
    )


def verifier_answer(verifier: VerifierSlo) -> VerifierAnswer:
    """Return *verifier* as the API shows it."""
    return VerifierAnswer(
        client_id=verifier.client_id,
        verifier=verifier.name,
        instance=verifier.instance,
        state=verifier.state.value,
        position=verifier.position,
        heard_at=verifier.heard_at,
        level_at=verifier.level_at,
        staleness_seconds=None if verifier.staleness is None else verifier.staleness.total_seconds(),
        max_staleness_seconds=verifier.max_staleness.total_seconds(),
        bound_seconds=verifier.bound.total_seconds(),
        clock_error_seconds=verifier.clock_error.total_seconds(),
        canaries=verifier.canaries,
        missed=verifier.missed,
        doubtful=verifier.doubtful,
        lag=lag_answer(verifier.lags),
        vouched=lag_answer(verifier.vouched),
    )


def lag_answer(lags: Percentiles | None) -> LagAnswer | None:
    """Return *lags* in seconds."""
    if lags is None:
        return None
    return LagAnswer(
        p50=lags.p50.total_seconds(), p99=lags.p99.total_seconds(), max=lags.longest.total_seconds()
    )


ROUTES = (
    Route(
        method="GET",
        path="/admin/api/revocation-slo",
        endpoint=revocation_slo,
        summary="How long revocations take until verifiers deny them",
        response=SloAnswer,
    ),
)
