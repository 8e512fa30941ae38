"""The load of the lab, a process of its own: `python -m keyfob.lab.load`, with one job a line on standard input, and one result a line back.

Connections stay open, each with one request at a time. A job ends when its time is over, or at once with the line `stop`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from io import RawIOBase
from typing import cast

import msgspec

NO_ANSWER = 0
"""Stands for the status of a request that was not answered."""
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length: "
DRAIN_SECONDS = 10.0  # for the answers to what was sent before the time was over


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to send, to which ports in turn, over how many connections, for how many seconds.

    Requests take turns through `headers`, each a block of header lines. `pause` is how many seconds a connection waits after each answer.
    """

    ports: list[int]
    path: str
    headers: list[str]
    connections: int
    seconds: float
    pause: float = 0.0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a job: every answer by its status, and how many seconds it took from the first request to the last answer."""

    statuses: dict[int, int]
    seconds: float


class _Run:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.requests = [
            f"GET {job.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{block}\r\n".encode("latin-1")
            for block in job.headers
        ]
        self.statuses: Counter[int] = Counter()
        self.begin = time.perf_counter()
        self.is_over = False
        self.open = 0
        self.idle = asyncio.Event()


class _Connection(asyncio.Protocol):
    def __init__(self, run: _Run, number: int) -> None:
        self._run = run
        self._number = number
        self._pending = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has no such base
        self._run.open += 1
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.open -= 1
        if self._run.open == 0:
            self._run.idle.set()

    def data_received(self, data: bytes) -> None:
        run = self._run
        self._pending += data
        if not is_whole(self._pending):
            return
        status = int(self._pending[9:12])
        self._pending = b""
        run.statuses[status] += 1
        if run.job.pause:
            asyncio.get_running_loop().call_later(run.job.pause, self._send)
        else:
            self._send()

    def _send(self) -> None:
        assert self._transport is not None
        if self._run.is_over:
            self._transport.close()
            return
        self._number += 1
        self._transport.write(self._run.requests[self._number % len(self._run.requests)])


def is_whole(answer: bytes) -> bool:
    """Say whether *answer*, of a service of the lab, is there to its end."""
    head = answer.find(_HEAD_END)
    if head < 0:
        return False
    at = answer.find(_LENGTH, 0, head)
    if at < 0:  # a 204
        return True
    at += len(_LENGTH)
    return len(answer) >= head + len(_HEAD_END) + int(answer[at : answer.find(b"\r", at)])


async def carry_out(job: Job, lines: RawIOBase) -> Outcome:
    """Do one job; what comes on *lines* ends it."""
    run = _Run(job)
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_reader(lines.fileno(), stopped.set)
    try:
        for number in range(job.connections):
            await loop.create_connection(
                lambda number=number: _Connection(run, number),  # type: ignore[misc]  # a default in a lambda has no type
                "127.0.0.1",
                job.ports[number % len(job.ports)],
            )
        try:
            await asyncio.wait_for(stopped.wait(), job.seconds)
        except TimeoutError:
            pass
        else:
            lines.readline()
    finally:
        loop.remove_reader(lines.fileno())
        os.set_blocking(lines.fileno(), True)  # a loop may have made it answer at once, with nothing
    run.is_over = True
    try:
        await asyncio.wait_for(run.idle.wait(), DRAIN_SECONDS)
    except TimeoutError:
        run.statuses[NO_ANSWER] += run.open
    return Outcome(statuses=dict(run.statuses), seconds=time.perf_counter() - run.begin)


def main() -> None:
    """Do the jobs that come, until there are no more."""
    try:
        import uvloop
    except ModuleNotFoundError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    # Without a buffer: what was read ahead would not wake the loop.
    with asyncio.Runner(loop_factory=factory) as runner, open(0, "rb", buffering=0) as lines:
        while line := lines.readline():
            outcome = runner.run(carry_out(msgspec.json.decode(line, type=Job), lines))
            sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
