"""`keyfob revoke`: the one function behind every revocation, by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from keyfob.authority.authority import Authority
from keyfob.cli.opened import ACTOR, IDS_MAY_BEGIN_WITH_A_DASH, ConfigFile, Reason, StoreUrl, with_authority
from keyfob.cli.output import examples, say_entry
from keyfob.cli.sessions import subject_of
from keyfob.revocation.entry import Reach, Scope


def register(commands: typer.Typer) -> None:
    """Add `revoke` to *commands*."""
    commands.command(
        epilog=examples(
            "keyfob revoke subject alice --reason 'laptop stolen'    # every session and token of alice",
            "keyfob revoke session 5f0c64a1b7c94d0d8f0e3a2b1c4d5e6f",
            "keyfob revoke subject alice --reach claims              # new roles at the next refresh, no login",
            "keyfob revoke everything --reason 'signing key leaked'",
        ),
        context_settings=IDS_MAY_BEGIN_WITH_A_DASH,
    )(revoke)


def revoke(
    scope: Annotated[
        Scope, typer.Argument(metavar="SCOPE", help="token, session, subject, client, key or everything.")
    ],
    id_: Annotated[
        str,
        typer.Argument(metavar="[ID]", help="jti, session id, user, client id or kid; none for everything."),
    ] = "",
    reach: Annotated[
        Reach, typer.Option("--reach", help="end: over. claims: must be refreshed.")
    ] = Reach.END,
    reason: Reason = "",
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """Revoke everything in a scope. Every verifier denies it within milliseconds."""
    if bool(id_) == (scope is Scope.EVERYTHING):
        raise typer.BadParameter("'everything' takes no ID, every other scope needs one")

    async def work(authority: Authority) -> None:
        target = await subject_of(authority, id_) if scope is Scope.SUBJECT else id_
        entry = await authority.revoke(scope.value, target, reach=reach.value, reason=reason, actor=ACTOR)
        say_entry(
            entry, what=f"revoked {' '.join((scope.value, target)).strip()}", unchanged="it was over already"
        )

    with_authority(work, store=store, config=config)
