"""`keyfob client`: the applications and services that hold credentials or follow the feed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from keyfob.authority.authority import Authority
from keyfob.base.identifiers import Strategy
from keyfob.cli.opened import ACTOR, AsJson, ConfigFile, Reason, StoreUrl, with_authority
from keyfob.cli.output import examples, listed, moment, say, say_entry, say_json, say_table
from keyfob.clients.client import Client
from keyfob.clients.clients import NewClient

group = typer.Typer(
    help="Add and delete clients: services that follow the feed, proxies, applications.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


def register(commands: typer.Typer) -> None:
    """Add `client` to *commands*."""
    commands.add_typer(group, name="client")


@group.command(
    epilog=examples(
        "keyfob client add orders --scope keyfob:feed              # a service that follows the feed",
        "keyfob client add proxy --scope keyfob:check --audience orders --audience stock",
        "keyfob client add orders --scope keyfob:feed --json > orders.json",
    )
)
def add(
    client_id: Annotated[str, typer.Argument(metavar="ID", help="The client's id.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", metavar="S", help="keyfob:feed, :introspect, :check, :admin, or your own; repeatable."
        ),
    ] = None,
    audience: Annotated[
        list[str] | None,
        typer.Option(
            "--audience", metavar="A", help="An audience that it may ask for; repeatable. None means any."
        ),
    ] = None,
    strategy: Annotated[
        list[Strategy] | None,
        typer.Option(
            "--strategy",
            help="A strategy that it may use, the first being its default; repeatable. [default: hybrid]",
        ),
    ] = None,
    json: AsJson = False,
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """Add a client. Its secret is shown now and never again."""
    strategies = strategy or [Strategy.HYBRID]

    async def work(authority: Authority) -> NewClient:
        return await authority.clients.add(
            client_id,
            scopes=scope or (),
            audiences=audience or (),
            strategies=strategies,
            default_strategy=strategies[0],
            actor=ACTOR,
        )

    added = with_authority(work, store=store, config=config)
    if json:
        say_json({**_document(added.client), "client_secret": added.secret})
        return
    say(f"client_id:     {added.client.client_id}")
    say(f"client_secret: {added.secret}")
    say("The secret is not stored; nobody can show it again.")


@group.command("list", epilog=examples("keyfob client list", "keyfob client list --json"))
def list_(json: AsJson = False, store: StoreUrl = None, config: ConfigFile = None) -> None:
    """List the clients by id."""

    async def work(authority: Authority) -> Sequence[Client]:
        return await authority.clients.list()

    clients = with_authority(work, store=store, config=config)
    if json:
        say_json([_document(client) for client in clients])
        return
    say_table(
        ("id", "scopes", "audiences", "strategies", "created"),
        (
            (
                one.client_id,
                listed(one.scopes),
                listed(one.audiences),
                listed(one.strategies),
                moment(one.created_at),
            )
            for one in clients
        ),
        empty="there are no clients but the built-in first-party; 'keyfob client add ID' adds one",
    )


@group.command(epilog=examples("keyfob client delete orders --reason 'secret leaked'"))
def delete(
    client_id: Annotated[str, typer.Argument(metavar="ID", help="The client's id.")],
    reason: Reason = "",
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """Delete a client, and end everything that was issued to it."""

    async def work(authority: Authority) -> None:
        entry = await authority.clients.delete(client_id, actor=ACTOR, reason=reason)
        say_entry(
            entry, what=f"{client_id} deleted, all that was issued to it ended", unchanged="nothing changed"
        )

    with_authority(work, store=store, config=config)


def _document(client: Client) -> dict[str, object]:
    return {
        "client_id": client.client_id,
        "scopes": sorted(client.scopes),
        "audiences": sorted(client.audiences),
        "strategies": sorted(client.strategies),
        "default_strategy": client.default_strategy.value,
        "created_at": client.created_at.isoformat(),
    }
