"""The contest as a table and as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from benchmarks.peers.contest import Standing

_WIDTH, _BAR, _GAP, _LEFT, _RIGHT = 860, 20, 8, 330, 90
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; }
.ours { fill: #2a78b8; } .theirs { fill: #8c959f; }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } }
"""


def as_markdown(standings: Sequence[Standing], absent: Sequence[str], facts: Mapping[str, object]) -> str:
    """Return the table, with what was not measured and the machine under it."""
    best = standings[0].per_second
    lines = [
        "| who is it? | requests/s | p50 ms | p99 ms | the first is faster by |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {one.title} | {one.per_second:,.0f} | {one.p50:.2f} | {one.p99:.2f} | {best / one.per_second:.1f} x |"
        for one in standings
    ]
    others = [f"Not measured: {'; '.join(absent)}.", ""] if absent else []
    machine = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())
    return "\n".join([*lines, "", *others, f"The machine: {machine}.", ""])


def as_svg(standings: Sequence[Standing]) -> str:
    """Return the bars of requests per second, the longest first; Keyfob's are coloured."""
    most = max(one.per_second for one in standings)
    height = 50 + len(standings) * (_BAR + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<style>{_STYLE}</style>",
        '<text class="title" x="10" y="24">Who is it? Requests per second, 32 connections, one core each</text>',
    ]
    for place, one in enumerate(standings):
        top = 44 + place * (_BAR + _GAP)
        width = max(1.0, one.per_second / most * (_WIDTH - _LEFT - _RIGHT))
        kind = "ours" if one.name.startswith("keyfob_") else "theirs"
        parts.append(f'<text x="{_LEFT - 8}" y="{top + 15}" text-anchor="end">{escape(one.title)}</text>')
        parts.append(
            f'<rect class="{kind}" x="{_LEFT}" y="{top}" width="{width:.1f}" height="{_BAR}" rx="3"/>'
        )
        parts.append(f'<text x="{_LEFT + width + 6:.1f}" y="{top + 15}">{one.per_second:,.0f}</text>')
    return "\n".join([*parts, "</svg>", ""])
