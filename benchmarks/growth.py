"""How the stores take it to grow: `python -m benchmarks.growth`, or `make bench-growth`.

One store at a time, since filling ten million rows takes the better part of an hour. What was measured of a store takes the place of what was
measured of it before in `benchmarks/results/growth.json`; the page and the picture are made from all that stands there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import growth_plot, machine, report, store_bench
from benchmarks.figures import BenchmarkFailed, Figure
from benchmarks.targets import STORES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "growth.json"
REFERENCE = ROOT / "docs" / "reference"
BEGIN, END = "<!-- growth: begin -->", "<!-- growth: end -->"
SIZES = {
    "sqlite": (10_000, 1_000_000, 10_000_000),
    "postgresql": (10_000, 1_000_000),
    "redis": (10_000, 1_000_000, 3_000_000),
}
_EXAMPLES = """\
examples:
  make bench-growth                                         every store: hours
  make bench-growth ARGS="--store postgresql"               one; a million rows take minutes
  make bench-growth ARGS="--store sqlite --sessions 10000 --sessions 100000"   to see how it goes
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write, return the exit code."""
    options = _parser().parse_args(arguments)
    console = Console()
    measured = json.loads(options.results.read_text("utf-8")) if options.results.exists() else {}
    for store in options.store or list(SIZES):
        facts = {**machine.facts(), "load_at_end": 0.0}
        try:
            figures = _measured(store, options.sessions or SIZES[store], options.seconds, console)
        except BenchmarkFailed as failed:
            console.print(f"[red]{store} failed:[/red] {failed}", soft_wrap=True, highlight=False)
            return 1
        if not figures:
            console.print(f"[yellow]{store} cannot be had here[/yellow]")
            continue
        facts["load_at_end"] = round(machine.load(), 1)
        measured[store] = record_of(store, figures, facts)
        options.results.write_text(json.dumps(measured, indent=2) + "\n", "utf-8")
    for store in (one for one in STORES if one in measured):
        console.print(table_row(store, measured[store]), highlight=False, soft_wrap=True)
    if options.results == RESULTS:
        write_page(measured)
    return 0


def record_of(store: str, figures: Sequence[Figure], facts: Mapping[str, object]) -> dict[str, Any]:
    """Return what is kept of the *figures* of *store*."""
    named = {figure.name.removeprefix(f"stores.{store}."): figure for figure in figures}
    return {
        "machine": dict(facts),
        "sizes": named["check"].facts["sizes"],
        "growth": {
            name: round(ratio, 3)
            for name in ("check", "refresh")
            if (ratio := named[f"growth.{name}"].ratio) is not None
        },
        "cleanup": {"ratio": round(named["cleanup"].ratio or 0.0, 2), **named["cleanup"].facts},
    }


def write_page(measured: Mapping[str, Any]) -> None:
    """Write the table into the page, and the picture beside it."""
    page = REFERENCE / "performance.md"
    text = as_markdown(measured)
    page.write_text(report.written_between(page.read_text("utf-8"), text, begin=BEGIN, end=END), "utf-8")
    curves = {store: one["sizes"] for store, one in measured.items()}
    (REFERENCE / "growth.svg").write_text(growth_plot.as_svg(curves), "utf-8")


def as_markdown(measured: Mapping[str, Any]) -> str:
    """Return what was measured as a table in Markdown, with the state of the machine under it."""
    lines = [
        "| store | sessions | filled in | bytes each | a check | a rotation |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    notes = []
    for store in (one for one in STORES if one in measured):
        one = measured[store]
        for size, seen in one["sizes"].items():
            each = seen["us_each"]
            lines.append(
                f"| {STORES[store]} | {int(size):,} | {seen['filled_s']:,.0f} s | {seen['bytes_each']:,.0f}"
                f" | {each['check']:,.0f} µs | {each['refresh']:,.0f} µs |"
            )
        growth, facts = one["growth"], one["machine"]
        notes.append(
            f"{STORES[store]}: from the least to the largest a check took {growth['check']:.2f} times as long and a rotation"
            f" {growth['refresh']:.2f} times (target 1.25); a clean-up moved the p99 of a look-up to {one['cleanup']['ratio']:.2f} times"
            f" (target 1.5). Measured on {facts['date']}, load {facts['load_at_start']} at the start and {facts['load_at_end']} at the end."
        )
    return "\n".join([*lines, "", *notes, ""])


def table_row(store: str, one: Mapping[str, Any]) -> str:
    """Return one line for the terminal."""
    sizes = ", ".join(
        f"{int(size):,}: {seen['us_each']['check']:.0f} / {seen['us_each']['refresh']:.0f} µs"
        for size, seen in one["sizes"].items()
    )
    return f"{STORES[store]}, a check / a rotation at {sizes}"


def _measured(store: str, sizes: Sequence[int], seconds: float, console: Console) -> list[Figure]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress:
        task = progress.add_task("starting", total=1.0)

        def tell(what: str, share: float) -> None:
            progress.update(task, description=what, completed=share)

        return store_bench.run([store], sizes=sizes, seconds=seconds, tell=tell)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth",
        description="Measure a check and a rotation in stores of growing size, and how long filling them takes.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--store", action="append", default=[], choices=list(SIZES))
    parser.add_argument("--sessions", action="append", default=[], type=int, metavar="N", help="repeatable")
    parser.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="of each operation at each size"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FILE", help="keep them here instead"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
