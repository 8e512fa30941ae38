"""What a run found: a table, JSON, Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import JustifyMethod
from rich.table import Table

from benchmarks.figures import BenchmarkFailed, Figure
from benchmarks.targets import MEASURES, Of, Section, Target

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
_SECTIONS = {
    Section.JWT: "Tokens, in one thread",
    Section.HTTP: "Requests over HTTP, one core for the server",
    Section.PROXIES: "Behind proxies",
    Section.FRAMEWORKS: "In frameworks",
    Section.REVOCATION: "Revocation",
    Section.STORE_HTTP: "Stores over HTTP, one core for Keyfob",
    Section.STORES: "Stores, in one process, 32 operations at a time",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything of one run. `is_measurement` is false of a quick one, whose figures only show that everything works."""

    machine: Mapping[str, object]
    figures: Sequence[Figure]
    is_measurement: bool

    def in_order(self) -> list[Figure]:
        """Return the figures in the order of the measures."""
        places = {name: place for place, name in enumerate(MEASURES)}
        return sorted(self.figures, key=lambda figure: places[figure.name])


def as_json(run: Run) -> str:
    """Return *run* as JSON."""
    document = {
        "machine": dict(run.machine),
        "is_measurement": run.is_measurement,
        "figures": [_document(figure) for figure in run.in_order()],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def as_table(run: Run) -> Table:
    """Return *run* as a table for the terminal."""
    title = "Keyfob, measured" if run.is_measurement else "Keyfob, a quick run: these figures measure nothing"
    table = Table(title=title, title_style="bold", header_style="bold")
    for column in ("what", "measured", "against", "ratio", "target", ""):
        side: JustifyMethod = "left" if column in {"what", "against", ""} else "right"
        table.add_column(column, justify=side, min_width=34 if column == "what" else None)
    section = None
    for figure in run.in_order():
        if figure.measure.section is not section:
            section = figure.measure.section
            table.add_section()
            table.add_row(f"[bold]{_SECTIONS[section]}[/bold]")
        row = _row(figure)
        style = {True: "green", False: "red", None: ""}[figure.is_met]
        table.add_row(*row[:-1], f"[{style}]{row[-1]}[/{style}]" if style else row[-1])
    return table


def as_markdown(run: Run) -> str:
    """Return *run* as a table in Markdown, with the machine under it."""
    lines = ["| what | measured | against | ratio | target | met |", "|---|---:|---|---:|---:|---|"]
    lines += ["| " + " | ".join(_row(figure)) + " |" for figure in run.in_order()]
    sessions = {figure.facts["sessions"] for figure in run.figures if "sessions" in figure.facts}
    verifiers = {figure.facts["verifiers"] for figure in run.figures if "verifiers" in figure.facts}
    size = ", ".join(
        [f"{count:,} sessions in the database" for count in sessions if isinstance(count, int)]
        + [f"{count} verifier processes" for count in verifiers]
    )
    absent = not_measured(run)
    others = [f"Not measured: {'; '.join(absent)}."] if absent else []
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in run.machine.items())
    return "\n".join([*lines, "", f"Measured with {size}.", *others, f"The machine: {facts}.", ""])


def not_measured(run: Run) -> list[str]:
    """Return what the run says that it did not measure, each once."""
    found = [item for figure in run.in_order() for item in figure.facts.get("not_measured", ())]
    return list(dict.fromkeys(found))


def written_between(document: str, text: str, *, begin: str = BEGIN, end: str = END) -> str:
    """Return *document* with *text* between the markers *begin* and *end*, in place of what stood there.

    Raises:
        BenchmarkFailed: the markers are not there.
    """
    before, found, rest = document.partition(begin)
    _, over, after = rest.partition(end)
    if not found or not over:
        raise BenchmarkFailed(f"the document lacks {begin} or {end}")
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def write_json(run: Run, path: Path) -> None:
    """Write *run* to *path*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_json(run), "utf-8")


def _document(figure: Figure) -> dict[str, object]:
    measure, target = figure.measure, figure.measure.target
    return {
        "name": figure.name,
        "title": measure.title,
        "unit": measure.unit,
        "measured": _rounded(figure.measured),
        "against": None if figure.against is None else _rounded(figure.against),
        "against_what": figure.against_what or None,
        "ratio": None if figure.ratio is None else _rounded(figure.ratio),
        "target": None
        if target is None
        else {"of": target.of.value, "at_most" if target.is_ceiling else "at_least": target.bound},
        "met": figure.is_met,
        "spread": None if figure.spread is None else [_rounded(value) for value in figure.spread],
        "beside": {name: _rounded(value) for name, value in figure.beside.items()},
        "facts": dict(figure.facts),
    }


def _row(figure: Figure) -> tuple[str, ...]:
    measure = figure.measure
    against = ""
    if figure.against is not None:
        others = "".join(f"; {name} {_shown(value)}" for name, value in figure.beside.items())
        against = f"{_shown(figure.against)} {measure.unit}, {figure.against_what}{others}"
    return (
        measure.title,
        f"{_shown(figure.measured)} {measure.unit}",
        against,
        "" if figure.ratio is None else f"{_shown(figure.ratio)} x",
        _target(measure.target, measure.unit),
        {True: "met", False: "missed", None: ""}[figure.is_met],
    )


def _target(target: Target | None, unit: str) -> str:
    if target is None:
        return ""
    side = "≤" if target.is_ceiling else "≥"
    return f"{side} {target.bound:g} {'x' if target.of is Of.RATIO else unit}"


def _shown(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
