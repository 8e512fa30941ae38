"""Figures: what a run measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

from benchmarks.targets import MEASURES, Measure, Of


class BenchmarkFailed(Exception):
    """Something answered what it should not, or did not start: there is no figure, rather than a wrong one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured figure.

    `measured` and `against` are in the unit of the measure. `ratio` is the median of the ratios of single rounds, which is not the ratio of
    the medians; `spread` are its quartiles (of the measured value where there is no ratio). `beside` are others that did the same in the same
    rounds. `facts` are what else was seen.
    """

    name: str
    measured: float
    against: float | None = None
    against_what: str = ""
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    beside: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def measure(self) -> Measure:
        """What this is a figure of."""
        return MEASURES[self.name]

    @property
    def judged(self) -> float | None:
        """The value that the target bounds; None without a target."""
        target = self.measure.target
        if target is None:
            return None
        value = self.measured if target.of is Of.MEASURED else self.ratio
        if value is None:
            raise BenchmarkFailed(f"{self.name} has a target for its ratio, and no ratio")
        return value

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        target, value = self.measure.target, self.judged
        return None if target is None or value is None else target.is_met(value)


def compared(
    name: str,
    measured: Sequence[float],
    against: Sequence[float],
    *,
    what: str,
    beside: Mapping[str, float] | None = None,
    facts: Mapping[str, object] | None = None,
) -> Figure:
    """Return the figure of two series of the same rounds: medians, and the median of the ratios of each round."""
    ratios = [one / other for one, other in zip(measured, against, strict=True)]
    return Figure(
        name=name,
        measured=median(measured),
        against=median(against),
        against_what=what,
        ratio=median(ratios),
        spread=quartiles(ratios),
        beside=beside or {},
        facts=facts or {},
    )


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the first and third quartile; of fewer than two values, the least and the largest."""
    if len(values) < 2:
        return min(values), max(values)
    first, _, third = quantiles(values, n=4, method="inclusive")
    return first, third


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value that *share* (0 to 1) of *ordered*, ascending and not empty, do not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
