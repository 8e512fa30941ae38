"""How long an operation takes as a store grows, as one picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from xml.sax.saxutils import escape

from benchmarks.targets import STORES

_WIDTH, _HEIGHT = 760, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 210, 44, 44
_OPERATIONS = {"check": "a check", "refresh": "a rotation"}
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; }
.axis { stroke: #8c959f; }
.curve { fill: none; stroke-width: 2; }
.sqlite { stroke: #2a78b8; } .postgresql { stroke: #c4501b; } .redis { stroke: #4c9141; }
.refresh { stroke-dasharray: 6 4; }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } }
"""

_Points = list[tuple[int, float]]
_Sizes = Mapping[str, Mapping[str, Mapping[str, float]]]


def as_svg(measured: Mapping[str, _Sizes]) -> str:
    """Return the picture: microseconds of one operation, 32 under way, over the number of sessions; both axes logarithmic.

    *measured* says of each store what was seen at each size (`us_each`).
    """
    curves = _curves(measured)
    sizes = [size for points in curves.values() for size, _ in points]
    heights = [value for points in curves.values() for _, value in points]
    across = _Axis(sizes, _LEFT, _WIDTH - _RIGHT)
    upward = _Axis(heights, _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="title">',
        '<title id="title">Microseconds of one operation as a store grows; both axes are logarithmic</title>',
        f"<style>{_STYLE}</style>",
        '<text class="title" x="12" y="24">Microseconds of one operation, by sessions in the store</text>',
        *_ticks(across, upward),
    ]
    for (store, operation), points in curves.items():
        path = " ".join(f"{across.at(size):.1f},{upward.at(value):.1f}" for size, value in points)
        parts.append(f'<polyline class="curve {store} {operation}" points="{path}"/>')
        size, value = points[-1]
        name = f"{STORES[store]}, {_OPERATIONS[operation]}: {value:.0f}"
        parts.append(
            f'<text x="{across.at(size) + 8:.0f}" y="{upward.at(value) + 4:.0f}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Axis:
    """From values to places, by their logarithm, over whole powers of ten."""

    def __init__(self, values: list[int] | list[float], begin: float, end: float) -> None:
        self.first = math.floor(math.log10(min(values)))
        self.last = max(self.first + 1, math.ceil(math.log10(max(values))))
        self._begin, self._end = begin, end

    def at(self, value: float) -> float:
        share = (math.log10(value) - self.first) / (self.last - self.first)
        return self._begin + share * (self._end - self._begin)

    def powers(self) -> list[int]:
        return [10**power for power in range(self.first, self.last + 1)]


def _ticks(across: _Axis, upward: _Axis) -> Iterator[str]:
    for size in across.powers():
        x = across.at(size)
        yield f'<line class="axis" x1="{x:.1f}" y1="{_HEIGHT - _BOTTOM}" x2="{x:.1f}" y2="{_HEIGHT - _BOTTOM + 5}"/>'
        yield f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">{size:,}</text>'
    for value in upward.powers():
        y = upward.at(value)
        yield f'<line class="axis" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke-opacity="0.4"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,}</text>'


def _curves(measured: Mapping[str, _Sizes]) -> dict[tuple[str, str], _Points]:
    return {
        (store, operation): [(int(size), seen["us_each"][operation]) for size, seen in sizes.items()]
        for store, sizes in measured.items()
        for operation in _OPERATIONS
    }
