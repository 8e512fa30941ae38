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


async def _measure(server: PostgresServer, sessions: int, seconds: float) -> None:
    name = await server.create_database()
    url = server.url(name)
    await migrate_store(url)
    clock = SystemClock()
    store = await open_store(url, clock=clock)
    await store.feed.extend_retention(credential=timedelta(minutes=10), session=LIFETIME)
    await store.sessions.delete_expired(clock.now(), 1)  # makes the partitions
    event = Event(at=clock.now(), code="login")
    known: list[SessionId] = []

    async def log_in(number: int) -> None:
        session = _session(store, clock, number)
        await store.sessions.add(session, limit=100, at_limit=AtLimit.END_OLDEST, event=event)
        known.append(session.session_id)

    began = time.perf_counter()
    numbers = iter(range(sessions))

    async def fill() -> None:
        for number in numbers:
            await log_in(number)

    await asyncio.gather(*(fill() for _ in range(64)))
    print(f"logins, 64 waiting           {sessions / (time.perf_counter() - began):10,.0f} /s")
    await server.execute("ANALYZE", database=name)
    generations = dict.fromkeys(known, 0)

    async def find(number: int) -> None:
        assert await store.sessions.find(known[number * 7919 % len(known)]) is not None

    async def rotate(number: int) -> None:
        session_id = known[number % len(known)]
        generation = generations[session_id]
        generations[session_id] = generation + 1
        outcome = await store.sessions.rotate(
            session_id,
            _digest(generation),
            _digest(generation + 1),
            generation=generation,
            now=clock.now(),
            replay_window=timedelta(0),
            event=event,
        )
        assert isinstance(outcome, Rotated)

    async def revoke(number: int) -> None:
        order = Revocation(scope=Scope.SUBJECT, id=f"nobody-{number}", reach=Reach.END, event=event)
        await store.sessions.end(order, now=clock.now())

    async def log_out(number: int) -> None:
        order = Revocation(scope=Scope.SESSION, id=known.pop(), reach=Reach.END, event=event)
        await store.sessions.end(order, now=clock.now())

    for waiting in (1, 32, 128):
        print(
            f"look-ups, {waiting:3} waiting        {await _rate(find, waiting=waiting, seconds=seconds):10,.0f} /s"
        )
    for waiting in (1, 32, 128):
        rate = await _rate(rotate, waiting=waiting, seconds=seconds)
        print(f"rotations, {waiting:3} waiting       {rate:10,.0f} /s")
    for waiting in (1, 32):
        print(
            f"revocations, {waiting:3} waiting     {await _rate(revoke, waiting=waiting, seconds=seconds):10,.0f} /s"
        )
    rate = await _rate(log_out, waiting=32, seconds=min(seconds, 1.0))
    print(f"log-outs, 32 waiting         {rate:10,.0f} /s")
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
