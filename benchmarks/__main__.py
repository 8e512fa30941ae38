"""The benchmark, from the command line: `python -m benchmarks`, or `make bench`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import (
    framework_bench,
    http_bench,
    jwt_bench,
    live_bench,
    machine,
    proxy_bench,
    report,
    revocation_bench,
    store_bench,
    store_http_bench,
)
from benchmarks.figures import BenchmarkFailed, Figure
from benchmarks.plot import as_svg
from benchmarks.rounds import Tell
from benchmarks.targets import STORES, Section

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
REFERENCE = ROOT / "docs" / "reference"
NOISY = 0.5  # load average at the start from which the machine is said not to be quiet
_EXAMPLES = """\
examples:
  make bench                                                  everything; about five minutes
  make bench ARGS="--only jwt"                                one part; repeatable
  make bench ARGS="--sessions 2000000 --verifiers 50"         the sizes of the targets
  make bench ARGS="--only http --seconds 10 --rounds 9"       longer, for a machine that is not quiet
  make bench ARGS="--only stores --store-sessions 10000 --store-sessions 1000000"
                                                              growth: a million sessions take minutes to write
  make bench ARGS="--quick"                                   seconds: does everything still work?

A run of everything writes benchmarks/results/latest.json, docs/reference/performance.md (the table) and performance.svg.
A run with --only or --quick writes benchmarks/results/partial.json alone. --out FOLDER takes the place of both.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is measured: seconds of one measurement (of a contest, of a cell in a round), and sizes."""

    seconds: float
    rounds: int
    sessions: int
    verifiers: int
    revocations: int
    entries: int
    tokens: int
    stores: tuple[int, ...]
    store_names: tuple[str, ...] = tuple(STORES)


FULL = Scale(
    seconds=3.0,
    rounds=7,
    sessions=20_000,
    verifiers=10,
    revocations=100,
    entries=live_bench.MILLION,
    tokens=200,
    stores=(10_000, 100_000),
)
QUICK = Scale(
    seconds=0.05,
    rounds=2,
    sessions=200,
    verifiers=2,
    revocations=5,
    entries=20_000,
    tokens=20,
    stores=(1_000, 2_000),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code: 0 when everything was measured, whether targets are met or not."""
    options = _parser().parse_args(arguments)
    sections = [Section(name) for name in options.only] or list(Section)
    scale = _scale(options)
    console = Console()
    if not console.is_terminal:
        console.width = 140
    facts = machine.facts()
    if not options.quick and machine.load() > NOISY:
        console.print(f"[yellow]This machine is not quiet: its load is {machine.load():.1f}.[/yellow]")
    try:
        figures = _measure(sections, scale, console)
    except BenchmarkFailed as failed:
        console.print(f"[red]The benchmark failed:[/red] {failed}", soft_wrap=True, highlight=False)
        return 1
    run = report.Run(machine=facts, figures=figures, is_measurement=not options.quick)
    console.print(report.as_table(run))
    for reason in report.not_measured(run):
        console.print(f"not measured: {reason}", style="yellow", highlight=False)
    is_whole = not options.quick and set(sections) == set(Section) and not options.store
    for path in _write(run, out=options.out, is_whole=is_whole):
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    return 0


