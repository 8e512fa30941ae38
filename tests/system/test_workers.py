"""Several processes on one socket and one SQLite file."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from keyfob import Verifier

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

WORKERS = 4
CONNECTIONS = 64
MOST_CONNECTIONS = 512  # opened at most until every worker holds some
POLL = 1.0  # seconds within which a worker has looked at the file, whatever became of its wake-up


class Connection:
    """One connection that stays open, with requests written and answers read apart."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.local_port = self._socket.getsockname()[1]

    def send(self, token: str) -> None:
        request = f"GET /session HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
        self._socket.sendall(request.encode())

    def status(self) -> int:
        """Read one answer; 0 if the connection is gone."""
        raw = b""
        while b"\r\n\r\n" not in raw:
            piece = self._socket.recv(65_536)
            if not piece:
                return 0
            raw += piece
        head, _, body = raw.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        while length and len(body) < int(length[1]):
            body += self._socket.recv(65_536)
        return int(head.split()[1])

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def connect() -> Iterator[Callable[[int], Connection]]:
    with ExitStack() as stack:

        def connected(port: int) -> Connection:
            connection = Connection(port)
            stack.callback(connection.close)
            return connection

        yield connected


@pytest.fixture
def workers_of(processes_of: Any) -> Callable[[Any], set[int]]:
    """Return the workers of a server: the processes that hold its listening socket, but the parent."""

    def find(server: Any) -> set[int]:
        return {
            pid
            for pid, command in processes_of(server.pid).items()
            if pid != server.pid and any("spawn_main" in part for part in command)
        }

    return find


