"""`keyfob version`."""

from __future__ import annotations

import platform
from importlib import metadata

import typer

from keyfob.cli.output import examples, say


def register(commands: typer.Typer) -> None:
    """Add `version` to *commands*."""
    commands.command(epilog=examples("keyfob version"))(version)


def version() -> None:
    """Print the version."""
    say(f"keyfob {metadata.version('keyfob')} on Python {platform.python_version()}")
