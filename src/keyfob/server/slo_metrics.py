"""What verifiers report, as Prometheus's families: the same on every authority of one store, but for the count of canaries.

A verifier that is not level has no lag; its state and its staleness say why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from keyfob.revocation.slo import RevocationSlo, VerifierSlo, VerifierState

_LABELS = ("client", "verifier", "process")  # `instance` is what Prometheus calls the scraped server


def slo_families(slo: RevocationSlo | None, *, canaries: int) -> Iterator[Metric]:
    """Give the families of *slo* (None: the store does not answer); *canaries* were revoked by this process."""
    yield CounterMetricFamily("keyfob_canaries", "Canaries that this process revoked.", value=canaries)
    yield GaugeMetricFamily(
        "keyfob_revocation_slo_up",
        "Whether the reports of verifiers could be read.",
        value=0 if slo is None else 1,
    )
    if slo is None:
        return
    states = GaugeMetricFamily(
        "keyfob_verifiers", "Verifiers that report, by where they stand.", labels=["state"]
    )
    for state in VerifierState:
        states.add_metric([state.value], slo.count(state))
    yield states
    yield from _of_each(slo)


def _of_each(slo: RevocationSlo) -> Iterator[Metric]:
    lags = GaugeMetricFamily(
        "keyfob_verifier_revocation_lag_seconds",
        f"From a canary's revocation until it is denied, over {slo.window.total_seconds():.0f} s; quantile 1 is the longest.",
        labels=[*_LABELS, "quantile"],
    )
    state = GaugeMetricFamily(
        "keyfob_verifier_state",
        "1 for where the verifier stands, 0 for where it does not.",
        labels=[*_LABELS, "state"],
    )
    staleness = GaugeMetricFamily(
        "keyfob_verifier_staleness_seconds", "Since it is known to have been level.", labels=_LABELS
    )
    position = GaugeMetricFamily("keyfob_verifier_position", "The last entry it applied.", labels=_LABELS)
    silence = GaugeMetricFamily("keyfob_verifier_silence_seconds", "Since its last report.", labels=_LABELS)
    error = GaugeMetricFamily(
        "keyfob_verifier_clock_error_seconds",
        "How far its reckoning of the authority's time was ahead.",
        labels=_LABELS,
    )
    missed = GaugeMetricFamily(
        "keyfob_verifier_missed_canaries", "Canaries of the window that it did not confirm.", labels=_LABELS
    )
    for verifier in slo.verifiers:
        labels = [verifier.client_id, verifier.name, verifier.instance]
        for quantile, seconds in _quantiles(verifier):
            lags.add_metric([*labels, quantile], seconds)
        for each in VerifierState:
            state.add_metric([*labels, each.value], each is verifier.state)
        staleness.add_metric(
            labels, math.inf if verifier.staleness is None else verifier.staleness.total_seconds()
        )
        position.add_metric(labels, verifier.position)
        silence.add_metric(labels, (slo.at - verifier.heard_at).total_seconds())
        error.add_metric(labels, verifier.clock_error.total_seconds())
        missed.add_metric(labels, verifier.missed)
    yield from (lags, state, staleness, position, silence, error, missed)


def _quantiles(verifier: VerifierSlo) -> Iterator[tuple[str, float]]:
    if verifier.lags is None:
        return
    yield "0.5", verifier.lags.p50.total_seconds()
    yield "0.99", verifier.lags.p99.total_seconds()
    yield "1", verifier.lags.longest.total_seconds()
