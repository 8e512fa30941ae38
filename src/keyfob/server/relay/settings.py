"""What a relay is told: from the same places as the settings of a server, which may share the file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Self

from keyfob.base.errors import ConfigurationError
from keyfob.server.settings import Tls, read_client, read_settings, read_tls
from keyfob.verifier.settings import FollowSettings

DEFAULT_PORT = 8081


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """How a relay is run.

    `upstream` is the address of an authority, or of another relay; `issuer` is whose feed that must be, None whoever's it says that it is.
    `credentials` are of a client with scope `keyfob:feed`. `ca` is a file of certificates to trust in place of the system's. `followers`
    are served at once at most. `heartbeat` is that of the authority.
    """

    upstream: str
    issuer: str | None = None
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    ca: str | None = None
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    tls: Tls | None = None
    followers: int = 2_000
    heartbeat: timedelta = timedelta(seconds=1)
    log_level: str = "info"

    @classmethod
    def load(
        cls,
        *,
        config: Path | None = None,
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Read the settings as `Settings.load` does; the client is `KEYFOB_CLIENT_ID` and `KEYFOB_CLIENT_SECRET`.

        Raises:
            ConfigurationError: the first thing that is wrong; no upstream; no client.
        """
        variables = os.environ if environ is None else environ
        read, _ = read_settings(config=config, flags=flags, environ=variables)
        if "relay.upstream" not in read:
            raise ConfigurationError(
                "a relay needs an upstream: give --upstream https://auth.example, the address of an authority or of a relay"
            )
        credentials = read_client(variables)
        if credentials is None:
            raise ConfigurationError(
                "a relay is a client: set KEYFOB_CLIENT_ID and KEYFOB_CLIENT_SECRET; "
                "make one with 'keyfob client add NAME --scope keyfob:feed'"
            )
        named = {
            "host": "host",
            "port": "port",
            "log_level": "log_level",
            "issuer": "issuer",
            "followers": "feed.followers",
        }
        named |= {"heartbeat": "feed.heartbeat"}
        given = {name: read[setting] for name, setting in named.items() if setting in read}
        ca = read.get("relay.ca")
        return cls(
            upstream=read["relay.upstream"],
            credentials=credentials,
            ca=None if ca is None else str(ca),
            tls=read_tls(read),
            **given,
        )

    def following(self) -> FollowSettings:
        """Return how the upstream is followed.

        Raises:
            ConfigurationError: its address is not safe to follow.
        """
        heartbeat = max(self.heartbeat, timedelta(seconds=0.1))
        return FollowSettings(
            issuer=self.upstream,
            audiences=frozenset({self.upstream}),
            credentials=self.credentials,
            ca=self.ca,
            heartbeat=heartbeat,
            max_staleness=max(timedelta(seconds=5), 3 * heartbeat),
        )
