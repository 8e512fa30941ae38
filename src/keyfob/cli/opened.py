"""The authority of a command: the same store as the server's, opened directly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from keyfob.authority.authority import Authority
from keyfob.server.opening import open_authority
from keyfob.server.settings import Settings

ACTOR = "cli"
"""Who acts, in the audit trail."""

StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="The store: sqlite:///path, memory://, ... [default: sqlite:///keyfob.db]",
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The settings. [default: keyfob.toml, where there is one]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; goes into the audit trail.")]

IDS_MAY_BEGIN_WITH_A_DASH = {"ignore_unknown_options": True}
"""The context of commands that take a key id or a jti: both are base64url. There are no short options for them to be mistaken for."""

_Result = TypeVar("_Result")


def with_authority(
    work: Callable[[Authority], Awaitable[_Result]], *, store: str | None, config: Path | None
) -> _Result:
    """Open the authority, do *work* with it, close it.

    Raises:
        ConfigurationError: the settings are wrong, or do not fit the store.
        StoreUnavailable: the store does not answer.
    """
    # A command is no server: it revokes no canaries.
    settings = replace(Settings.load(config=config, flags={"store": store}), canary=timedelta(0))

    async def work_and_close() -> _Result:
        async with open_authority(settings) as authority:
            return await work(authority)

    return asyncio.run(work_and_close())
