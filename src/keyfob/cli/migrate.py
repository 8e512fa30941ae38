"""`keyfob migrate`."""

from __future__ import annotations

import asyncio

import typer

from keyfob.cli.opened import ConfigFile, StoreUrl
from keyfob.cli.output import examples, say
from keyfob.server.settings import Settings
from keyfob.stores.opening import migrate_store


def register(commands: typer.Typer) -> None:
    """Add `migrate` to *commands*."""
    commands.command(
        epilog=examples("keyfob migrate", "keyfob migrate --store sqlite:////var/lib/keyfob/keyfob.db")
    )(migrate)


def migrate(store: StoreUrl = None, config: ConfigFile = None) -> None:
    """Bring a store to the schema of this version, making it if there is none. What is current already stays as it is."""
    settings = Settings.load(config=config, flags={"store": store})
    change = asyncio.run(migrate_store(settings.store))
    if change.before == change.after:
        say(f"schema {change.after} already; nothing changed")
    else:
        say(f"migrated from schema {change.before} to {change.after}")
