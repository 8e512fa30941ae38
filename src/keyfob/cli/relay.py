"""`keyfob relay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keyfob.cli.listening import Host, TlsCert, TlsKey
from keyfob.cli.opened import ConfigFile
from keyfob.cli.output import examples


def register(commands: typer.Typer) -> None:
    """Add `relay` to *commands*."""
    commands.command(
        epilog=examples(
            "export KEYFOB_CLIENT_ID=relay-eu KEYFOB_CLIENT_SECRET=...   # a client with scope keyfob:feed",
            "keyfob relay --upstream https://auth.example            # http://127.0.0.1:8081, for verifiers of this machine",
            "keyfob relay --upstream https://relay.example --host 0.0.0.0 --tls-cert chain.pem --tls-key key.pem",
        )
    )(relay)


def relay(
    upstream: Annotated[
        str | None, typer.Option(metavar="URL", help="Follow this authority, or this relay.")
    ] = None,
    issuer: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Whose feed it must be. [default: whoever the upstream is]"),
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Trust these certificates for the upstream, PEM.")
    ] = None,
    host: Host = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, metavar="PORT", help="0 takes a free one. [default: 8081]"),
    ] = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    config: ConfigFile = None,
) -> None:
    """Follow one feed and serve it on, so that the verifiers of a region cost the authority one connection."""
    # Late: the server's parts take longer to load than most other commands take to run.
    from keyfob.server.relay.build import serve_relay
    from keyfob.server.relay.settings import RelaySettings

    settings = RelaySettings.load(
        config=config,
        flags={
            "relay.upstream": upstream,
            "relay.ca": ca,
            "issuer": issuer,
            "host": host,
            "port": port,
            "tls.cert": tls_cert,
            "tls.key": tls_key,
        },
    )
    raise typer.Exit(serve_relay(settings))
