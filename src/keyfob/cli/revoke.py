"""`keyfob revoke`: the one function behind every revocation, by hand; and what it would do, said before."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import msgspec
import typer

from keyfob.authority.authority import Authority
from keyfob.authority.preview import RevocationPreview
from keyfob.cli.opened import (
    ACTOR,
    IDS_MAY_BEGIN_WITH_A_DASH,
    AsJson,
    ConfigFile,
    Reason,
    StoreUrl,
    with_authority,
)
from keyfob.cli.output import examples, say_entry, say_json
from keyfob.cli.previewed import say_preview
from keyfob.cli.sessions import subject_of
from keyfob.endpoints.admin.revocations import entry_answer, preview_answer
from keyfob.revocation.entry import Entry, Reach, Scope


def register(commands: typer.Typer) -> None:
    """Add `revoke` to *commands*."""
    commands.command(
        epilog=examples(
            "keyfob revoke subject alice --explain                   # what would that do? changes nothing",
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
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Say what it would do, by when all deny, and who is behind. Changes nothing."
        ),
    ] = False,
    json: AsJson = False,
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """Revoke everything in a scope. Every verifier denies it within milliseconds."""
    if bool(id_) == (scope is Scope.EVERYTHING):
        raise typer.BadParameter("'everything' takes no ID, every other scope needs one")

    async def target_of(authority: Authority) -> str:
        return await subject_of(authority, id_) if scope is Scope.SUBJECT else id_

    async def preview(authority: Authority) -> RevocationPreview:
        return await authority.preview_revocation(scope, await target_of(authority), reach=reach)

    async def work(authority: Authority) -> Entry:
        target = await target_of(authority)
        return await authority.revoke(scope, target, reach=reach, reason=reason, actor=ACTOR)

    if explain:
        found = with_authority(preview, store=store, config=config)
        document: msgspec.Struct = preview_answer(found)
        show: Callable[[], None] = partial(say_preview, found)
    else:
        entry = with_authority(work, store=store, config=config)
        document = entry_answer(entry)
        what = f"revoked {' '.join((scope.value, entry.id)).strip()}"
        show = partial(say_entry, entry, what=what, unchanged="")
    if json:
        say_json(msgspec.to_builtins(document))
    else:
        show()
