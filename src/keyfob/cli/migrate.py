"""`keyfob migrate`."""

from __future__ import annotations

import typer

from keyfob.authority.authority import Authority
from keyfob.cli.opened import ConfigFile, StoreUrl, with_authority
from keyfob.cli.output import examples, say


def register(commands: typer.Typer) -> None:
    """Add `migrate` to *commands*."""
    commands.command(epilog=examples("keyfob migrate", "keyfob migrate --store sqlite:////var/lib/keyfob.db"))(migrate)
