"""`keyfob client`: the applications and services that hold credentials or follow the feed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from keyfob.authority.authority import Authority
from keyfob.base.errors import ConfigurationError
from keyfob.base.identifiers import Strategy
from keyfob.cli.opened import ACTOR, AsJson, ConfigFile, Reason, StoreUrl, with_authority
from keyfob.cli.output import examples, listed, moment, say, say_entry, say_json, say_table
from keyfob.clients.assertion import keys_of
from keyfob.clients.client import Client, GrantType
from keyfob.clients.clients import NewClient, NewSecret
from keyfob.clients.registration import Registration


class GrantName(StrEnum):
    """The grants as they are named here."""

    CLIENT_CREDENTIALS = "client_credentials"
    TOKEN_EXCHANGE = "token-exchange"
    AUTHORIZATION_CODE = "authorization_code"
    REFRESH_TOKEN = "refresh_token"
    DEVICE_CODE = "device_code"
    HAND_OFF = "hand-off"


_GRANTS = {
    GrantName.CLIENT_CREDENTIALS: GrantType.CLIENT_CREDENTIALS,
    GrantName.TOKEN_EXCHANGE: GrantType.TOKEN_EXCHANGE,
    GrantName.AUTHORIZATION_CODE: GrantType.AUTHORIZATION_CODE,
    GrantName.REFRESH_TOKEN: GrantType.REFRESH_TOKEN,
    GrantName.DEVICE_CODE: GrantType.DEVICE_CODE,
    GrantName.HAND_OFF: GrantType.HAND_OFF,
}

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
        "keyfob client add shop --redirect-uri https://shop.example/signed-in --scope openid --name 'The shop'",
        "keyfob client add app --public --redirect-uri com.example.app:/signed-in --scope offline_access",
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
    grant: Annotated[
        list[GrantName] | None,
        typer.Option(
            "--grant",
            help="What it may ask the token endpoint for; repeatable. "
            "[default: client_credentials, or with --redirect-uri authorization_code and refresh_token]",
        ),
    ] = None,
    lifetime: Annotated[
        int | None,
        typer.Option(
            "--lifetime", min=1, max=86_400, metavar="SECONDS", help="How long its access tokens live."
        ),
    ] = None,
    public_keys: Annotated[
        Path | None,
        typer.Option(
            "--public-keys",
            metavar="FILE",
            help="A JWK Set or a PEM public key: it signs assertions with it and has no secret.",
        ),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="What people are shown where they sign in at it.")
    ] = "",
    redirect_uri: Annotated[
        list[str] | None,
        typer.Option(
            "--redirect-uri", metavar="URI", help="Where people return to after they signed in; repeatable."
        ),
    ] = None,
    post_logout_redirect_uri: Annotated[
        list[str] | None,
        typer.Option(
            "--post-logout-redirect-uri", metavar="URI", help="Where they return to after they signed out."
        ),
    ] = None,
    backchannel_logout_uri: Annotated[
        str | None,
        typer.Option("--backchannel-logout-uri", metavar="URI", help="Where it is told of ended sessions."),
    ] = None,
    backchannel_logout_session_required: Annotated[
        bool,
        typer.Option(
            "--backchannel-logout-session-required", help="It is told which session ended, not only whose."
        ),
    ] = False,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--cors-origin", metavar="ORIGIN", help="An origin whose scripts may call for it; repeatable."
        ),
    ] = None,
    first_party: Annotated[
        bool, typer.Option("--first-party", help="It is one of your own: nobody is asked for consent.")
    ] = False,
    public: Annotated[
        bool, typer.Option("--public", help="A native app or a page: it has no secret.")
    ] = False,
    require_par: Annotated[
        bool, typer.Option("--require-par", help="It must push its authorization requests (RFC 9126).")
    ] = False,
    json: AsJson = False,
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """Add a client. Its secret is shown now and never again."""
    keys = None if public_keys is None else _read(public_keys)
    grants = None if grant is None else [_GRANTS[name] for name in grant]
    strategies = strategy or [Strategy.HYBRID]
    registration = Registration(
        name=name,
        redirect_uris=redirect_uri or (),
        post_logout_redirect_uris=post_logout_redirect_uri or (),
        backchannel_logout_uri=backchannel_logout_uri,
        backchannel_logout_session_required=backchannel_logout_session_required,
        cors_origins=cors_origin or (),
        first_party=first_party,
        public=public,
        require_par=require_par,
    )

    async def work(authority: Authority) -> NewClient:
        return await authority.clients.add(
            client_id,
            scopes=scope or (),
            audiences=audience or (),
            strategies=strategies,
            default_strategy=strategies[0],
            grant_types=grants,
            access_lifetime=None if lifetime is None else timedelta(seconds=lifetime),
            public_keys=keys,
            registration=registration,
            actor=ACTOR,
        )

    added = with_authority(work, store=store, config=config)
    if json:
        say_json({**_document(added.client), "client_secret": added.secret})
        return
    say(f"client_id:     {added.client.client_id}")
    if added.secret is not None:
        _say_secret(added.secret)
    if any(uri.startswith("http://localhost") for uri in added.client.redirect_uris):
        say(
            "http://localhost can lead to another program than your own: http://127.0.0.1 cannot (RFC 8252, section 8.3)."
        )


@group.command(epilog=examples("keyfob client show orders"))
def show(
    client_id: Annotated[str, typer.Argument(metavar="ID", help="The client's id.")],
    json: AsJson = False,
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """Show a client: what it may do, how many secrets it has, and which keys it signs with."""

    async def work(authority: Authority) -> Client:
        return await authority.clients.get(client_id)

    document = _document(with_authority(work, store=store, config=config))
    if json:
        say_json(document)
        return
    for name, value in document.items():
        shown = listed(map(str, value)) if isinstance(value, list) else str("-" if value is None else value)
        say(f"{name + ':':<38}{shown}")


@group.command(
    "rotate-secret",
    epilog=examples(
        "keyfob client rotate-secret orders                 # the secret of today goes on beside the new one",
        "keyfob client rotate-secret orders --compromised   # nothing of before goes on",
    ),
)
def rotate_secret(
    client_id: Annotated[str, typer.Argument(metavar="ID", help="The client's id.")],
    compromised: Annotated[
        bool,
        typer.Option(
            "--compromised",
            help="End its secrets, its keys and everything that was issued to it, at once.",
        ),
    ] = False,
    reason: Reason = "",
    json: AsJson = False,
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """Give a client a new secret, shown now and never again. The one of today goes on until the next rotation."""

    async def work(authority: Authority) -> NewSecret:
        clients = authority.clients
        if compromised:
            return await clients.replace_credentials(client_id, actor=ACTOR, reason=reason)
        return await clients.rotate_secret(client_id, actor=ACTOR)

    given = with_authority(work, store=store, config=config)
    if json:
        say_json({**_document(given.client), "client_secret": given.secret})
        return
    if given.entry is not None:
        say_entry(given.entry, what=f"everything of {client_id} ended", unchanged="")
    say(f"client_id:     {given.client.client_id}")
    _say_secret(given.secret)
    if len(given.client.secret_digests) > 1:
        say(
            "The secret before it goes on until the next rotation: rotate once more when every instance has this one."
        )


@group.command(
    "set-keys",
    epilog=examples("keyfob client set-keys orders orders.pem --keep-secrets 1"),
)
def set_keys(
    client_id: Annotated[str, typer.Argument(metavar="ID", help="The client's id.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A JWK Set, a JWK or a PEM public key.")],
    keep_secrets: Annotated[
        int, typer.Option("--keep-secrets", min=0, max=2, help="How many of its newest secrets go on.")
    ] = 0,
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """Let a client sign with the keys in FILE, instead of those before and of its secrets."""
    keys = _read(file)

    async def work(authority: Authority) -> Client:
        return await authority.clients.set_keys(client_id, keys, actor=ACTOR, keep_secrets=keep_secrets)

    changed = with_authority(work, store=store, config=config)
    say(f"{client_id} signs with: {listed(_key_ids(changed))}; secrets: {len(changed.secret_digests)}")


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


def _say_secret(secret: str) -> None:
    say(f"client_secret: {secret}")
    say("The secret is not stored; nobody can show it again.")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None


def _key_ids(client: Client) -> list[str]:
    return sorted(set(keys_of(client.public_keys)) - {""})


def _document(client: Client) -> dict[str, object]:
    return {
        "client_id": client.client_id,
        "scopes": sorted(client.scopes),
        "audiences": sorted(client.audiences),
        "strategies": sorted(client.strategies),
        "default_strategy": client.default_strategy.value,
        "grant_types": sorted(client.grant_types),
        "access_lifetime": None if client.access_lifetime is None else client.access_lifetime.total_seconds(),
        "secrets": len(client.secret_digests),
        "key_ids": _key_ids(client),
        "name": client.name,
        "redirect_uris": sorted(client.redirect_uris),
        "post_logout_redirect_uris": sorted(client.post_logout_redirect_uris),
        "backchannel_logout_uri": client.backchannel_logout_uri,
        "backchannel_logout_session_required": client.backchannel_logout_session_required,
        "cors_origins": sorted(client.cors_origins),
        "first_party": client.first_party,
        "public": client.public,
        "require_par": client.require_par,
        "created_at": client.created_at.isoformat(),
    }
