"""`keyfob demo`: everything, once, against a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keyfob.cli.output import examples


def register(commands: typer.Typer) -> None:
    """Add `demo` to *commands*."""
    commands.command(
        epilog=examples(
            "keyfob demo                            # then stay up", "keyfob demo --once --json demo.json"
        )
    )(demo)


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the demo.")] = False,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures to a file.")
    ] = None,
) -> None:
    """Start a server and three services, and measure how fast each of them denies what was revoked."""
    from rich.console import Console

    from keyfob.demo.demo import run

    run(console=Console(), stay=not once, json_path=json)
