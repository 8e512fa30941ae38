"""Signs subjects in and out until it is killed, and says of each that it was acknowledged."""

from __future__ import annotations

import asyncio
import sys

from msgspec import structs

from keyfob.base.identifiers import Subject
from keyfob.revocation.entry import Scope
from keyfob.stores.opening import open_store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import a_session, put, revocation

CALLERS = 6


async def work(url: str, name: str) -> None:
    clock = FrozenClock()
    store = await open_store(url, clock=clock)

    async def call(caller: int) -> None:
        for number in range(10_000):
            subject = Subject(f"{name}-{caller}-{number}")
            session = structs.replace(
                a_session(store, clock, subject), as_of=(await store.feed.head()).position
            )
            await put(store, session)
            if number % 3 == 0:  # a stolen token comes back
                await rotate(store, session.session_id, 0, clock.now())
                await rotate(store, session.session_id, 0, clock.now(), window=clock.now() - clock.now())
            else:
                scope, id_ = (
                    (Scope.SESSION, session.session_id) if number % 3 == 1 else (Scope.SUBJECT, subject)
                )
                await store.sessions.end(revocation(scope, id_, clock.now()), now=clock.now())
            print(session.session_id, flush=True)

    await asyncio.gather(*(call(caller) for caller in range(CALLERS)))


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2]))
