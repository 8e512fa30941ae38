"""`keyfob gateway`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keyfob.cli.listening import Host, TlsCert, TlsKey, Workers
from keyfob.cli.opened import ConfigFile
from keyfob.cli.output import examples


def register(commands: typer.Typer) -> None:
    """Add `gateway` to *commands*."""
    commands.command(
        epilog=examples(
            "export KEYFOB_CLIENT_ID=gateway KEYFOB_CLIENT_SECRET=...   # a client with scope keyfob:feed",
            "keyfob gateway --authority https://auth.example             # http://127.0.0.1:8082/check, for a proxy of this machine",
            "keyfob gateway --authority https://auth.example --socket /run/keyfob/gateway.sock --workers 2",
        )
    )(gateway)


def gateway(
    authority: Annotated[
        str | None, typer.Option(metavar="URL", help="Check credentials of this issuer; also its address.")
    ] = None,
    feed: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Read the feed from this relay. [default: the authority]"),
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Trust these certificates for the authority, PEM.")
    ] = None,
    max_staleness: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Answer without the authority for so long, then 503. [default: 5s]"
        ),
    ] = None,
    socket: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Listen at this Unix socket, not at a port.")
    ] = None,
    host: Host = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, metavar="PORT", help="0 takes a free one. [default: 8082]"),
    ] = None,
    workers: Workers = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    config: ConfigFile = None,
) -> None:
    """Answer /check beside a proxy, from memory: a verifier with no store and no private key."""
    # Late: the server's parts take longer to load than most other commands take to run.
    from keyfob.server.gateway.build import serve_gateway
    from keyfob.server.gateway.settings import GatewaySettings

    settings = GatewaySettings.load(
        config=config,
        flags={
            "gateway.authority": authority,
            "gateway.feed": feed,
            "gateway.ca": ca,
            "gateway.max_staleness": max_staleness,
            "gateway.socket": socket,
            "host": host,
            "port": port,
            "workers": workers,
            "tls.cert": tls_cert,
            "tls.key": tls_key,
        },
    )
    raise typer.Exit(serve_gateway(settings))
