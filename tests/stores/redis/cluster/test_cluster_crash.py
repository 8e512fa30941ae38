"""A process is killed anywhere between the steps of a revocation: what it was told stands, and what is in the feed is in the rows."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from keyfob.base.identifiers import SessionId
from keyfob.revocation.entry import Scope
from keyfob.stores.redis.cluster.applier import Applier
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.redis_cluster_faults import until
from keyfob.testing.store_contract import assert_chained, is_live

CHILD = Path(__file__).parent / "cluster_crash_child.py"
KILLED = 3
MOST = 25  # acknowledged, before it is killed


async def test_whoever_is_killed_leaves_nothing_that_was_ended_alive(
    store: Any, cluster_url: str, clock: FrozenClock
) -> None:
    chance = random.Random(5)
    acknowledged: list[SessionId] = []
    for number in range(KILLED):
        process = subprocess.Popen(
            [sys.executable, str(CHILD), cluster_url, f"child{number}"],
            stdout=subprocess.PIPE,
            env=dict(os.environ),
        )
        assert process.stdout is not None
        for _ in range(chance.randrange(1, MOST)):
            line = await asyncio.to_thread(process.stdout.readline)
            assert line, "it ended by itself"
            acknowledged.append(SessionId(line.decode().strip()))
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
        process.stdout.close()
    await store.feed.head()
    for session_id in acknowledged:
        assert not await is_live(store, session_id, clock.now())
    entries: list[Any] = []
    while page := await store.feed.read_after(entries[-1].position if entries else 0, 500):
        entries += page
    assert_chained(entries)
    ended = [entry.id for entry in entries if entry.scope is Scope.SESSION]
    assert len(ended) == len(set(ended)), "each was ended once"
    for session_id in ended:
        assert not await is_live(store, session_id, clock.now())
    applier: Applier = store.sessions._server.applier

    async def is_applied() -> bool:
        await applier.settle()
        return bool((await store.sessions._server.read_news()).applied == entries[-1].position)

    await until(is_applied)
