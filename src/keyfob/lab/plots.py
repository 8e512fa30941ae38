"""The three plots of a run: how long captured credentials survive a sign-out, how fast denials come, how many requests a core answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

from keyfob.lab.readings import load as load_reading
from keyfob.lab.readings import logout as logout_reading
from keyfob.lab.readings import revocation as revocation_reading
from keyfob.lab.readings.cell import Unreadable, seconds, usual
from keyfob.lab.result import Column, Result
from keyfob.lab.setups import BY_NAME
from keyfob.lab.svg import Picture

T = TypeVar("T")

_WIDTH = 860
_NOTHING = "nothing was measured"


def survival(result: Result) -> str:
    """Draw the share of captured credentials that are still good, by the time since the sign-out."""
    curves = _read(result, lambda column: logout_reading.curve(column.logout) if column.logout else None)
    top, left, right, rows = 64, 60, 400, len(curves)
    height = max(300, top + 24 * rows + 70)
    bottom, end = height - 56, _WIDTH - right
    told = "; ".join(f"{_name(column)}: {_until(points, result)}" for column, points in curves) or _NOTHING
    picture = Picture(
        "survival",
        width=_WIDTH,
        height=height,
        title="Captured credentials that are still good after the sign-out",
        description=f"Share of what was captured, by seconds after the sign-out. Gone for good: {told}.",
    )
    longest = max((points[-1][0] for _, points in curves), default=0.0)
    scale = _Linear(max(longest, result.access_seconds) * 1.04, left, end)
    for share in (0, 0.5, 1):
        y = bottom - share * (bottom - top)
        picture.line(left, y, end, y, kind="grid")
        picture.text(left - 8, y + 4, f"{share:.0%}", anchor="end")
    for second in _steps(scale.last):
        picture.line(scale.at(second), bottom, scale.at(second), bottom + 5, kind="axis")
        picture.text(scale.at(second), bottom + 20, f"{second:g} s", anchor="middle")
    picture.text(
        left,
        bottom + 40,
        f"Access tokens live {result.access_seconds:g} s here, for the 10 minutes of everyday use.",
        kind="note",
    )
    for number, (column, points) in enumerate(curves):
        kind = f"{_kind(column)} dash-{number % 4}"
        picture.curve(
            [
                (scale.at(x), bottom - y * (bottom - top) - 1.5 * number)
                for x, y in _stairs(points, scale.last)
            ],
            kind=kind,
        )
        y = top + 24 * number
        picture.line(end + 20, y - 4, end + 50, y - 4, kind=f"curve {kind}")
        picture.text(end + 58, y, f"{_name(column)}: {_until(points, result)}")
    return picture.done()


def denials(result: Result) -> str:
    """Draw for each set-up when its denials came, on a logarithmic scale: a bar for each bin, as high as its share."""
    strips = _read(
        result, lambda column: revocation_reading.lags(column.revocation) if column.revocation else None
    )
    top, left, row = 58, 210, 44
    height = top + row * len(strips) + 50
    scale = _Logarithmic(1e-4, 20.0, left, _WIDTH - 24)
    told = "; ".join(
        f"{_name(column)}: {seconds(lags[0])} to {seconds(lags[-1])}" for column, lags in strips if lags
    )
    picture = Picture(
        "denials",
        width=_WIDTH,
        height=height,
        title="From the revocation to the denial, each service in each round",
        description=f"A histogram for each set-up, on a logarithmic scale of time. {told or _NOTHING}.",
    )
    base = top + row * len(strips)
    for moment in (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0):
        picture.line(scale.at(moment), top - 14, scale.at(moment), base, kind="grid")
        picture.text(scale.at(moment), base + 18, _moment(moment), anchor="middle")
    for number, (column, lags) in enumerate(strips):
        foot = top + row * (number + 1) - 12
        picture.text(left - 12, foot - 6, _name(column), anchor="end")
        picture.line(left, foot, _WIDTH - 24, foot, kind="axis")
        for place, share in _bins(lags, scale):
            picture.rectangle(
                place, foot - 28 * share, width=_BIN - 2, height=28 * share, kind=f"bar {_kind(column)}"
            )
    picture.text(
        left,
        base + 40,
        "Left is sooner. Denied before the answer to the revocation had arrived: at the left edge.",
        kind="note",
    )
    return picture.done()


def rates(result: Result) -> str:
    """Draw how many checked requests a second one core answered, and how many that are not checked."""
    bars = [
        (column, one)
        for column, seen in _read(result, lambda column: column.load)
        for one in seen.variants
        if one.requests > 0 and one.floor_requests > 0 and one.seconds > 0 and one.floor_seconds > 0
    ]
    top, left, row = 52, 300, 28
    height = top + row * len(bars) + 40
    figures = [load_reading.figures(one) for _, one in bars]
    most = max((max(each["per_second"], each["floor_per_second"]) for each in figures), default=1.0)
    scale = _Linear(most * 1.02, left, _WIDTH - 90)
    told = "; ".join(
        f"{_name(column)}, {one.where}: {each['per_second']:,.0f}"
        for (column, one), each in zip(bars, figures, strict=True)
    )
    picture = Picture(
        "rates",
        width=_WIDTH,
        height=height,
        title="Checked requests per second on one core",
        description=f"A bar for each set-up; longer is more. {told or _NOTHING}.",
    )
    for number, ((column, one), each) in enumerate(zip(bars, figures, strict=True)):
        y = top + row * number
        picture.text(left - 12, y + 13, f"{_name(column)}, {one.where}", anchor="end")
        picture.rectangle(
            left, y, width=scale.at(each["per_second"]) - left, height=18, kind=f"bar {_kind(column)}"
        )
        floor = scale.at(each["floor_per_second"])
        picture.line(floor, y - 3, floor, y + 21, kind="mark")
        picture.text(max(floor, scale.at(each["per_second"])) + 8, y + 13, f"{each['per_second']:,.0f}")
    picture.text(
        left, height - 12, "The black mark: the same service on a route that checks nothing.", kind="note"
    )
    return picture.done()


_BIN = 14.0  # pixels


class _Linear:
    def __init__(self, last: float, begin: float, end: float) -> None:
        self.last = last
        self._begin, self._end = begin, end

    def at(self, value: float) -> float:
        return self._begin + min(1.0, value / self.last) * (self._end - self._begin)


class _Logarithmic:
    def __init__(self, first: float, last: float, begin: float, end: float) -> None:
        self._first, self._range = math.log10(first), math.log10(last) - math.log10(first)
        self._begin, self._end = begin, end

    def at(self, value: float) -> float:
        share = (math.log10(max(value, 1e-9)) - self._first) / self._range
        return self._begin + min(1.0, max(0.0, share)) * (self._end - self._begin)


def _read(result: Result, read: Callable[[Column], T | None]) -> list[tuple[Column, T]]:
    """Return what *read* makes of each column, without those in which there is nothing, or nothing that can be read."""
    found: list[tuple[Column, T]] = []
    for column in result.columns:
        try:
            value = read(column)
        except Unreadable:
            continue
        if value is not None:
            found.append((column, value))
    return found


def _stairs(points: list[tuple[float, float]], last: float) -> list[tuple[float, float]]:
    """Return the corners of a curve that keeps its height until the next point."""
    corners = [points[0]]
    for (_, before), (x, y) in pairwise(points):
        corners += [(x, before), (x, y)]
    return [*corners, (last, points[-1][1])]


def _steps(last: float) -> list[float]:
    step = next(step for step in (1, 2, 5, 10, 30, 60, 120, 300) if last / step <= 8)
    return [step * number for number in range(int(last / step) + 1)]


def _bins(lags: list[float], scale: _Logarithmic) -> list[tuple[float, float]]:
    """Return the left edge of each bin that is not empty, and its share of the fullest."""
    counts: dict[float, int] = {}
    for lag in lags:
        place = scale.at(lag) // _BIN * _BIN
        counts[place] = counts.get(place, 0) + 1
    most = max(counts.values(), default=1)
    return [(place, count / most) for place, count in sorted(counts.items())]


def _until(points: list[tuple[float, float]], result: Result) -> str:
    last = points[-1][0]
    if last < result.access_seconds / 20:
        return "at once"
    return f"{seconds(last)} ({usual(last, access_seconds=result.access_seconds)})"


def _moment(value: float) -> str:
    return f"{value * 1000:g} ms" if value < 1 else f"{value:g} s"


def _name(column: Column) -> str:
    setup = BY_NAME[column.setup]
    return f"{setup.kind} {setup.title}"


def _kind(column: Column) -> str:
    return "keyfob" if BY_NAME[column.setup].is_keyfob else "textbook"
