"""A verifier's counts for Prometheus: as text, without its client library; and as families, from which the collector is made.

Labels are causes alone; never a session, a subject or a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from keyfob.verifier.feed_view import LAG_BUCKETS
from keyfob.verifier.stats import VerifierStats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of what `exposition` returns."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: what is added to the family's name, at most one label, and the value."""

    suffix: str
    label: tuple[str, str] | None
    value: float


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its samples. The name of a counter ends in `_total`."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    text: str
    samples: Sequence[Sample]


def families(stats: VerifierStats) -> Iterator[Family]:
    """Give the families of *stats*."""
    yield _gauge(
        "keyfob_feed_staleness_seconds",
        "Since the verifier was level with the feed, by the authority's clock; +Inf while it is not.",
        stats.staleness,
    )
    yield _gauge("keyfob_feed_position", "The last entry applied.", stats.position)
    yield _gauge("keyfob_feed_live_entries", "Entries that can still cover something.", stats.live)
    yield _gauge(
        "keyfob_clock_offset_seconds",
        "How far the authority's clock is ahead of this one.",
        stats.clock_offset,
    )
    yield _lags(stats)
    yield Family(
        "keyfob_denials_total",
        "counter",
        "Refused checks, and guards that ended, by cause.",
        [Sample("", ("cause", cause), count) for cause, count in sorted(stats.denials.items())],
    )
    yield from _caches(stats)
    yield _counter(
        "keyfob_introspections_total", "Tokens that the authority was asked about.", stats.introspections
    )
    yield _counter(
        "keyfob_feed_connections_total", "Streams of the feed that were opened.", stats.connections
    )
    yield _counter("keyfob_feed_resyncs_total", "Times that the feed was read anew.", stats.resyncs)
    yield _counter(
        "keyfob_forged_positions_total", "Credentials with a position that did not exist.", stats.forged_as_of
    )
    yield _counter("keyfob_reports_total", "Reports that the authority took.", stats.reports)
    yield _counter("keyfob_report_failures_total", "Reports that it did not.", stats.report_failures)


def exposition(stats: VerifierStats) -> str:
    """Return *stats* in Prometheus's text format."""
    return "".join(_shown(family) for family in families(stats))


def _caches(stats: VerifierStats) -> Iterator[Family]:
    yield _counter(
        "keyfob_verdict_cache_hits_total", "Access tokens answered from memory.", stats.verdict_hits
    )
    yield _counter(
        "keyfob_verdict_cache_misses_total",
        "Access tokens whose signature was checked.",
        stats.verdict_misses,
    )
    yield _counter(
        "keyfob_verdict_cache_evictions_total",
        "Verdicts that were forgotten to make room.",
        stats.verdict_evictions,
    )
    yield _gauge("keyfob_verdict_cache_size", "Verdicts in memory.", stats.verdicts)
    yield _gauge("keyfob_verdict_cache_capacity", "Verdicts in memory at most.", stats.verdict_capacity)
    yield _gauge(
        "keyfob_verdict_cache_bytes_bound",
        "Memory of the cache at most, were every token of the largest size.",
        stats.verdict_bytes_bound,
    )
    yield _gauge("keyfob_session_cache_size", "Introspected sessions in memory.", stats.sessions)


def _lags(stats: VerifierStats) -> Family:
    bounds = [*map(str, LAG_BUCKETS), "+Inf"]
    counts = accumulate(stats.lag_buckets)
    buckets = [Sample("_bucket", ("le", bound), count) for bound, count in zip(bounds, counts, strict=True)]
    # The count is that of the buckets: the two must agree, and are not raised in one step.
    total = [Sample("_sum", None, stats.lag_total), Sample("_count", None, buckets[-1].value)]
    return Family(
        "keyfob_revocation_lag_seconds",
        "histogram",
        "From an entry's moment at the authority until it was applied here.",
        buckets + total,
    )


def _gauge(name: str, text: str, value: float) -> Family:
    return Family(name, "gauge", text, [Sample("", None, value)])


def _counter(name: str, text: str, value: float) -> Family:
    return Family(name, "counter", text, [Sample("", None, value)])


def _shown(family: Family) -> str:
    lines = [f"# HELP {family.name} {family.text}", f"# TYPE {family.name} {family.kind}"]
    for sample in family.samples:
        label = "" if sample.label is None else f'{{{sample.label[0]}="{sample.label[1]}"}}'
        lines.append(f"{family.name}{sample.suffix}{label} {_number(sample.value)}")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    if value == float("-inf"):
        return "-Inf"
    return str(value)
