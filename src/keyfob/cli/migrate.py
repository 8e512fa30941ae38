"""`keyfob migrate`."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated

import typer

from keyfob.cli.opened import ConfigFile, StoreUrl
from keyfob.cli.output import examples, say
from keyfob.server.settings import Settings
from keyfob.stores.opening import MIGRATION_PATIENCE, migrate_store


def register(commands: typer.Typer) -> None:
    """Add `migrate` to *commands*."""
    commands.command(
        epilog=examples("keyfob migrate", "keyfob migrate --store sqlite:////var/lib/keyfob/keyfob.db")
    )(migrate)


Wait = Annotated[
    int,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=1,
        max=86_400,
        help="How long to wait for a table of PostgreSQL that others use. Requests that need it wait meanwhile.",
    ),
]


def migrate(
    store: StoreUrl = None, config: ConfigFile = None, wait: Wait = int(MIGRATION_PATIENCE.total_seconds())
) -> None:
    """Bring a store to the schema of this version, making it if there is none. What is current already stays as it is."""
    settings = Settings.load(config=config, flags={"store": store})
    change = asyncio.run(migrate_store(settings.store, patience=timedelta(seconds=wait)))
    if change.before == change.after:
        say(f"schema {change.after} already; nothing changed")
    else:
        say(f"migrated from schema {change.before} to {change.after}")
