"""`keyfob backup` and `keyfob restore`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from keyfob.authority import backing_up
from keyfob.authority.backing_up import Into, Outcome
from keyfob.base.clock import SystemClock
from keyfob.cli.opened import ACTOR, ConfigFile, StoreUrl
from keyfob.cli.output import examples, moment, say, warn
from keyfob.server.settings import Settings


def register(commands: typer.Typer) -> None:
    """Add `backup` and `restore` to *commands*."""
    commands.command(
        epilog=examples(
            "keyfob backup /var/backups/keyfob-monday",
            "keyfob backup /var/backups/keyfob-monday --store sqlite:////var/lib/keyfob/keyfob.db",
        )
    )(backup)
    commands.command(
        epilog=examples(
            "keyfob restore /var/backups/keyfob-monday --store sqlite:////var/lib/keyfob/new.db",
            "keyfob restore /var/backups/keyfob-monday --force       # into the store that is in use",
        )
    )(restore)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that is not there yet.")],
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """Write one moment of the store to a file, while servers run.

    The private keys in it are sealed under the master key, which is not in it: keep that elsewhere, and as long. Password hashes are in it:
    the file is readable by its owner alone.
    """
    settings = Settings.load(config=config, flags={"store": store})
    with _progress() as advance:
        made = asyncio.run(
            backing_up.back_up(
                settings.store,
                file,
                master_key=settings.master_key,
                clock=SystemClock(),
                on_progress=advance,
            )
        )
    say(f"{made.records} records of {moment(made.made_at)} written to {file}")
    say("to restore it, the master key of this store is needed: it is not in the file, keep it elsewhere")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What 'keyfob backup' wrote.")],
    force: Annotated[bool, typer.Option("--force", help="Also into a store that is in use.")] = False,
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """Put a back-up in place, all of it or nothing; what was ended after it stays ended.

    Into a new store, everybody has to log in again: nobody can know what was ended since. Into the store that is in use (--force), clients,
    accounts and roles come back, and sessions, revocations, keys and the audit trail stay as they are, if nothing of its feed was lost.
    Servers on the store need no restart.
    """
    settings = Settings.load(config=config, flags={"store": store})
    with _progress() as advance:
        done = asyncio.run(
            backing_up.restore(
                file,
                settings.store,
                into=Into.ANY if force else Into.UNUSED,
                master_key=settings.master_key,
                clock=SystemClock(),
                actor=ACTOR,
                on_progress=advance,
                state_folder=settings.state_folder,
            )
        )
    say(
        f"restored the back-up of {moment(done.backup.made_at)}; the feed stands at position {done.head.position}"
    )
    if done.outcome is Outcome.KEPT:
        say("clients, accounts and roles are those of the back-up; nobody was logged out")
    else:
        say("everything that was issued before is denied: everybody logs in again")
    warn(
        "accounts that were disabled or deleted, and passwords that were changed, since then are as they were before"
    )


@contextmanager
def _progress() -> Iterator[backing_up.Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("records", total=None)
        yield lambda total, count: progress.update(task, total=total, advance=count)
