"""`keyfob feed`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keyfob.base.errors import ConfigurationError
from keyfob.cli.opened import ConfigFile
from keyfob.cli.output import examples

if TYPE_CHECKING:
    from keyfob.server.export.exported import Write


class Format(StrEnum):
    """What reads the file."""

    NGINX_MAP = "nginx-map"
    ENVOY_RDS = "envoy-rds"
    JSON = "json"


def register(commands: typer.Typer) -> None:
    """Add `feed` to *commands*."""
    feed = typer.Typer(help="The feed of revocations, for what is no verifier.", no_args_is_help=True)
    feed.command(
        epilog=examples(
            "export KEYFOB_CLIENT_ID=nginx KEYFOB_CLIENT_SECRET=...   # a client with scope keyfob:feed",
            "keyfob feed export --authority https://auth.example --format json",
            "keyfob feed export --format nginx-map --watch --out /etc/nginx/keyfob/revoked.conf --exec 'nginx -s reload'",
            "keyfob feed export --format envoy-rds --template routes.json --watch --out /etc/envoy/routes.json",
        )
    )(export)
    feed.callback()(_feed)
    commands.add_typer(feed, name="feed")


def _feed() -> None:
    """The feed of revocations, for what is no verifier."""


def export(
    format: Annotated[Format, typer.Option(help="What reads the file.")] = Format.JSON,  # noqa: A002 - the option's name
    authority: Annotated[
        str | None, typer.Option(metavar="URL", help="Whose feed; also its address.")
    ] = None,
    feed: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Read the feed from this relay. [default: the authority]"),
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Trust these certificates for the authority, PEM.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write there, whole and at once. [default: standard output]"),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep the file current until told to end.")] = False,
    command: Annotated[
        str | None,
        typer.Option("--exec", metavar="COMMAND", help="Run this after each new file, without a shell."),
    ] = None,
    max_staleness: Annotated[
        str, typer.Option(metavar="TIME", help="For how long a file is good that is not renewed.")
    ] = "60s",
    template: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="envoy-rds: the RouteConfiguration (JSON) with a route named keyfob-denials."
        ),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Write the live revocations to a file that a proxy reads which checks access tokens by itself."""
    # Late: the server's parts take longer to load than most other commands take to run.
    from keyfob.server.export.export import Order, export_once, keep_exporting
    from keyfob.server.gateway.settings import GatewaySettings

    settings = GatewaySettings.load(
        config=config,
        flags={
            "gateway.authority": authority,
            "gateway.feed": feed,
            "gateway.ca": ca,
            "gateway.max_staleness": max_staleness,
        },
    )
    order = Order(write=_writer(format, template), out=out, command=command)
    raise typer.Exit(keep_exporting(settings, order) if watch else export_once(settings, order))


def _writer(wanted: Format, template: Path | None) -> Write:
    from keyfob.server.export.envoy_routes import envoy_routes
    from keyfob.server.export.exported import as_json
    from keyfob.server.export.nginx_map import as_nginx_map

    match wanted:
        case Format.JSON:
            return as_json
        case Format.NGINX_MAP:
            return as_nginx_map
        case Format.ENVOY_RDS:
            return envoy_routes(_read(template))


def _read(template: Path | None) -> bytes:
    if template is None:
        raise ConfigurationError(
            "envoy-rds needs --template FILE: the RouteConfiguration with a route named keyfob-denials"
        )
    try:
        return template.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{template}: cannot be read: {error.strerror}") from None
