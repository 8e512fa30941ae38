"""`keyfob migrate`."""

from __future__ import annotations

import asyncio

import typer

from keyfob.base.clock import SystemClock
from keyfob.cli.opened import ConfigFile, StoreUrl
from keyfob.cli.output import examples, say
from keyfob.server.settings import Settings
from keyfob.stores.opening import open_store


def register(commands: typer.Typer) -> None:
    """Add `migrate` to *commands*."""
    commands.command(
        epilog=examples("keyfob migrate", "keyfob migrate --store sqlite:////var/lib/keyfob/keyfob.db")
    )(migrate)


def migrate(store: StoreUrl = None, config: ConfigFile = None) -> None:
    """Bring a store to the schema of this version, making it if there is none. What is current already stays as it is."""
    settings = Settings.load(config=config, flags={"store": store})

    async def open_and_close() -> None:
        opened = await open_store(settings.store, clock=SystemClock())
        await opened.close()

    asyncio.run(open_and_close())
    say(f"{settings.store} has the schema of this version")
