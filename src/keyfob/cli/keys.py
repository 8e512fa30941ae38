"""`keyfob keys`: the key ring."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from keyfob.authority.authority import Authority
from keyfob.authority.rewrapping import rewrap_store
from keyfob.base.clock import SystemClock
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
from keyfob.keys.phases import Phase
from keyfob.keys.store import KeyPurpose, StoredKey
from keyfob.server.settings import Settings

group = typer.Typer(
    help="List, rotate, revoke and rewrap keys.", no_args_is_help=True, rich_markup_mode="rich"
)


def register(commands: typer.Typer) -> None:
    """Add `keys` to *commands*."""
    commands.add_typer(group, name="keys")


@group.command("list", epilog=examples("keyfob keys list", "keyfob keys list --json"))
def list_(json: AsJson = False, store: StoreUrl = None, config: ConfigFile = None) -> None:
    """List the keys with their phases, by purpose and age. No secret part is shown."""

    async def work(authority: Authority) -> Sequence[tuple[StoredKey, Phase]]:
        return authority.keys.listing()

    keys = with_authority(work, store=store, config=config)
    if json:
        say_json([_document(key, phase) for key, phase in keys])
        return
    say_table(
        ("purpose", "kid", "phase", "algorithm", "created", "active from", "revoked"),
        (
            (
                one.purpose.value,
                one.key_id,
                phase.value,
                one.algorithm,
                moment(one.created_at),
                moment(one.activates_at),
                moment(one.revoked_at),
            )
            for one, phase in keys
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


@group.command(
    epilog=examples(
        "keyfob keys rewrap                            # with the file <database>.key",
        "KEYFOB_NEW_MASTER_KEY=... keyfob keys rewrap  # with KEYFOB_MASTER_KEY",
    )
)
def rewrap(store: StoreUrl = None, config: ConfigFile = None) -> None:
    """Seal every stored key under a new master key; tokens and sessions stay good.

    The new master key is KEYFOB_NEW_MASTER_KEY. Where the old one lies in the file <database>.key, a new one is made unless that is set,
    and takes the place of the file.

    A running server goes on with the keys in its memory, but cannot make the next ones: restart it with the new master key.

    Backups of the database still need the old master key; so keep a copy of it for as long as you keep them. If the old one may have
    been seen together with the database, this is not enough: revoke the keys, too.

    Interrupted at any moment, the store opens as before; run it again to finish. What is done already stays as it is.
    """
    settings = Settings.load(config=config, flags={"store": store})
    done = asyncio.run(
        rewrap_store(
            settings.accounts_store or settings.store,
            master_key=settings.master_key,
            new_master_key=settings.new_master_key,
            clock=SystemClock(),
            actor=ACTOR,
        )
    )
    if not done.keys:
        say("every key is sealed under this master key already; nothing changed")
        return
    where = f"the one in {done.key_file}" if done.key_file else "KEYFOB_NEW_MASTER_KEY"
    say(
        f"{done.keys} keys sealed under the new master key, {where}; restart running servers with it, and take a new backup"
    )


def _document(key: StoredKey, phase: Phase) -> dict[str, object]:
    return {
        "purpose": key.purpose.value,
        "kid": key.key_id,
        "phase": phase.value,
        "algorithm": key.algorithm,
        "created_at": key.created_at.isoformat(),
        "activates_at": key.activates_at.isoformat(),
        "revoked_at": None if key.revoked_at is None else key.revoked_at.isoformat(),
    }
