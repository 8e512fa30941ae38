"""`keyfob serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from keyfob.cli.listening import Host, TlsCert, TlsKey, Workers
from keyfob.cli.opened import ConfigFile
from keyfob.cli.output import examples
from keyfob.server.settings import Settings


def register(commands: typer.Typer) -> None:
    """Add `serve` to *commands*."""
    commands.command(
        epilog=examples(
            "keyfob serve                                          # SQLite in this directory, http://127.0.0.1:8080",
            "keyfob serve --port 0                                 # a free port, which is printed",
            "keyfob serve --host 0.0.0.0 --issuer https://auth.example --tls-cert chain.pem --tls-key key.pem",
            "KEYFOB_STORE=sqlite:////var/lib/keyfob/keyfob.db keyfob serve --workers 4",
        )
    )(serve)


def serve(
    host: Host = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, metavar="PORT", help="0 takes a free one. [default: 8080]"),
    ] = None,
    issuer: Annotated[
        str | None,
        typer.Option(metavar="URL", help="How browsers and services reach it. [default: where it listens]"),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="URL", help="sqlite:///path, memory://, ... [default: sqlite:///keyfob.db]"),
    ] = None,
    accounts_store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Accounts, clients and keys apart from a store in Redis. [default: in the store]",
        ),
    ] = None,
    workers: Workers = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    config: ConfigFile = None,
) -> None:
    """Serve until told to stop. Settings come from keyfob.toml, then KEYFOB_*, then these options."""
    # Late: the server's parts take longer to load than most other commands take to run.
    from keyfob.server import supervisor

    settings = Settings.load(
        config=config,
        flags={
            "host": host,
            "port": port,
            "issuer": issuer,
            "store": store,
            "accounts_store": accounts_store,
            "workers": workers,
            "tls.cert": tls_cert,
            "tls.key": tls_key,
        },
    )
    raise typer.Exit(supervisor.serve(settings))
