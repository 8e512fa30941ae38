"""The report: one HTML page that needs nothing else, for the screen of a phone, for a desk, and for paper."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from keyfob.lab import plots
from keyfob.lab.experiments import EXPERIMENTS, Experiment, cells
from keyfob.lab.result import Column, Result
from keyfob.lab.setups import BY_NAME, SETUPS
from keyfob.lab.terminal import heading, is_played

_PLOTS = {"revocation": plots.denials, "logout": plots.survival, "load": plots.rates}

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --line: #d0d7de; --shade: #f6f8fa; --note: #57606a; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0d1117; --line: #30363d; --shade: #161b22; --note: #9da7b1; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
p { max-width: 48rem; }
.note { color: var(--note); font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .5rem; }
th, td { border: 1px solid var(--line); padding: .4rem .55rem; text-align: left; vertical-align: top; }
thead th, tbody th { background: var(--shade); font-weight: 600; }
td.missing { color: var(--note); font-style: italic; }
.whole { min-width: 60rem; table-layout: fixed; }
svg { display: block; width: 100%; height: auto; min-width: 40rem; max-width: 54rem; margin: 1rem 0; }
dt { font-weight: 600; margin-top: .6rem; }
dd { margin: 0; max-width: 48rem; }
@media (max-width: 40rem) {
  .stacked, .stacked tbody, .stacked tr, .stacked td, .stacked th { display: block; width: auto; }
  .stacked thead { display: none; }
  .stacked tr { border: 1px solid var(--line); margin-bottom: .8rem; }
  .stacked th, .stacked td { border: 0; border-top: 1px solid var(--line); }
  .stacked td::before { content: attr(data-label); display: block; color: var(--note); font-size: .8rem; }
}
@media print {
  @page { size: A4 landscape; margin: 12mm; }
  :root { color-scheme: light; --ink: #000; --paper: #fff; --line: #888; --shade: #fff; --note: #000; }
  body { max-width: none; padding: 0; font-size: 9.5pt; }
  table { font-size: 8pt; }
  .whole { min-width: 0; }
  .wide { overflow: visible; }
  thead { display: table-header-group; }
  tr, svg, dt { break-inside: avoid; }
  h2 { break-after: avoid; }
  section > p, .wide:has(svg) { break-inside: avoid; break-after: avoid; }
  svg { min-width: 0; max-width: 14cm; margin: .3rem 0; }
  .note { font-size: 8.5pt; }
}
"""


def page(result: Result) -> str:
    """Return the report of *result*."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "<title>Sessions, JWTs and the hybrid, measured</title>",
            f"<style>{_STYLE}</style>",
            "<h1>Sessions, JWTs and the hybrid, measured</h1>",
            *_opening(result),
            *_whole(result),
            *(part for experiment in _played(result) for part in _section(result, experiment)),
            *_setups(result),
            "</html>",
            "",
        ]
    )


def scaling(result: Result) -> str:
    """Say what the lifetime of access tokens in this run stands for."""
    return (
        f"Access tokens lived {result.access_seconds:g} seconds in this run, and stand for those of 10 minutes: a duration that ended with "
        f"the token is given as measured and, times {600 / result.access_seconds:g}, for 10 minutes. Nothing else is scaled."
    )


def ran_on(result: Result) -> str:
    """Say what the run ran on."""
    machine = result.machine
    return (
        f"{machine.date}; {machine.processor}, {machine.cores} cores, load {machine.load_at_start:g} before and {machine.load_at_end:g} after; "
        f"{machine.system}, {machine.python}, Keyfob {machine.keyfob}; browser: {machine.browser}; {result.took:.0f} s in all."
    )


def _played(result: Result) -> list[Experiment]:
    return [one for one in EXPERIMENTS if any(is_played(one, column) for column in result.columns)]


def _opening(result: Result) -> Iterator[str]:
    yield (
        "<p>Each set-up was run on this machine, as processes of its own that talk over HTTP, and each experiment was played against it. "
        "Every figure comes from what was seen; where nothing was, the cell says why.</p>"
    )
    yield f'<p class="note">{escape(scaling(result))}</p>'
    yield f'<p class="note">{escape(ran_on(result))}</p>'


def _whole(result: Result) -> Iterator[str]:
    yield '<div class="wide" tabindex="0" role="region" aria-label="The comparison"><table class="whole">'
    yield "<caption>The comparison in short; the sections below say the rest</caption>"
    headings = "".join(f'<th scope="col">{escape(heading(column))}</th>' for column in result.columns)
    yield f"<thead><tr><td></td>{headings}</tr></thead><tbody>"
    for experiment in _played(result):
        read = [cells(experiment, column) for column in result.columns]
        for row in experiment.rows:
            shown = "".join(
                _cell(one[row.key].brief or one[row.key].text, one[row.key].missing) for one in read
            )
            yield f'<tr><th scope="row">{experiment.number} {escape(row.title)}</th>{shown}</tr>'
    yield "</tbody></table></div>"


def _section(result: Result, experiment: Experiment) -> Iterator[str]:
    yield f"<section><h2>{experiment.number} {escape(experiment.dimension)}</h2>"
    yield f"<p><strong>{escape(experiment.question)}</strong> {escape(experiment.how)}</p>"
    plot = _PLOTS.get(experiment.key)
    if plot is not None:
        yield f'<div class="wide" tabindex="0" role="region" aria-label="A plot">{plot(result)}</div>'
    headings = "".join(f'<th scope="col">{escape(row.title)}</th>' for row in experiment.rows)
    yield f'<table class="stacked"><thead><tr><th scope="col">set-up</th>{headings}</tr></thead><tbody>'
    for column in result.columns:
        yield _line(experiment, column)
    yield "</tbody></table></section>"


def _line(experiment: Experiment, column: Column) -> str:
    read = cells(experiment, column)
    shown = "".join(
        _cell(read[row.key].text, read[row.key].missing, label=row.title) for row in experiment.rows
    )
    return f'<tr><th scope="row">{escape(heading(column))}</th>{shown}</tr>'


def _cell(text: str, missing: str, *, label: str = "") -> str:
    kind = ' class="missing"' if missing else ""
    named = f' data-label="{escape(label)}"' if label else ""
    return f"<td{kind}{named}>{escape(text)}</td>"


def _setups(result: Result) -> Iterator[str]:
    shown = {column.setup for column in result.columns}
    yield "<section><h2>The set-ups</h2><dl>"
    for setup in SETUPS:
        if setup.name in shown:
            yield f"<dt>{escape(setup.kind)}: {escape(setup.title)}</dt><dd>{escape(BY_NAME[setup.name].summary)}</dd>"
    yield "</dl></section>"
