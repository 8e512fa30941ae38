"""`keyfob migrate`."""

from __future__ import annotations

import typer

from keyfob.cli.output import examples


def register(commands: typer.Typer) -> None:
    """Add `migrate` to *commands*."""
    commands.command(
        epilog=examples("keyfob migrate", "keyfob migrate --store sqlite:////var/lib/keyfob.db")
    )(migrate)
