"""A process that writes to a store and says what was acknowledged, until it is killed. Run by test_sqlite_crash.py."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys

from msgspec.structs import replace

from keyfob.base.identifiers import Subject
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Added, Ended, Rotated
from keyfob.stores.opening import open_store
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import WINDOW, a_session, position, put, revocation


def say(*words: object) -> None:
    """Write one line in one step, so that it arrives whole or not at all."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def live(store: Store, name: str) -> None:
    """Log in, rotate and end, again and again."""
    clock = FrozenClock()
    for number in itertools.count():
        subject = Subject(f"{name}-{number}")
        session = replace(a_session(store, clock, subject), as_of=await position(store))
        assert await put(store, session) == Added()
        say("added", session.session_id)
        for generation in range(2):
            outcome = await rotate(store, session.session_id, generation, clock.advance(WINDOW))
            assert isinstance(outcome, Rotated)
            say("rotated", session.session_id, generation + 1)
        if number % 3 == 0:
            continue
        scope, place = ((Scope.SESSION, session.session_id), (Scope.SUBJECT, subject))[number % 2]
        ended = await store.sessions.end(revocation(scope, place, clock.now()), now=clock.now())
        assert isinstance(ended, Ended)
        say("ended", session.session_id, ended.entry.position, ended.entry.chain.hex())


async def main(url: str) -> None:
    store = await open_store(url, clock=FrozenClock())
    await asyncio.gather(*(live(store, f"{os.getpid()}-{number}") for number in range(6)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
