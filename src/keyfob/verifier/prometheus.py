"""A verifier's counts for those who use Prometheus's client library: `REGISTRY.register(VerifierCollector(verifier))`.

The library is not part of the bare install; `Verifier.metrics` needs none.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from keyfob.verifier.metrics import families
from keyfob.verifier.verifier import Verifier


class VerifierCollector(Collector):
    """Shows the counts of one verifier at each scrape. A registry takes one of them: their metrics have the same names."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def collect(self) -> Iterator[Metric]:
        """Give the families of the moment."""
        for family in families(self._verifier.stats()):
            metric = Metric(family.name.removesuffix("_total"), family.text, family.kind)
            for sample in family.samples:
                labels = {} if sample.label is None else dict([sample.label])
                metric.add_sample(family.name + sample.suffix, labels, sample.value)
            yield metric
