"""What a verifier counts, as plain numbers: for whatever exports metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keyfob.verifier.checker import Checker
from keyfob.verifier.feed_view import FeedView
from keyfob.verifier.following import Following
from keyfob.verifier.verdict_cache import LARGEST_VERDICT


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierStats:
    """Where a verifier stands, and what it did since it was made.

    `staleness`, `clock_offset` (the authority's clock ahead of this one), `round_trip` and the lags are in seconds; `staleness` is infinity
    while it is not level. `lag_buckets` counts entries by how long they took from the authority's clock to this process: one more than
    `feed_view.LAG_BUCKETS`, the last for all above. `forged_as_of` counts credentials that claimed a position that did not exist: each one
    is an alarm.

    `verdict_capacity` bounds `verdicts`; `verdict_evictions` counts those that made room for later ones, and `verdict_bytes_bound` is the
    most memory that the cache can take, whatever tokens come (`verdict_cache.LARGEST`).
    """

    staleness: float
    position: int
    live: int
    clock_offset: float
    round_trip: float
    lag_count: int
    lag_total: float
    lag_longest: float
    lag_buckets: tuple[int, ...]
    denials: Mapping[str, int]
    verdicts: int
    verdict_hits: int
    verdict_misses: int
    verdict_evictions: int
    verdict_capacity: int
    verdict_bytes_bound: int
    sessions: int
    introspections: int
    connections: int
    resyncs: int
    forged_as_of: int
    reports: int
    report_failures: int


def stats_of(
    view: FeedView, checker: Checker, following: Following | None, *, denials: Mapping[str, int]
) -> VerifierStats:
    """Read the counts of the moment. They are plain numbers that many threads raise: a scrape may be one off, and no check waits."""
    verdicts = checker.verdicts
    return VerifierStats(
        staleness=view.staleness(),
        position=view.live.head.position,
        live=len(view.live),
        clock_offset=view.time.offset,
        round_trip=view.time.round_trip,
        lag_count=view.lag.count,
        lag_total=view.lag.total,
        lag_longest=view.lag.longest,
        lag_buckets=tuple(view.lag.buckets),
        denials=dict(denials),
        verdicts=len(verdicts),
        verdict_hits=checker.hits,
        verdict_misses=checker.misses,
        verdict_evictions=verdicts.evictions,
        verdict_capacity=verdicts.capacity,
        verdict_bytes_bound=verdicts.capacity * LARGEST_VERDICT,
        sessions=len(checker.sessions),
        introspections=following.introspection.asked if following else 0,
        connections=following.reader.connections if following else 0,
        resyncs=following.reader.resyncs if following else 0,
        forged_as_of=view.live.forged_as_of,
        reports=following.reporting.sent if following else 0,
        report_failures=following.reporting.failures if following else 0,
    )