def _owners(pids: set[int], port: int) -> dict[int, int]:
    """Say how many accepted connections to *port* each of *pids* holds."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == "01":  # established
            inodes.add(fields[9])
    counts = {}
    for pid in pids:
        links = []
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                links.append(os.readlink(entry))
        counts[pid] = sum(link.removeprefix("socket:[").removesuffix("]") in inodes for link in links)
    return counts


def _open_to_every_worker(
    deployment: Any, pids: set[int], connect: Callable[[int], Connection], token: str
) -> list[Connection]:
    """Open connections until there are enough, and every worker holds one and has the credential cached."""
    connections: list[Connection] = []
    while len(connections) < CONNECTIONS or not all(_owners(pids, deployment.port).values()):
        assert len(connections) < MOST_CONNECTIONS, _owners(pids, deployment.port)
        for _ in range(8):
            connections.append(connect(deployment.port))
            connections[-1].send(token)
        assert [connection.status() for connection in connections[-8:]] == [200] * 8
    return connections


def _measure_denials(connections: Sequence[Connection], token: str) -> tuple[float, float]:
    """Ask on all connections until all deny; return when the last first denied, and when the last acceptance was asked for (ms)."""
    began = time.perf_counter()
    denied_at: dict[Connection, float] = {}
    last_accepted = 0.0
    while len(denied_at) < len(connections):
        asked = time.perf_counter() - began
        for connection in connections:
            connection.send(token)
        for connection in connections:
            status = connection.status()
            if status == 401:
                denied_at.setdefault(connection, time.perf_counter() - began)
            else:
                assert status == 200
                assert connection not in denied_at, "what was denied is accepted again"
                last_accepted = asked
        assert last_accepted < POLL, f"accepted {last_accepted:.3f} s after it was revoked"
    return max(denied_at.values()) * 1000, last_accepted * 1000


def test_what_one_worker_revokes_every_other_denies(
    deploy: Any,
    connect: Any,
    workers_of: Any,
    record_property: Callable[[str, object], None],
) -> None:
    deployment = deploy()
    deployment.add_users("alice")
    server = deployment.start("--workers", str(WORKERS))
    pids = workers_of(server)
    assert len(pids) == WORKERS
    figures = []
    for strategy in ("session", "hybrid", "session", "hybrid"):
        grant = deployment.api.login("alice", strategy=strategy).body
        token = grant.get("session_token") or grant["access_token"]
        connections = _open_to_every_worker(deployment, pids, connect, token)
        assert deployment.api.post("/logout", token=token).status == 204
        figures.append(_measure_denials(connections, token))
        for connection in connections:
            connection.close()
    told = ", ".join(
        f"{last:.1f} ms (last accepted when asked at {accepted:.1f})" for last, accepted in figures
    )
    print(f"all of {CONNECTIONS} connections to {WORKERS} workers denied after {told}")
    record_property("denied_after_ms", figures)


def test_a_worker_that_is_killed_is_replaced_and_the_service_goes_on(
    deploy: Any, connect: Any, workers_of: Any, eventually: Any
) -> None:
    deployment = deploy()
    deployment.expected_errors.add("worker_died")
    deployment.add_users("alice")
    server = deployment.start("--workers", str(WORKERS))
    before = workers_of(server)
    grant = deployment.api.login("alice", strategy="session").body
    ended = deployment.api.login("alice", strategy="session").body
    assert deployment.api.post("/logout", token=ended["session_token"]).status == 204
    killed = min(before)
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: killed not in workers_of(server), "the worker is gone")
    for _ in range(32):  # the others go on
        connection = connect(deployment.port)
        connection.send(grant["session_token"])
        assert connection.status() == 200
        connection.close()
    eventually(lambda: len(workers_of(server)) == WORKERS, "another worker runs", within=40)
    (new,) = workers_of(server) - before
    eventually(lambda: _accepts(deployment, connect, new), "the new worker serves", within=40)
    pids = workers_of(server)
    connections = _open_to_every_worker(deployment, pids, connect, grant["session_token"])
    for connection in connections:  # the new one knows what was ended before it was born
        connection.send(ended["session_token"])
        assert connection.status() == 401
    assert deployment.api.post("/logout", token=grant["session_token"]).status == 204
    _measure_denials(connections, grant["session_token"])
    assert '"worker_died"' in server.log.read_text()


def _accepts(deployment: Any, connect: Callable[[int], Connection], pid: int) -> bool:
    """Open some connections and say whether *pid* took one."""
    opened = [connect(deployment.port) for _ in range(16)]
    for connection in opened:
        connection.send("")
        connection.status()
    accepted = _owners({pid}, deployment.port)[pid]
    for connection in opened:
        connection.close()
    return accepted > 0


def test_sigterm_ends_all_workers_while_followers_are_connected(
    deploy: Any, processes_of: Any, eventually: Any, record_property: Callable[[str, object], None]
) -> None:
    deployment = deploy()
    credentials = deployment.add_client("orders", "keyfob:feed")
    deployment.add_users("alice")
    server = deployment.start("--workers", str(WORKERS))
    grant = deployment.api.login("alice", strategy="jwt", audience="orders").body
    with ExitStack() as stack:
        verifiers = [
            stack.enter_context(Verifier.follow(deployment.url, audience="orders", credentials=credentials))
            for _ in range(6)
        ]
        assert all(verifier.verify(grant["access_token"]) for verifier in verifiers)
        seconds = server.end(signal.SIGTERM)
        eventually(lambda: processes_of(server.pid) == {}, "no process is left")
    print(f"ended after {seconds:.2f} s with {len(verifiers)} followers of the feed")
    record_property("ended_after_s", seconds)
    assert seconds < 10


def test_workers_end_by_themselves_when_their_parent_is_killed(
    deploy: Any, processes_of: Any, eventually: Any
) -> None:
    deployment = deploy()
    starting = deployment.launch("--workers", "2")
    eventually(deployment.is_ready, "one of them is ready, and the other may be or not", within=40)
    _kill_parent(starting)
    eventually(lambda: processes_of(starting.pid) == {}, "no process is left")
    steady = deployment.start("--workers", "2")  # the port is free
    assert len(processes_of(steady.pid)) > 2
    _kill_parent(steady)
    eventually(lambda: processes_of(steady.pid) == {}, "no process is left")


def _kill_parent(server: Any) -> None:
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait(10)


def test_a_port_in_use_is_refused_in_one_line(deploy: Any) -> None:
    deployment = deploy()
    with socket.create_server(("127.0.0.1", deployment.port)):
        for workers in ("1", "4"):
            done = deployment.command("serve", "--workers", workers)
            assert (done.returncode, done.stdout) == (1, "")
            (line,) = done.stderr.splitlines()
            assert line.startswith(f"keyfob: port {deployment.port} of 127.0.0.1 is in use")
