"""`GET /metrics`: counts for Prometheus, of this process.

Requests are counted in plain dictionaries (one event loop, one writer) and shown by a collector: `Counter.inc` takes a lock and costs as
much as a whole check. Labels are routes, statuses, causes and the names of verifiers; never a session, a subject or a token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from keyfob.base.errors import StoreUnavailable
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.headers import NO_STORE
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.revocation.feed_stats import FeedStats
from keyfob.server.slo_metrics import slo_families

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

    def route(self) -> Route:
        """Return the route that shows the counts."""
        return Route(
            method="GET",
            path="/metrics",
            endpoint=self._show,
            summary="Counts for Prometheus",
            response_type="text/plain",
            public=True,
        )

    async def _show(self, site: Site, _request: HttpRequest) -> HttpResponse:
        registry = CollectorRegistry(auto_describe=False)
        reports = site.authority.reports
        try:
            slo = await reports.recent_summary()
        except StoreUnavailable:  # the rest is worth showing all the same, and that this is missing
            slo = None
        families = slo_families(slo, canaries=reports.canaries)
        registry.register(_Shown(self, site.authority.feed.stats, families))
        return HttpResponse(status=200, headers=(CONTENT_TYPE, NO_STORE), body=generate_latest(registry))


class _Shown(Collector):
    """Turns the counts of the moment into Prometheus's families."""

    def __init__(self, metrics: Metrics, feed: Callable[[], FeedStats], slo: Iterable[Metric]) -> None:
        self._metrics = metrics
        self._feed = feed
        self._slo = tuple(slo)

    def collect(self) -> Iterator[Metric]:
        """Give the families."""
        answers = CounterMetricFamily(
            "keyfob_http_responses", "Answers by route and status.", labels=["route", "status"]
        )
        for (route, status), count in sorted(self._metrics.answers.items()):
            answers.add_metric([route, str(status)], count)
        yield answers
        refusals = CounterMetricFamily("keyfob_refusals", "Refusals by cause.", labels=["cause"])
        for code, count in sorted(self._metrics.refusals.items()):
            refusals.add_metric([code], count)
        yield refusals
        yield CounterMetricFamily("keyfob_faults", "Unexpected errors.", value=self._metrics.failures)
        yield from _feed_families(self._feed())
        yield from self._slo


def _feed_families(stats: FeedStats) -> Iterator[Metric]:
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
