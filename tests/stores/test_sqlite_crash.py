"""What was acknowledged survives the death of the process, at whatever moment it comes."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path

from keyfob.base.identifiers import SessionId
from keyfob.stores.opening import open_store
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import assert_chained, found

CHILD = Path(__file__).with_name("sqlite_crash_child.py")
DEATHS = 4
DEADLINE = 30.0  # seconds


def killed_after(url: str, lines: int) -> list[list[str]]:
    """Run two writers, kill both once they have said *lines*, and return all they said."""
    children = [
        subprocess.Popen([sys.executable, str(CHILD), url], stdout=subprocess.PIPE, bufsize=0)
        for _ in range(2)
    ]
    said = {child.stdout: b"" for child in children}
    with selectors.DefaultSelector() as selector:
        for stream in said:
            selector.register(stream, selectors.EVENT_READ)
        while sum(text.count(b"\n") for text in said.values()) < lines:
            ready = selector.select(DEADLINE)
            assert ready, "the writers say nothing"
            for key, _ in ready:
                said[key.fileobj] += os.read(key.fd, 65536)
    for child in children:
        child.send_signal(signal.SIGKILL)
    for child in children:
        said[child.stdout] += child.stdout.read()
        child.wait()
        child.stdout.close()
    return [line.decode().split() for text in said.values() for line in text.splitlines()]


async def assert_kept(store: Store, said: list[list[str]]) -> None:
    head = await store.feed.head()
    all_entries = await store.feed.read_after(0, 1_000_000)
    assert_chained(all_entries)
    assert len(all_entries) == head.position
    generations: dict[str, int] = {}
    ended: dict[str, int] = {}
    for what, session_id, *more in said:
        if what == "ended":
            assert all_entries[int(more[0]) - 1].chain.hex() == more[1]
            ended[session_id] = int(more[0])
        else:
            generations[session_id] = int(more[0]) if more else 0
    for session_id, generation in generations.items():
        session = await found(store, SessionId(session_id))
        assert session.generation >= generation
        if session_id in ended:
            assert session.ended_position == ended[session_id]


async def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/keyfob.db"
    said: list[list[str]] = []
    for death in range(DEATHS):
        said += killed_after(url, 40 + 61 * death)
        store = await open_store(url, clock=FrozenClock())
        await assert_kept(store, said)
        await store.close()
    assert {line[0] for line in said} == {"added", "rotated", "ended"}
