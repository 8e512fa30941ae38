"""`keyfob keys`: the key ring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from keyfob.authority.authority import Authority
from keyfob.cli.opened import (
    ACTOR,
    IDS_MAY_BEGIN_WITH_A_DASH,
    AsJson,
    ConfigFile,
    Reason,
    StoreUrl,
    with_authority,
)
from keyfob.cli.output import examples, moment, say, say_entry, say_json, say_table
from keyfob.keys.store import KeyPurpose, StoredKey

group = typer.Typer(help="List, rotate and revoke keys.", no_args_is_help=True, rich_markup_mode="rich")


def register(commands: typer.Typer) -> None:
    """Add `keys` to *commands*."""
    commands.add_typer(group, name="keys")


@group.command("list", epilog=examples("keyfob keys list", "keyfob keys list --json"))
def list_(json: AsJson = False, store: StoreUrl = None, config: ConfigFile = None) -> None:
    """List the keys, oldest first. No secret part is shown."""

    async def work(authority: Authority) -> Sequence[StoredKey]:
        return await authority.store.keys.all()

    keys = with_authority(work, store=store, config=config)
    if json:
        say_json([_document(key) for key in keys])
        return
    say_table(
        ("purpose", "kid", "algorithm", "created", "active from", "revoked"),
        (
            (
                one.purpose.value,
                one.key_id,
                one.algorithm,
                moment(one.created_at),
                moment(one.activates_at),
                moment(one.revoked_at),
            )
            for one in keys
        ),
        empty="there are no keys yet; they are made when a server first starts",
    )


@group.command(epilog=examples("keyfob keys rotate", "keyfob keys rotate feed"))
def rotate(
    purpose: Annotated[
        KeyPurpose, typer.Argument(metavar="[PURPOSE]", help="access, feed, opaque or csrf.")
    ] = (KeyPurpose.ACCESS),
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """Make the next key. It is announced before it is used, and the one before it stays good for what it signed."""

    async def work(authority: Authority) -> None:
        await authority.keys.rotate(purpose)
        newest = max(
            (key for key in await authority.store.keys.all() if key.purpose is purpose),
            key=lambda key: key.activates_at,
        )
        say(f"the next {purpose.value} key is {newest.key_id}, active from {moment(newest.activates_at)}")

    with_authority(work, store=store, config=config)


@group.command(
    epilog=examples("keyfob keys revoke KID --reason 'backup stolen'"),
    context_settings=IDS_MAY_BEGIN_WITH_A_DASH,
)
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KID", help="The key's id, as listed.")],
    reason: Reason = "",
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """Declare an access key compromised. Everything that it signed is denied, whatever it says."""

    async def work(authority: Authority) -> None:
        entry = await authority.revoke("key", key_id, actor=ACTOR, reason=reason)
        say_entry(
            entry, what=f"key {key_id} revoked, all that it signed is denied", unchanged="nothing changed"
        )

    with_authority(work, store=store, config=config)


def _document(key: StoredKey) -> dict[str, object]:
    return {
        "purpose": key.purpose.value,
        "kid": key.key_id,
        "algorithm": key.algorithm,
        "created_at": key.created_at.isoformat(),
        "activates_at": key.activates_at.isoformat(),
        "revoked_at": None if key.revoked_at is None else key.revoked_at.isoformat(),
    }
