"""`keyfob lab`: sessions, JWTs and the hybrid compared by experiment, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keyfob.cli.output import examples, say

EXPERIMENTS = range(1, 9)


def register(commands: typer.Typer) -> None:
    """Add `lab` to *commands*."""
    commands.command(
        epilog=examples(
            "keyfob lab                                 # all eight experiments, within five minutes",
            "keyfob lab --only 1,2                      # revocation and sign-out",
            "keyfob lab --json lab.json --html lab.html",
        )
    )(lab)


def lab(
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Play these experiments: 1 revocation, 2 logout, 3 storage, 4 XSS, 5 CSRF, 6 theft, 7 load, 8 services.",
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write what was seen to a file.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a report to a file: one page, for paper too."),
    ] = None,
    access_lifetime: Annotated[
        float,
        typer.Option(
            min=2,
            max=60,
            metavar="SECONDS",
            help="Lifetime of access tokens in experiments 1 to 6, which stands for 10 minutes.",
        ),
    ] = 6.0,
) -> None:
    """Compare sessions, JWTs and the hybrid by experiments against real servers, and show what was measured."""
    from rich.console import Console

    from keyfob.lab import result as results
    from keyfob.lab.report import page
    from keyfob.lab.run import Plan, run
    from keyfob.lab.terminal import progress, show

    numbers = _numbers(only)
    plan = Plan(numbers=numbers, access_seconds=access_lifetime)
    console = Console()
    with progress(console, steps=plan.steps) as tell:
        result = run(plan, tell)
    show(console, result)
    if json is not None:
        results.write(result, json)
        say(f"What was seen is in {json}.")
    if html is not None:
        html.write_text(page(result), "utf-8")
        say(f"The report is in {html}.")


def _numbers(only: str | None) -> frozenset[int]:
    if only is None:
        return frozenset(EXPERIMENTS)
    parts = [part.strip() for part in only.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) in EXPERIMENTS for part in parts):
        raise typer.BadParameter("experiments are numbers from 1 to 8, such as 1,2", param_hint="--only")
    return frozenset(int(part) for part in parts)
