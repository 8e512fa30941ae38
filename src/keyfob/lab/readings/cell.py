"""A cell of the comparison: what an observation says in a few words, and the figures that it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

Figure = float | int | bool | str
USUAL_LIFETIME = 600.0
"""Seconds: the access token that durations which end at `exp` are scaled to, 10 minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """`text` is what is shown, `brief` the same for a narrow column, where there is one.

    `figures` are what it was made of; `missing` says why there is nothing to show, empty where there is.
    """

    text: str
    brief: str = ""
    figures: Mapping[str, Figure] = field(default_factory=lambda: MappingProxyType({}))
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of an experiment: its key among the cells of a reading, and what it is called."""

    key: str
    title: str


class Unreadable(Exception):
    """Observations that do not fit together; the message says what is wrong, and is shown in place of a figure."""


def missing(reason: str) -> Cell:
    """Return the cell of something that was not measured, and why."""
    return Cell(text=f"not measured: {reason}", brief="not measured", missing=reason)


def seconds(value: float) -> str:
    """Return a duration in the unit that fits it, with about two figures."""
    if value < 0.0995:
        milliseconds = value * 1000
        return f"{milliseconds:.1f} ms" if milliseconds < 9.95 else f"{milliseconds:.0f} ms"
    if value < 9.95:
        return f"{value:.1f} s"
    if value < 60:
        return f"{value:.0f} s"
    return f"{value / 60:.1f} min"


def scaled(value: float, *, access_seconds: float) -> float:
    """Return how long what lasted *value* seconds with a short access token lasts with one of 10 minutes."""
    return value * USUAL_LIFETIME / access_seconds


def until_exp(value: float, *, access_seconds: float) -> str:
    """Say how long something lasted that ended with the access token, as measured and as scaled."""
    return (
        f"{seconds(value)} of {access_seconds:g} s, until exp ({usual(value, access_seconds=access_seconds)})"
    )


def usual(value: float, *, access_seconds: float) -> str:
    """Say how long something that ended with the access token lasts with one of 10 minutes."""
    return f"{seconds(scaled(value, access_seconds=access_seconds))} of 10 min"


def several(items: list[str]) -> str:
    """Return *items* as a list in words, each once."""
    once = list(dict.fromkeys(items))
    return ", ".join(once) if once else "nothing"


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one set-up in one experiment. Moments are seconds from a beginning that the experiment names."""
