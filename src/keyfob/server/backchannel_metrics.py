"""How the back channel stands, as Prometheus's families: counts of this process, and what waits in the store, the same on every server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from keyfob.authority.backchannel import Backchannel


def backchannel_families(backchannel: Backchannel, waiting: tuple[int, timedelta] | None) -> Iterator[Metric]:
    """Give the families; *waiting* is how much waits and since when the first of it, None where the store does not answer."""
    delivery = backchannel.delivery
    yield CounterMetricFamily(
        "keyfob_backchannel_delivered", "Logout tokens that clients took.", value=delivery.delivered
    )
    yield CounterMetricFamily(
        "keyfob_backchannel_failed", "Attempts that no client took.", value=delivery.failed
    )
    yield CounterMetricFamily(
        "keyfob_backchannel_given_up", "Logout tokens not taken within a day.", value=delivery.given_up
    )
    yield CounterMetricFamily(
        "keyfob_backchannel_missed_entries",
        "Entries of the feed that were gone before they were read.",
        value=backchannel.queue.missed,
    )
    if waiting is None:
        return
    yield GaugeMetricFamily("keyfob_backchannel_waiting", "Logout tokens not taken yet.", value=waiting[0])
    yield GaugeMetricFamily(
        "keyfob_backchannel_oldest_seconds",
        "Since when the first of them waits.",
        value=waiting[1].total_seconds(),
    )
