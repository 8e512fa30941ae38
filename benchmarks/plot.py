"""The figures of a run as one picture: of each allowance, how much is used."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from benchmarks.figures import Figure
from benchmarks.report import Run

WIDTH = 860
_ROW, _TOP, _LEFT, _RIGHT = 26, 62, 450, 100
_FULL = 1.5  # times the allowance at which the picture ends
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; }
.note { fill: #57606a; }
.met { fill: #2a78b8; }
.missed { fill: #c4501b; }
.line { stroke: #24292f; stroke-width: 1.5; stroke-dasharray: 4 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .note { fill: #9da7b1; }
  .met { fill: #58a6dd; }
  .missed { fill: #f08a4b; }
  .line { stroke: #e6edf3; }
}
"""


def as_svg(run: Run) -> str:
    """Return the picture: a bar for each figure with a target. One that ends left of the line has met it; a longer one missed it."""
    figures = [figure for figure in run.in_order() if figure.judged is not None]
    height = _TOP + _ROW * len(figures) + 14
    line = _LEFT + _scaled(1.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title">',
        '<title id="title">How much of each allowance Keyfob uses; left of the line the target is met</title>',
        f"<style>{_STYLE}</style>",
        '<text class="title" x="12" y="24">How much of each allowance is used: shorter is better</text>',
        f'<text class="note" x="{line:.0f}" y="46" text-anchor="middle">target</text>',
        *(part for number, figure in enumerate(figures) for part in _bar(figure, _TOP + _ROW * number)),
        f'<line class="line" x1="{line:.1f}" y1="{_TOP - 10}" x2="{line:.1f}" y2="{height - 8}"/>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _bar(figure: Figure, y: int) -> Iterator[str]:
    target, value = figure.measure.target, figure.judged
    assert target is not None
    assert value is not None
    used = target.used(value)
    length = _scaled(min(used, _FULL))
    kind = "met" if figure.is_met else "missed"
    title = figure.measure.title
    yield f'<text x="{_LEFT - 10}" y="{y + 13}" text-anchor="end">{escape(_short(title))}</text>'
    yield f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{length:.1f}" height="17" rx="2"/>'
    yield f'<text class="note" x="{_LEFT + length + 8:.1f}" y="{y + 13}">{used:.0%}{"" if figure.is_met else " missed"}</text>'


def _scaled(used: float) -> float:
    return used / _FULL * (WIDTH - _LEFT - _RIGHT)


def _short(title: str, longest: int = 64) -> str:
    return title if len(title) <= longest else title[: longest - 1] + "…"
