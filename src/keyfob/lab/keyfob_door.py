"""A service that follows Keyfob's feed: `python -m keyfob.lab.keyfob_door`, with its settings as JSON on standard input."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Literal

import msgspec

from keyfob.base.errors import Denied, Unavailable
from keyfob.lab.asgi import (
    NO_STORE,
    Answer,
    Refused,
    Request,
    Routes,
    json_answer,
    listener,
    read_settings,
    serve,
)
from keyfob.verifier.verifier import Verifier

ACCEPT_WITHIN = timedelta(minutes=10)
_DONE = Answer(204, headers=(NO_STORE,))


class KeyfobDoorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a service is told."""

    issuer: str
    audience: str
    client_id: str
    client_secret: str


class KeyfobDoor:
    """The service: `/orders` denies when cut off, as it is by default, and `/catalogue` accepts; `/open` is not checked."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def routes(self) -> Routes:
        """Return its routes."""
        return Routes(
            {
                ("GET", "/orders"): self.orders,
                ("GET", "/catalogue"): self.catalogue,
                ("GET", "/open"): self.open,
                ("GET", "/counters"): self.counters,
            }
        )

    async def orders(self, request: Request) -> Answer:
        """Answer whoever has a good credential."""
        return await self._answer(request, None)

    async def catalogue(self, request: Request) -> Answer:
        """Answer whoever has a good credential, also while cut off, within ten minutes."""
        return await self._answer(request, "accept")

    async def open(self, _request: Request) -> Answer:
        """Answer everybody: the floor that a checked request is compared with."""
        return _DONE

    async def counters(self, _request: Request) -> Answer:
        """Say what was counted since the start, and the processor time of this process, the reading of the feed included."""
        stats = self._verifier.stats()
        return json_answer(
            {"store_queries": 0, "network_calls": stats.introspections, "cpu_seconds": time.process_time()}
        )

    async def _answer(self, request: Request, on_stale: Literal["accept"] | None) -> Answer:
        token = request.bearer()
        if not token:
            raise Refused("no_credential")
        try:
            await self._verifier.authenticate(token, on_stale=on_stale)
        except Denied as denied:
            raise Refused(denied.code, status=503 if denied.code == "verifier_stale" else 401) from None
        except Unavailable as unavailable:
            raise Refused(unavailable.code, status=503) from None
        return _DONE


async def run(settings: KeyfobDoorSettings) -> None:
    """Follow the feed, and serve until the process is ended."""
    async with Verifier.follow(
        settings.issuer,
        audience=settings.audience,
        credentials=(settings.client_id, settings.client_secret),
        accept_within=ACCEPT_WITHIN,
        start_timeout=timedelta(seconds=60),
    ) as verifier:
        await serve(KeyfobDoor(verifier).routes(), listener())


def main() -> None:
    """Read the settings and serve."""
    asyncio.run(run(read_settings(KeyfobDoorSettings)))


if __name__ == "__main__":
    main()
