"""What verifiers report: where they stand, and when they began to deny each canary. And what a store must do with it.

A report is a claim. What the authority itself can vouch for is when the report came: by then the verifier denied, if it is honest at all.
A moment that cannot be (before the revocation, or after the report came) is counted as doubtful, and as late as the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from keyfob.base.clock import to_micros
from keyfob.base.identifiers import ClientId, Position, Timeline
from keyfob.revocation.canary import KEPT_CANARIES, Canary
from keyfob.revocation.entry import Entry

WINDOW = timedelta(minutes=15)
"""Over which a verifier's lags are kept and summed up; at most the latest `KEPT_CANARIES` of it."""
MAX_VERIFIERS = 1_024
"""Of one store; of them at most `MAX_VERIFIERS_PER_CLIENT` with one client's credentials. One more is refused, and none is pushed out."""
MAX_VERIFIERS_PER_CLIENT = 512
FORGOTTEN_AFTER = timedelta(hours=1)
"""How long a verifier that reports no more is shown as silent, before it is forgotten."""
CLOCK_TOLERANCE = timedelta(seconds=0.5)
"""By which a claimed moment may lie outside of what is possible: clocks of authorities, and the round trip that taught the verifier the time."""

_NOTHING = timedelta(0)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Who reports: a process (`instance`, made anew with each) of a verifier that was given a name, with the credentials of a client."""

    client_id: ClientId
    name: str
    instance: str


@dataclass(frozen=True, slots=True)
class Denial:
    """The verifier began to deny what the entry at `position` covers, at `at` by its reckoning of the authority's time."""

    position: Position
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Where a verifier stood at `sent_at`, by its reckoning of the authority's time.

    It was level with the feed at `level_at` (None: not since it began). Past `max_staleness` it denies, unless a route says otherwise;
    `bound` is the longest that any of its routes may go on accepting when cut off.
    """

    sent_at: datetime
    timeline: Timeline
    position: Position
    level_at: datetime | None
    max_staleness: timedelta
    bound: timedelta
    denials: Sequence[Denial] = ()


class Lag(msgspec.Struct, frozen=True, array_like=True):
    """How long one canary took to be denied, by the verifier's claim, and by what the authority can vouch for. Microseconds.

    Where the claim cannot be, `lag` is what is vouched for, and `doubtful` says so. `at` is when the canary was revoked, in microseconds
    since the epoch.
    """

    number: int
    at: int
    lag: int
    vouched: int
    doubtful: bool


class VerifierRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one verifier: its last report, when it came, and its lags within `WINDOW`, oldest first."""

    client_id: ClientId
    name: str
    instance: str
    first_at: datetime
    heard_at: datetime
    sent_at: datetime
    timeline: Timeline
    position: Position
    level_at: datetime | None
    max_staleness: timedelta
    bound: timedelta
    lags: tuple[Lag, ...] = ()


@dataclass(frozen=True, slots=True)
class Reports:
    """Everything that a store knows of verifiers, and its latest canaries, oldest first: one snapshot."""

    verifiers: Sequence[VerifierRecord]
    canaries: Sequence[Canary]


class ReportStore(Protocol):
    """Keeps what verifiers report, and whose turn the next canary is. Each method is one atomic step.

    Raises `StoreUnavailable` when the store does not answer.
    """

    async def revoke_canary(self, *, now: datetime, period: timedelta) -> Entry | None:
        """Append the entry of the next canary, without an audit event; None if it is not due (`canary.is_due`) or nobody reports.

        Of any number of authorities that call at once exactly one gets the entry. It lives for `CANARY_LIFETIME`.
        """
        ...

    async def report(self, reporter: Reporter, report: Report, *, now: datetime) -> bool:
        """Note *report*, which came at *now*; False, and nothing noted, where there is no room for another verifier."""
        ...

    async def leave(self, reporter: Reporter) -> None:
        """Forget a verifier that was closed. One that is not there is no error."""
        ...

    async def reports(self) -> Reports:
        """Return all verifiers, by client, name and instance, and the latest canaries."""
        ...

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Forget up to *limit* verifiers that were last heard `FORGOTTEN_AFTER` before *now*; return how many."""
        ...


def noted(
    known: VerifierRecord | None,
    reporter: Reporter,
    report: Report,
    *,
    canaries: Mapping[Position, Canary],
    now: datetime,
) -> VerifierRecord:
    """Return the record after *report* came at *now*. A canary that is unknown, or was reported before, changes nothing.

    A report that was overtaken by a later one of its verifier adds its lags alone: where it stood then is no news.
    """
    lags = {} if known is None else {lag.number: lag for lag in known.lags}
    for denial in report.denials:
        canary = canaries.get(denial.position)
        if canary is not None and canary.number not in lags:
            lags[canary.number] = _lag(canary, denial, now)
    since = to_micros(now - WINDOW)
    recent = sorted((lag for lag in lags.values() if lag.at > since), key=lambda lag: lag.number)
    kept = tuple(recent[-KEPT_CANARIES:])
    if known is not None and report.sent_at < known.sent_at <= now + CLOCK_TOLERANCE:
        return msgspec.structs.replace(known, lags=kept)
    return VerifierRecord(
        client_id=reporter.client_id,
        name=reporter.name,
        instance=reporter.instance,
        first_at=now if known is None else known.first_at,
        heard_at=now,
        sent_at=report.sent_at,
        timeline=report.timeline,
        position=report.position,
        level_at=report.level_at,
        max_staleness=report.max_staleness,
        bound=report.bound,
        lags=kept,
    )


def _lag(canary: Canary, denial: Denial, now: datetime) -> Lag:
    claimed, vouched = denial.at - canary.at, max(now - canary.at, _NOTHING)
    doubtful = not -CLOCK_TOLERANCE <= claimed <= vouched + CLOCK_TOLERANCE
    lag = vouched if doubtful else min(max(claimed, _NOTHING), vouched)
    return Lag(canary.number, to_micros(canary.at), lag // _MICROSECOND, vouched // _MICROSECOND, doubtful)
