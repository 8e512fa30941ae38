"""What a gateway is told: from the same places as the settings of a server, which may share the file."""

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

DEFAULT_PORT = 8082
_LOOK = timedelta(
    seconds=0.5
)  # how long one look waits for the verifier to be level; a gateway that ends waits no longer
_NAMED = {
    "host": "host",
    "port": "port",
    "workers": "workers",
    "log_level": "log_level",
    "trusted_proxies": "trusted_proxies",
    "heartbeat": "feed.heartbeat",
    "authority": "gateway.authority",
    "feed": "gateway.feed",
    "max_staleness": "gateway.max_staleness",
    "report_as": "gateway.report_as",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """How a gateway is run.

    `authority` is the issuer, and its address; `feed` is where the feed is read, if not there: a relay. `credentials` are of a client with
    scope `keyfob:feed`. `ca` is a file of certificates to trust in place of the system's. `socket` is a path to listen at, in place of
    `host` and `port`. `max_staleness` is for how long it answers without the authority where the request states nothing else.
    """

    authority: str
    credentials: tuple[str, str] = field(repr=False)
    feed: str | None = None
    ca: str | None = None
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    socket: Path | None = None
    tls: Tls | None = None
    workers: int = 1
    trusted_proxies: tuple[str, ...] = ()
    max_staleness: timedelta = timedelta(seconds=5)
    heartbeat: timedelta = timedelta(seconds=1)
    report_as: str | None = None
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
            ConfigurationError: the first thing that is wrong; no authority; no client.
        """
        variables = os.environ if environ is None else environ
        read, _ = read_settings(config=config, flags=flags, environ=variables)
        if "gateway.authority" not in read:
            raise ConfigurationError("a gateway needs an authority: give --authority https://auth.example")
        credentials = read_client(variables)
        if credentials is None:
            raise ConfigurationError(
                "a gateway is a client: set KEYFOB_CLIENT_ID and KEYFOB_CLIENT_SECRET; "
                "make one with 'keyfob client add NAME --scope keyfob:feed'"
            )
        given = {name: read[setting] for name, setting in _NAMED.items() if setting in read}
        ca, socket = read.get("gateway.ca"), read.get("gateway.socket")
        settings = cls(
            credentials=credentials,
            ca=None if ca is None else str(ca),
            socket=None if socket is None else Path(socket),
            tls=read_tls(read),
            **given,
        )
        settings.following()
        return settings

    def following(self) -> FollowSettings:
        """Return how the authority is followed: for whatever audience, as `/check` at the authority answers for any.

        Raises:
            ConfigurationError: the addresses, or the durations, do not fit.
        """
        return FollowSettings(
            issuer=self.authority,
            audiences=None,
            credentials=self.credentials,
            feed_url=self.feed,
            ca=self.ca,
            max_staleness=self.max_staleness,
            heartbeat=self.heartbeat,
            start_timeout=_LOOK,
            verdicts=100_000,
            sessions=100_000,
            report_as=self.report_as,
        )
