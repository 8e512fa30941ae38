"""Drawing: the few shapes that the lab's plots are made of. A picture says in words what it shows, and means nothing by colour alone."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

STYLE = """
.lab text { font: 13px system-ui, sans-serif; fill: #1b1f24; }
.lab .title { font-size: 15px; font-weight: 600; }
.lab .note { fill: #57606a; }
.lab .axis { stroke: #8c959f; stroke-width: 1; }
.lab .grid { stroke: #d0d7de; stroke-width: 1; }
.lab .curve { fill: none; stroke-width: 2.5; }
.lab .textbook { stroke: #b3470f; }
.lab .keyfob { stroke: #1f6fb2; }
.lab .bar.textbook { fill: #f0b58f; stroke: #b3470f; }
.lab .bar.keyfob { fill: #1f6fb2; stroke: #1f6fb2; }
.lab .mark { stroke: #1b1f24; stroke-width: 2; }
.lab .dash-0 { stroke-dasharray: none; } .lab .dash-1 { stroke-dasharray: 8 4; } .lab .dash-2 { stroke-dasharray: 2 3; }
.lab .dash-3 { stroke-dasharray: 10 3 2 3; }
@media screen and (prefers-color-scheme: dark) {
  .lab text { fill: #e6edf3; } .lab .note { fill: #9da7b1; } .lab .grid { stroke: #30363d; } .lab .mark { stroke: #e6edf3; }
  .lab .textbook { stroke: #f08a4b; } .lab .keyfob { stroke: #58a6dd; }
  .lab .bar.textbook { fill: #7a3a14; stroke: #f08a4b; } .lab .bar.keyfob { fill: #58a6dd; stroke: #58a6dd; }
}
@media print {
  .lab text, .lab .note { fill: #000; }
  .lab .textbook { stroke: #000; } .lab .keyfob { stroke: #666; }
  .lab .bar.textbook { fill: #fff; stroke: #000; } .lab .bar.keyfob { fill: #888; stroke: #000; }
}
"""


class Picture:
    """A picture that grows shape by shape. *name* is unique on a page; *title* and *description* are what is read out."""

    def __init__(self, name: str, *, width: int, height: int, title: str, description: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" class="lab" role="img" '
            f'aria-labelledby="{name}-title {name}-description">',
            f'<title id="{name}-title">{escape(title)}</title>',
            f'<desc id="{name}-description">{escape(description)}</desc>',
            f"<style>{STYLE}</style>",
        ]
        self.text(12, 24, title, kind="title")

    def text(self, x: float, y: float, words: str, *, kind: str = "", anchor: str = "start") -> None:
        """Write *words*; *anchor* is start, middle or end."""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" class={quoteattr(kind)} text-anchor="{anchor}">{escape(words)}</text>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, *, kind: str) -> None:
        """Draw a line."""
        self._parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class={quoteattr(kind)}/>'
        )

    def rectangle(self, x: float, y: float, *, width: float, height: float, kind: str) -> None:
        """Draw a rectangle."""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" height="{max(0.0, height):.1f}" class={quoteattr(kind)}/>'
        )

    def curve(self, points: list[tuple[float, float]], *, kind: str) -> None:
        """Draw a line through *points*."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline points="{path}" class={quoteattr(f"curve {kind}")}/>')

    def done(self) -> str:
        """Return the picture."""
        return "\n".join([*self._parts, "</svg>"]) + "\n"
