"""How long revocations take until they are denied, summed up from what verifiers report. Pure.

Nothing here is better than what is known: who is silent, stale or behind has no percentiles, and its staleness grows with the clock.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from keyfob.base.clock import to_micros
from keyfob.base.identifiers import ClientId, Position, Timeline
from keyfob.revocation.canary import CLOCK_SKEW, Canary
from keyfob.revocation.reports import WINDOW, Lag, Reports, VerifierRecord

REPORT_INTERVAL = timedelta(seconds=10)
"""How often a verifier reports at least; within a second or two of a canary that it denied."""
SILENT_AFTER = 3 * REPORT_INTERVAL
CONFIRM_WITHIN = timedelta(seconds=5)
"""How old a canary is when a report that comes must confirm it, or the verifier is behind."""


class VerifierState(StrEnum):
    """Where a verifier stands; what is worse comes later.

    `LEVEL`: it reports, is level within its own limit, and denied the latest canary. `BEHIND`: it reports, and has not denied a canary that
    it should have. `STALE`: it says itself that it is not level within its limit. `SILENT`: no report for `SILENT_AFTER`.
    """

    LEVEL = "level"
    BEHIND = "behind"
    STALE = "stale"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of lags. `p99` of fewer than 100 is the longest."""

    p50: timedelta
    p99: timedelta
    longest: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierSlo:
    """What is known of one verifier.

    `level_at` is the last moment at which it is known to have denied whatever was revoked before (None: never), `staleness` the time since.
    `clock_error` is how far its reckoning of the authority's time was ahead when the report came, the way of the report included.
    `canaries` were confirmed within the window, `missed` were not though they should be, `doubtful` were confirmed for a moment that
    cannot be. `lags` goes by the verifier's word, bounded by when its reports came; `vouched` by that alone. Both are None unless the
    verifier is level.
    """

    client_id: ClientId
    name: str
    instance: str
    state: VerifierState
    position: Position
    heard_at: datetime
    level_at: datetime | None
    staleness: timedelta | None
    max_staleness: timedelta
    bound: timedelta
    clock_error: timedelta
    canaries: int
    missed: int
    doubtful: int
    lags: Percentiles | None
    vouched: Percentiles | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationSlo:
    """All verifiers that report, the worst of their states (None: there is none), and the lags of those that are level together."""

    at: datetime
    window: timedelta
    last_canary: Canary | None
    state: VerifierState | None
    verifiers: Sequence[VerifierSlo]
    lags: Percentiles | None

    def count(self, state: VerifierState) -> int:
        """Return how many verifiers are in *state*."""
        return sum(verifier.state is state for verifier in self.verifiers)


def sum_up(reports: Reports, *, timeline: Timeline, now: datetime) -> RevocationSlo:
    """Sum up *reports* at *now*; a verifier of another timeline than *timeline* is stale.

    Of a thousand verifiers that takes some tens of milliseconds: not for an event loop.
    """
    since = to_micros(now - WINDOW)
    due = _Due(reports.canaries)
    summed = [_slo(record, due, since=since, timeline=timeline, now=now) for record in reports.verifiers]
    level = [lag for verifier, lags in summed if verifier.state is VerifierState.LEVEL for lag in lags]
    order = list(VerifierState)
    return RevocationSlo(
        at=now,
        window=WINDOW,
        last_canary=reports.canaries[-1] if reports.canaries else None,
        state=max((verifier.state for verifier, _ in summed), key=order.index, default=None),
        verifiers=[verifier for verifier, _ in summed],
        lags=_percentiles([lag.lag for lag in level]),
    )


class _Due:
    """The canaries by their moments."""

    def __init__(self, canaries: Sequence[Canary]) -> None:
        pairs = sorted((to_micros(canary.at), canary.number) for canary in canaries)
        self._moments = [moment for moment, _ in pairs]
        self._numbers = [number for _, number in pairs]

    def between(self, after: int, until: int) -> Sequence[int]:
        """Return the numbers of those revoked after *after* and not after *until*, in microseconds since the epoch, by their moments."""
        return self._numbers[bisect_right(self._moments, after) : bisect_right(self._moments, until)]


def _slo(
    record: VerifierRecord, due: _Due, *, since: int, timeline: Timeline, now: datetime
) -> tuple[VerifierSlo, Sequence[Lag]]:
    # The last report, or one before, must have confirmed these.
    expected = due.between(
        max(since, to_micros(record.first_at)), to_micros(record.heard_at - CONFIRM_WITHIN)
    )
    lags = [lag for lag in record.lags if lag.at > since]
    confirmed = {lag.number for lag in lags}
    state = _state(record, timeline=timeline, now=now)
    # Earlier ones may be missing after a resynchronisation; who is level denies the latest.
    if state is VerifierState.LEVEL and expected and expected[-1] not in confirmed:
        state = VerifierState.BEHIND
    is_level = state is VerifierState.LEVEL
    verifier = VerifierSlo(
        client_id=record.client_id,
        name=record.name,
        instance=record.instance,
        state=state,
        position=record.position,
        heard_at=record.heard_at,
        level_at=record.level_at,
        staleness=None if record.level_at is None else max(now - record.level_at, timedelta(0)),
        max_staleness=record.max_staleness,
        bound=record.bound,
        clock_error=record.sent_at - record.heard_at,
        canaries=len(lags),
        missed=len(set(expected) - confirmed),
        doubtful=sum(lag.doubtful for lag in lags),
        lags=_percentiles([lag.lag for lag in lags]) if is_level else None,
        vouched=_percentiles([lag.vouched for lag in lags]) if is_level else None,
    )
    return verifier, lags


def _state(record: VerifierRecord, *, timeline: Timeline, now: datetime) -> VerifierState:
    """Say where the verifier stands, as far as its word tells that."""
    # One heard in the future was heard by a clock that was wrong: it may have been silent since long ago.
    if not -CLOCK_SKEW <= now - record.heard_at <= SILENT_AFTER:
        return VerifierState.SILENT
    if (
        record.timeline != timeline
        or record.level_at is None
        or record.sent_at - record.level_at > record.max_staleness
    ):
        return VerifierState.STALE
    return VerifierState.LEVEL


def _percentiles(micros: list[int]) -> Percentiles | None:
    """Return the percentiles by nearest rank; None of nothing."""
    if not micros:
        return None
    ordered = sorted(micros)

    def at(part: float) -> timedelta:
        return timedelta(microseconds=ordered[math.ceil(part * len(ordered)) - 1])

    return Percentiles(p50=at(0.5), p99=at(0.99), longest=at(1.0))
