"""What a verifier counts, as plain numbers: for whatever exports metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierStats:
    """Where a verifier stands, and what it did since it was made.

    `staleness`, `clock_offset` (the authority's clock ahead of this one), `round_trip` and the lags are in seconds; `staleness` is infinity
    while it is not level. `lag_buckets` counts entries by how long they took from the authority's clock to this process: one more than
    `feed_view.LAG_BUCKETS`, the last for all above. `forged_as_of` counts credentials that claimed a position that did not exist: each one
    is an alarm.
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
    sessions: int
    introspections: int
    connections: int
    resyncs: int
    forged_as_of: int
