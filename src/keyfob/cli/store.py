"""`keyfob store`: from one store to another."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from keyfob.authority.key_copies import copy_master_key
from keyfob.base.clock import SystemClock
from keyfob.cli.output import examples, plain, say
from keyfob.stores.copying import Copier, Ends
from keyfob.stores.opening import make_movable, open_movable, place_of
from keyfob.stores.records import Kind

group = typer.Typer(
    help="Move to another store while the servers run.", no_args_is_help=True, rich_markup_mode="rich"
)


class Then(Enum):
    """What comes after the copy is level."""

    STOP = auto()
    FOLLOW = auto()
    SWITCH = auto()


def register(commands: typer.Typer) -> None:
    """Add `store` to *commands*."""
    commands.add_typer(group, name="store")


@group.command(
    epilog=examples(
        "keyfob store copy sqlite:///keyfob.db sqlite:////mnt/new/keyfob.db            # until level; repeat at will",
        "keyfob store copy sqlite:///keyfob.db sqlite:////mnt/new/keyfob.db --switch   # and take its place",
    )
)
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The URL of the store that is in use.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The URL of a store that was never used.")],
    follow: Annotated[bool, typer.Option("--follow", help="Stay level until interrupted.")] = False,
    switch: Annotated[
        bool, typer.Option("--switch", help="Hold writers off, verify, and let TO take FROM's place.")
    ] = False,
    abandon: Annotated[bool, typer.Option("--abandon", help="Give up a copy that is under way.")] = False,
) -> None:
    """Carry everything from one store to another while servers use it; nobody is logged out.

    Interrupted at any point, run it again: it goes on. Until --switch, FROM stays in use and TO cannot be opened. With --switch, servers on
    FROM answer 503 from the moment of the switch: restart them with --store TO.
    """
    if follow + switch + abandon > 1:
        raise typer.BadParameter("give one of --follow, --switch and --abandon")
    if abandon:
        asyncio.run(_abandon(source, target))
        return
    then = Then.SWITCH if switch else Then.FOLLOW if follow else Then.STOP
    asyncio.run(_copy(source, target, then))


async def _abandon(source: str, target: str) -> None:
    async with _ends(source, target) as ends:
        await Copier(ends, clock=SystemClock()).abandon()
        say(f"abandoned: {ends.source_place} is as it was; delete what is at {ends.target_place}")


async def _copy(source: str, target: str, then: Then) -> None:
    copy_master_key(source, target)
    async with _ends(source, target) as ends:
        copier, carried = await _carried(ends)
        say(f"level: {carried} rows carried to {ends.target_place}")
        match then:
            case Then.STOP:
                say("FROM stays in use, and changes are noted: run it again with --switch, or --abandon")
            case Then.FOLLOW:
                await copier.follow(_interruption())
            case Then.SWITCH:
                held = await copier.switch()
                total = sum(one.count for one in held.values())
                say(f"switched: {total} rows verified; restart servers with the store {ends.target_place}")


async def _carried(ends: Ends) -> tuple[Copier, int]:
    clock = SystemClock()
    async with ends.source.snapshot(clock.now()) as snapshot:
        total = sum([await snapshot.count(kind) for kind in Kind])
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)

        def advance(kind: Kind, count: int) -> None:
            progress.update(task, advance=count, description=plain(kind.value))

        copier = Copier(ends, clock=clock, on_progress=advance)
        return copier, await copier.copy()


@asynccontextmanager
async def _ends(source: str, target: str) -> AsyncIterator[Ends]:
    here = await open_movable(source)
    try:
        there = await make_movable(target)
        try:
            async with here.exclusively():
                yield Ends(here, there, place_of(source), place_of(target))
        finally:
            await there.close()
    finally:
        await here.close()


def _interruption() -> asyncio.Event:
    """Return what is set when the process is told to end."""
    event = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event
