"""`GET /metrics`: counts for Prometheus, of this process.

Requests are counted in plain dictionaries (one event loop, one writer) and shown by a collector: `Counter.inc` takes a lock and costs as
much as a whole check. Labels are routes, statuses, causes and the names of verifiers; never a session, a subject or a token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import chain
from typing import TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from keyfob.base.errors import StoreUnavailable
from keyfob.endpoints.route import Endpoint, Route
from keyfob.endpoints.site import Site
from keyfob.http.headers import NO_STORE
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.revocation.feed_stats import FeedStats
from keyfob.server.backchannel_metrics import backchannel_families
from keyfob.server.slo_metrics import slo_families

S = TypeVar("S")

CONTENT_TYPE = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


class Metrics:
    """What one process counts."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, int], int] = {}
        self.refusals: dict[str, int] = {}
        self.failures = 0

    def count_answer(self, route: str, status: int) -> None:
        """Count an answer of *route* (its template)."""
        key = (route, status)
        self.answers[key] = self.answers.get(key, 0) + 1

    def count_refusal(self, code: str) -> None:
        """Count a refusal by its code."""
        self.refusals[code] = self.refusals.get(code, 0) + 1

    def count_failure(self) -> None:
        """Count an error that is none of ours: a fault."""
        self.failures += 1

    def families(self) -> Iterator[Metric]:
        """Give what was counted so far."""
        answers = CounterMetricFamily(
            "keyfob_http_responses", "Answers by route and status.", labels=["route", "status"]
        )
        for (route, status), count in sorted(self.answers.items()):
            answers.add_metric([route, str(status)], count)
        yield answers
        refusals = CounterMetricFamily("keyfob_refusals", "Refusals by cause.", labels=["cause"])
        for code, count in sorted(self.refusals.items()):
            refusals.add_metric([code], count)
        yield refusals
        yield CounterMetricFamily("keyfob_faults", "Unexpected errors.", value=self.failures)


def metrics_route(show: Endpoint[S]) -> Route[S]:
    """Return the route `/metrics`, answered by *show*."""
    return Route(
        method="GET",
        path="/metrics",
        endpoint=show,
        summary="Counts for Prometheus",
        response_type="text/plain",
        public=True,
    )


def authority_metrics(metrics: Metrics) -> Route[Site]:
    """Return the route that shows *metrics*, the feed of this process, and what verifiers reported."""

    async def show(site: Site, _request: HttpRequest) -> HttpResponse:
        reports = site.authority.reports
        try:
            slo = await reports.recent_summary()
        except StoreUnavailable:  # the rest is worth showing all the same, and that this is missing
            slo = None
        return shown(
            metrics.families(),
            feed_families(site.authority.feed.stats()),
            slo_families(slo, canaries=reports.canaries),
            backchannel_families(site.authority.backchannel, await _waiting(site)),
        )

    return metrics_route(show)


async def _waiting(site: Site) -> tuple[int, timedelta] | None:
    try:
        return await site.authority.backchannel.oldest()
    except StoreUnavailable:
        return None


def shown(*families: Iterable[Metric]) -> HttpResponse:
    """Answer with *families* in Prometheus's text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Shown(tuple(chain(*families))))
    return HttpResponse(status=200, headers=(CONTENT_TYPE, NO_STORE), body=generate_latest(registry))


class _Shown(Collector):
    """What was put together before."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Give the families."""
        return self._families


def feed_families(stats: FeedStats) -> Iterator[Metric]:
    """Give where a feed stands."""
    yield GaugeMetricFamily("keyfob_feed_position", "The last entry applied here.", value=stats.position)
    yield GaugeMetricFamily(
        "keyfob_feed_live_entries", "Entries that can still cover something.", value=stats.live
    )
    yield GaugeMetricFamily("keyfob_feed_followers", "Open streams of the feed.", value=stats.followers)
    yield GaugeMetricFamily(
        "keyfob_feed_staleness_seconds",
        "Seconds since this process was level with the store.",
        value=stats.staleness,
    )
    yield CounterMetricFamily("keyfob_feed_overflows", "Followers that were too slow.", value=stats.overflows)
    yield CounterMetricFamily("keyfob_feed_failures", "Reads of the store that failed.", value=stats.failures)
