"""How many look-ups, rotations and logins a second one process gets out of a PostgreSQL store: `python -m benchmarks.postgres_store`.

The server is PostgreSQL 18 from the wheel, on the same cores, over loopback TCP, with `fsync = on`.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import count

import uvloop

from keyfob.base.clock import SystemClock
from keyfob.base.events import Event
from keyfob.base.identifiers import FIRST_PARTY, Position, SessionId, Strategy, Subject, new_session_id
from keyfob.base.opaque import OpaqueKind, TokenDigest
from keyfob.revocation.entry import Reach, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.policy import AtLimit
from keyfob.sessions.session import Session
from keyfob.sessions.store import Rotated
from keyfob.stores.opening import migrate_store, open_store
from keyfob.stores.store import Store
from keyfob.testing.postgres_server import PostgresServer

LIFETIME = timedelta(days=30)


def _digest(number: int) -> TokenDigest:
    return TokenDigest(hashlib.sha256(str(number).encode()).digest())


def _session(store: Store, clock: SystemClock, number: int) -> Session:
    now = clock.now()
    subject = Subject(f"subject-{number}")
    return Session(
        session_id=new_session_id(store.salt, subject, now + LIFETIME),
        subject=subject,
        client_id=FIRST_PARTY,
        strategy=Strategy.HYBRID,
        kind=OpaqueKind.REFRESH,
        digest=_digest(0),
        created_at=now,
        expires_at=now + LIFETIME,
        last_seen_at=now,
        auth_time=now,
        idle_timeout=timedelta(days=14),
        as_of=Position(0),
    )


async def _rate(work: Callable[[int], Awaitable[object]], *, waiting: int, seconds: float) -> float:
    numbers, until = count(), time.perf_counter() + seconds
    began = time.perf_counter()

    async def one() -> int:
        done = 0
        while time.perf_counter() < until:
            await work(next(numbers))
            done += 1
        return done

    done = sum(await asyncio.gather(*(one() for _ in range(waiting))))
    return done / (time.perf_counter() - began)


class Load:
    """A store with sessions in it, and what is asked of it."""

    def __init__(self, store: Store, clock: SystemClock) -> None:
        self._store = store
        self._clock = clock
        self._event = Event(at=clock.now(), code="login")
        self._known: list[SessionId] = []
        self._generations: dict[SessionId, int] = {}

    async def log_in(self, number: int) -> None:
        """Add a session of a subject of its own."""
        session = _session(self._store, self._clock, number)
        await self._store.sessions.add(session, limit=100, at_limit=AtLimit.END_OLDEST, event=self._event)
        self._known.append(session.session_id)
        self._generations[session.session_id] = 0

    async def find(self, number: int) -> None:
        """Look one up that was not looked up lately."""
        assert await self._store.sessions.find(self._known[number * 7919 % len(self._known)]) is not None

    async def rotate(self, number: int) -> None:
        """Rotate the refresh token of one."""
        session_id = self._known[number % len(self._known)]
        generation = self._generations[session_id]
        self._generations[session_id] = generation + 1
        outcome = await self._store.sessions.rotate(
            session_id,
            _digest(generation),
            _digest(generation + 1),
            generation=generation,
            now=self._clock.now(),
            replay_window=timedelta(0),
            event=self._event,
        )
        assert isinstance(outcome, Rotated)

    async def revoke(self, number: int) -> None:
        """Revoke a subject that has no session."""
        await self._end(Scope.SUBJECT, f"nobody-{number}")

    async def log_out(self, _: int) -> None:
        """End a session."""
        await self._end(Scope.SESSION, self._known.pop())

    async def _end(self, scope: Scope, name: str) -> None:
        order = Revocation(scope=scope, id=name, reach=Reach.END, event=self._event)
        await self._store.sessions.end(order, now=self._clock.now())


async def _measure(server: PostgresServer, sessions: int, seconds: float) -> None:
    name = await server.create_database()
    await migrate_store(server.url(name))
    clock = SystemClock()
    store = await open_store(server.url(name), clock=clock)
    await store.feed.extend_retention(credential=timedelta(minutes=10), session=LIFETIME)
    await store.sessions.delete_expired(clock.now(), 1)  # makes the partitions
    load, began, numbers = Load(store, clock), time.perf_counter(), iter(range(sessions))

    async def fill() -> None:
        for number in numbers:
            await load.log_in(number)

    await asyncio.gather(*(fill() for _ in range(64)))
    print(f"{'logins, 64 waiting':24}{sessions / (time.perf_counter() - began):10,.0f} /s")
    await server.execute("ANALYZE", database=name)
    for verb, waiting in (
        (load.find, (1, 32, 128)),
        (load.rotate, (1, 32, 128)),
        (load.revoke, (1, 32)),
        (load.log_out, (32,)),
    ):
        for count_ in waiting:
            rate = await _rate(verb, waiting=count_, seconds=min(seconds, sessions / 20_000))
            print(f"{f'{verb.__name__}, {count_} waiting':24}{rate:10,.0f} /s")
    await store.close()


def main() -> None:
    """Measure, and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sessions", type=int, default=20_000)
    options.add_argument("--seconds", type=float, default=2.0)
    chosen = options.parse_args()
    with PostgresServer(
        settings={"fsync": "on", "full_page_writes": "on", "shared_buffers": "512MB"}
    ) as server:
        uvloop.run(_measure(server, chosen.sessions, chosen.seconds))


if __name__ == "__main__":
    main()
