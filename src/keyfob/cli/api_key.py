"""`keyfob api-key`: keys for scripts and tools, of people and of services."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from keyfob.authority.api_keys import ApiKey, ApiKeyOrder, NewApiKey
from keyfob.authority.authority import Authority
from keyfob.base.errors import InvalidRequest
from keyfob.cli.opened import ACTOR, AsJson, ConfigFile, Reason, StoreUrl, with_authority
from keyfob.cli.output import examples, listed, moment, say, say_entry, say_json, say_table
from keyfob.cli.sessions import subject_of

PAGE = 500  # keys read in one step

group = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True, rich_markup_mode="rich")

User = Annotated[
    str | None, typer.Option("--user", metavar="USER", help="A person: a login name or a subject.")
]
Service = Annotated[str | None, typer.Option("--client", metavar="ID", help="A service: a client's id.")]


def register(commands: typer.Typer) -> None:
    """Add `api-key` to *commands*."""
    commands.add_typer(group, name="api-key")


@group.command(
    epilog=examples(
        "keyfob api-key add deploy --client ci --audience orders --scope orders:write",
        "keyfob api-key add laptop --user alice --audience orders --days 30",
    )
)
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is for.")],
    audience: Annotated[
        list[str], typer.Option("--audience", metavar="A", help="A service that takes it; repeatable.")
    ],
    user: User = None,
    client: Service = None,
    scope: Annotated[
        list[str] | None, typer.Option("--scope", metavar="S", help="A scope of the key; repeatable.")
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option("--role", metavar="R", help="A role that it has while its owner has it; repeatable."),
    ] = None,
    days: Annotated[
        int | None, typer.Option("--days", min=1, help="How long it lives. [default: as the settings say]")
    ] = None,
    json: AsJson = False,
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """Make an API key. It is shown now and never again."""
    order = ApiKeyOrder(
        name=name,
        audience=audience,
        scopes=scope or (),
        roles=role or (),
        lifetime=None if days is None else timedelta(days=days),
    )

    async def work(authority: Authority) -> NewApiKey:
        if client is not None and user is None:
            return await authority.api_keys.add_for_service(client, order, actor=ACTOR)
        if user is not None and client is None:
            subject = await subject_of(authority, user)
            return await authority.api_keys.add_for_subject(subject, order, actor=ACTOR)
        raise InvalidRequest("invalid_request", "A key has one owner: give --user or --client.")

    made = with_authority(work, store=store, config=config)
    if json:
        say_json({**_document(made.api_key), "api_key": made.text})
        return
    say(f"key_id:  {made.api_key.key_id}")
    say(f"api_key: {made.text}")
    say(f"It is good until {moment(made.api_key.expires_at)}. It is not stored; nobody can show it again.")


@group.command("list", epilog=examples("keyfob api-key list", "keyfob api-key list --client ci --json"))
def list_(
    user: User = None,
    client: Service = None,
    json: AsJson = False,
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """List live API keys, newest first: of one owner, or everybody's."""

    async def work(authority: Authority) -> list[ApiKey]:
        owner = client if user is None else await subject_of(authority, user)
        keys: list[ApiKey] = []
        after: str | None = None
        while True:
            page = await authority.api_keys.list(owner, after=after, limit=PAGE)
            keys += page.api_keys
            if page.next is None:
                return keys
            after = page.next

    keys = with_authority(work, store=store, config=config)
    if json:
        say_json([_document(key) for key in keys])
        return
    say_table(
        ("key", "name", "owner", "audience", "scopes", "roles", "expires", "last used"),
        (
            (
                one.key_id,
                one.name,
                one.subject,
                listed(one.audience),
                listed(one.scopes),
                listed(one.roles),
                moment(one.expires_at),
                moment(one.last_used_at),
            )
            for one in keys
        ),
        empty="there are no API keys; 'keyfob api-key add NAME' makes one",
    )


@group.command(
    epilog=examples("keyfob api-key revoke 5f0c64a1b7c94d0d8f0e3a2b1c4d5e6f --reason 'in a repository'")
)
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="The key's id, as listed.")],
    reason: Reason = "",
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """End an API key, everywhere."""

    async def work(authority: Authority) -> None:
        entry = await authority.api_keys.revoke(key_id, actor=ACTOR, reason=reason)
        say_entry(entry, what=f"API key {key_id} ended", unchanged="it was over already")

    with_authority(work, store=store, config=config)


def _document(key: ApiKey) -> dict[str, object]:
    return {
        "key_id": key.key_id,
        "name": key.name,
        "subject": key.subject,
        "client_id": key.client_id,
        "audience": list(key.audience),
        "scopes": list(key.scopes),
        "roles": list(key.roles),
        "created_at": key.created_at.isoformat(),
        "expires_at": key.expires_at.isoformat(),
        "last_used_at": None if key.last_used_at is None else key.last_used_at.isoformat(),
    }
