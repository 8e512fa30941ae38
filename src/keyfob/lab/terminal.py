"""What the lab shows on a terminal: progress, and the table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from keyfob.lab.experiments import EXPERIMENTS, Experiment, cells
from keyfob.lab.result import Column, Result
from keyfob.lab.run import Tell
from keyfob.lab.setups import BY_NAME

WIDE = 150
"""Characters from which on the whole comparison is shown as one table."""


@contextmanager
def progress(console: Console, *, steps: int) -> Iterator[Tell]:
    """Show progress while the block lasts."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<50}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=steps)

        def tell(setup: str, dimension: str) -> None:
            bar.update(task, description=f"{setup}: {dimension}", advance=1)

        yield tell


def show(console: Console, result: Result) -> None:
    """Print the comparison: as one table where there is room, else experiment by experiment."""
    played = [one for one in EXPERIMENTS if any(is_played(one, column) for column in result.columns)]
    if console.width >= WIDE:
        console.print(_whole(result, played))
    else:
        for experiment in played:
            console.print(_one(result, experiment))
    machine = result.machine
    for line in (
        f"Measured with access tokens of {result.access_seconds:g} s, which stand for 10 minutes: what ends with one is scaled by "
        f"{600 / result.access_seconds:g}, and says so.",
        f"{machine.cores} cores, load {machine.load_at_start:g} before and {machine.load_at_end:g} after; "
        f"{machine.python}; browser: {machine.browser}; {result.took:.0f} s in all.",
    ):
        console.print(Text(line))


def is_played(experiment: Experiment, column: Column) -> bool:
    """Say whether the run meant to play *experiment*: it was seen, or there is a reason why not."""
    return getattr(column, experiment.key) is not None or experiment.key in column.missing


def heading(column: Column) -> str:
    """Return the title of a column."""
    setup = BY_NAME[column.setup]
    return f"{setup.kind}: {setup.title}"


def _whole(result: Result, played: list[Experiment]) -> Table:
    table = Table(title="Sessions, JWTs and the hybrid, measured", title_justify="left", show_lines=True)
    table.add_column("")
    for column in result.columns:
        table.add_column(heading(column))
    for experiment in played:
        read = [cells(experiment, column) for column in result.columns]
        for row in experiment.rows:
            shown = [Text(one[row.key].brief or one[row.key].text) for one in read]
            table.add_row(Text(f"{experiment.number} {row.title}"), *shown)
    return table


def _one(result: Result, experiment: Experiment) -> Table:
    title = f"{experiment.number} {experiment.dimension}"
    table = Table(title=title, title_justify="left", show_lines=True, expand=True)
    table.add_column("")
    for row in experiment.rows:
        table.add_column(row.title)
    for column in result.columns:
        read = cells(experiment, column)
        table.add_row(Text(heading(column)), *(Text(read[row.key].text) for row in experiment.rows))
    return table
