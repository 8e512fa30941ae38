"""A service of a textbook design: `python -m keyfob.lab.textbook.door`, with its settings as JSON on standard input."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import urllib3

from keyfob.base.clock import SystemClock
from keyfob.base.identifiers import KeyId
from keyfob.jwt.jwk import PublicKey, parse_jwk_set
from keyfob.lab.asgi import NO_STORE, Answer, Request, Routes, json_answer, listener, read_settings, serve
from keyfob.lab.setups import Design
from keyfob.lab.textbook.checks import Check, JwtCheck, check_of
from keyfob.lab.textbook.records import Records, SqliteRecords
from keyfob.lab.textbook.remote_records import RemoteRecords

_DONE = Answer(204, headers=(NO_STORE,))


class DoorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a service is told. With *store_port* it looks up over the network; with *database* in a file of this machine."""

    design: Design
    desk: str
    store_port: int | None = None
    database: str | None = None


class Door:
    """The service: `/orders` is checked, `/open` is not, `/counters` says what the checks took."""

    def __init__(self, check: Check, records: Records | None) -> None:
        self._check = check
        self._records = records

    def routes(self) -> Routes:
        """Return its routes."""
        return Routes(
            {
                ("GET", "/orders"): self.orders,
                ("GET", "/open"): self.open,
                ("GET", "/counters"): self.counters,
            }
        )

    async def orders(self, request: Request) -> Answer:
        """Answer whoever has a good credential."""
        await self._check.subject(request)
        return _DONE

    async def open(self, _request: Request) -> Answer:
        """Answer everybody: the floor that a checked request is compared with."""
        return _DONE

    async def counters(self, _request: Request) -> Answer:
        """Say what was counted since the start, and the processor time of this process."""
        counts = self._records.counts if self._records else {"store_queries": 0, "network_calls": 0}
        return json_answer({**counts, "cpu_seconds": time.process_time()})


def records_of(*, store_port: int | None, database: str | None) -> Records | None:
    """Return the store: behind a socket, in a file, or none."""
    if store_port is not None:
        return RemoteRecords(store_port)
    return SqliteRecords(Path(database)) if database is not None else None


def fetch_keys(desk: str) -> dict[KeyId, PublicKey]:
    """Fetch the keys of the desk, once, as a textbook service does when it starts."""
    with urllib3.PoolManager(retries=False, timeout=10.0) as pool:
        keys = parse_jwk_set(pool.request("GET", f"{desk}/.well-known/jwks.json").data)
    return {key.key_id: key for key in keys}


async def run(settings: DoorSettings) -> None:
    """Serve until the process is ended."""
    clock = SystemClock()
    records = records_of(store_port=settings.store_port, database=settings.database)
    keys = {} if settings.design == "session" else fetch_keys(settings.desk)
    jwt = JwtCheck(keys, settings.desk, clock)
    door = Door(check_of(settings.design, jwt=jwt, records=records, clock=clock), records)
    await serve(door.routes(), listener())


def main() -> None:
    """Read the settings and serve."""
    asyncio.run(run(read_settings(DoorSettings)))


if __name__ == "__main__":
    main()
