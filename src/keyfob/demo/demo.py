"""Running the demo from beginning to end."""

from __future__ import annotations

import signal
import tempfile
import threading
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from keyfob.demo.figures import Result
from keyfob.demo.processes import Stage, running
from keyfob.demo.report import show, show_what_next
from keyfob.demo.story import STEPS, play


def run(
    *, console: Console, port: int | None = None, stay: bool = True, json_path: Path | None = None
) -> Result:
    """Play the story of all three strategies, show the figures, and stay up until interrupted.

    *port* None takes 8080 if it is free, else any. *json_path* is where the figures are written.

    Raises:
        DemoFailed: something did not start, or was not as it should be.
    """
    # Raised like a ctrl-c, so that whoever ends the demo while it plays also ends its processes and removes its folder.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="keyfob-demo-") as folder:
        console.print("Starting a server on SQLite and three services …", highlight=False)
        with running(Path(folder), port=port) as stage:
            result = _play_all(stage, console)
            show(console, result)
            if json_path is not None:
                json_path.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
                console.print(f"The figures are in {json_path}.", highlight=False)
            if stay:
                show_what_next(console, stage)
                _wait_for_the_end()
    return result


def _play_all(stage: Stage, console: Console) -> Result:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<40}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=sum(STEPS.values()))
        figures = {}
        for strategy in STEPS:

            def tell(step: str, strategy: str = strategy) -> None:
                progress.update(task, description=f"{strategy}: {step}", advance=1)

            figures[strategy] = play(stage, strategy, tell)
    return Result(strategies=figures)


def _wait_for_the_end() -> None:
    """Return at SIGINT or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