def _measure(sections: Sequence[Section], scale: Scale, console: Console) -> list[Figure]:
    parts: dict[Section, Callable[[Tell], list[Figure]]] = {
        Section.JWT: lambda tell: [
            *jwt_bench.run(seconds=scale.seconds, tokens=scale.tokens, tell=tell),
            *live_bench.run(seconds=scale.seconds, entries=scale.entries, tell=tell),
        ],
        Section.HTTP: lambda tell: http_bench.run(
            http_bench.Size(sessions=scale.sessions, rounds=scale.rounds, seconds=scale.seconds), tell=tell
        ),
        Section.PROXIES: lambda tell: proxy_bench.run(
            http_bench.Size(sessions=scale.sessions, rounds=scale.rounds, seconds=scale.seconds), tell=tell
        ),
        Section.FRAMEWORKS: lambda tell: framework_bench.run(
            http_bench.Size(sessions=scale.sessions, rounds=scale.rounds, seconds=scale.seconds), tell=tell
        ),
        Section.REVOCATION: lambda tell: revocation_bench.run(
            verifiers=scale.verifiers, revocations=scale.revocations, tell=tell
        ),
        Section.STORE_HTTP: lambda tell: store_http_bench.run(
            scale.store_names,
            http_bench.Size(sessions=scale.sessions, rounds=scale.rounds, seconds=scale.seconds),
            tell=tell,
        ),
        Section.STORES: lambda tell: store_bench.run(
            scale.store_names, sizes=scale.stores, seconds=scale.seconds, tell=tell
        ),
    }
    figures: list[Figure] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    # Few redraws: whoever draws takes the processor from what is measured.
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress:
        task = progress.add_task("starting", total=1.0)

        def tell(what: str, share: float) -> None:
            progress.update(task, description=what, completed=share)

        for section in sections:
            begin = time.monotonic()
            figures += parts[section](tell)
            progress.console.print(f"{section.value}: {time.monotonic() - begin:.0f} s")
    return figures


def _write(run: report.Run, *, out: Path | None, is_whole: bool) -> list[Path]:
    """Write what belongs to such a run; return where."""
    if out is not None:
        report.write_json(run, out / "latest.json")
        (out / "performance.svg").write_text(as_svg(run), "utf-8")
        (out / "performance.md").write_text(report.as_markdown(run), "utf-8")
        return [out]
    if not is_whole:
        report.write_json(run, RESULTS / "partial.json")
        return [(RESULTS / "partial.json").relative_to(ROOT)]
    page, picture, results = (
        REFERENCE / "performance.md",
        REFERENCE / "performance.svg",
        RESULTS / "latest.json",
    )
    page.write_text(report.written_between(page.read_text("utf-8"), report.as_markdown(run)), "utf-8")
    picture.write_text(as_svg(run), "utf-8")
    report.write_json(run, results)
    return [path.relative_to(ROOT) for path in (results, page, picture)]


def _scale(options: argparse.Namespace) -> Scale:
    base = QUICK if options.quick else FULL
    return Scale(
        seconds=options.seconds or base.seconds,
        rounds=options.rounds or base.rounds,
        sessions=options.sessions or base.sessions,
        verifiers=options.verifiers or base.verifiers,
        revocations=base.revocations,
        entries=base.entries,
        tokens=base.tokens,
        stores=tuple(options.store_sessions) or base.stores,
        store_names=tuple(options.store) or base.store_names,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Keyfob beside what it is compared with, in one run.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", default=[], choices=[section.value for section in Section])
    parser.add_argument(
        "--seconds", type=_between(0.02, 600.0), metavar="S", help="of each measurement (default 3)"
    )
    parser.add_argument("--rounds", type=_whole(1, 1_000), metavar="N", help="over HTTP (default 7)")
    parser.add_argument(
        "--sessions", type=_whole(32, 20_000_000), metavar="N", help="in the database (default 20000)"
    )
    parser.add_argument(
        "--store", action="append", default=[], choices=list(STORES), help="of the part stores (default each)"
    )
    parser.add_argument(
        "--store-sessions",
        type=_whole(1_000, 20_000_000),
        action="append",
        default=[],
        metavar="N",
        help="in each store; repeatable, the curve goes from the least to the largest (default 10000 and 100000)",
    )
    parser.add_argument("--verifiers", type=_whole(1, 500), metavar="N", help="processes (default 10)")
    parser.add_argument("--quick", action="store_true", help="measure nothing, but try everything")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write here instead")
    return parser


def _between(least: float, most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be {least:g} to {most:g}")
        return value

    return number


def _whole(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be {least} to {most}")
        return value

    return number


if __name__ == "__main__":
    sys.exit(main())
