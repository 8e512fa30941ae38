"""The load generator, a process of its own: `python -m benchmarks.load`, with one job a line on standard input, and one result a line back.

A number of connections stay open, each with one request at a time: the next is sent when the last is answered. A response is read no further than
its status line, its length, and where asked the refresh token in it. Any status but the expected one, and any response that cannot be followed,
makes the job fail.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from array import array
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import cast

import msgspec
import uvloop

from benchmarks.figures import BenchmarkFailed, percentile

CONNECTIONS = 32
DRAIN_SECONDS = 10.0  # for the answers to what was sent before the time was over
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length: "
_AS_NGINX_WRITES_IT = b"Content-Length: "
_TOKEN = b'"refresh_token":"'
_SHOWN = 300  # bytes of a response that was not expected


class Pick(StrEnum):
    """Which line goes into a request: any; or each once, in order, and then the job is over; or always the connection's own, each of which comes
    from an address of its own; or the refresh token that the answer before it brought, in a chain of each connection that the next job with the same
    file goes on with."""

    RANDOM = "random"
    EACH = "each"
    OWN = "own"
    CHAIN = "chain"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to send, to whom, and for how long.

    A request is `prefix`, a line of the file `lines`, `suffix`. What is answered in the first `warm_up` seconds is not counted.
    """

    port: int
    prefix: str
    suffix: str = "\r\n\r\n"
    lines: str
    limit: int = 0
    """How many lines count; 0 is all."""
    pick: Pick = Pick.RANDOM
    expected: int = 204
    seconds: float = 3.0
    warm_up: float = 0.3
    connections: int = CONNECTIONS


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen. `requests` and what follows from them leave the warm-up out, `statuses` do not. Percentiles are in milliseconds, `elapsed` (all of
    it) in seconds; `busy` is the share of that for which this process used its core."""

    requests: int = 0
    elapsed: float = 0.0
    per_second: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    statuses: dict[int, int] = {}
    busy: float = 0.0
    failure: str = ""


class Run:
    """One job under way."""

    def __init__(self, job: Job, lines: list[bytes]) -> None:
        self.job = job
        self.prefix, self.suffix = job.prefix.encode("latin-1"), job.suffix.encode("latin-1")
        self.lines = lines
        self.count = min(job.limit or len(lines), len(lines))
        self.expected = str(job.expected).encode()
        self.begin = 0.0
        self.end = 0.0
        self.took = array("d")
        self.statuses: Counter[int] = Counter()
        self.failure = ""
        self.sent = 0
        self.open = 0
        self.finished = asyncio.get_running_loop().create_future()

    def request(self, number: int) -> bytes:
        """Return the next request of the connection *number*."""
        if self.job.pick is Pick.RANDOM:
            number = int(random.random() * self.count)
        elif self.job.pick is Pick.EACH:
            number = self.sent
            self.sent += 1
            if self.sent == self.count:
                self.end = 0.0
        return self.prefix + self.lines[number] + self.suffix

    def fail(self, failure: str) -> None:
        """Note the first failure, and let every connection end."""
        self.failure = self.failure or failure
        self.end = 0.0

    def leave(self) -> None:
        """Count a connection that has ended."""
        self.open -= 1
        if self.open == 0 and not self.finished.done():
            self.finished.set_result(None)


class Connection(asyncio.Protocol):
    """One connection: sends, waits, sends again, until the time is over."""

    def __init__(self, run: Run, number: int) -> None:
        self._run = run
        self._number = number
        self._pending = b""
        self._sent_at = 0.0
        self._ended = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has no such base
        self._run.open += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """End; before its time that is a failure."""
        if not self._ended:
            self._run.fail("the server closed a connection")
        self._run.leave()

    def send(self) -> None:
        """Send the next request."""
        assert self._transport is not None
        request = self._run.request(self._number)
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take what came; once a response is whole, count it and send the next request."""
        now = time.perf_counter()
        run = self._run
        if self._pending:
            data = self._pending + data
        try:
            length = response_length(data)
        except BenchmarkFailed as failed:
            run.fail(str(failed))
            self.close()
            return
        if length < 0 or len(data) < length:
            self._pending = data
            return
        self._pending = b""
        status = data[9:12]
        if status != run.expected or len(data) != length:
            run.statuses[int(status) if status.isdigit() else 0] += 1
            run.fail(f"a response that was not expected: {data[:_SHOWN].decode('latin-1')!r}")
        else:
            run.statuses[run.job.expected] += 1
            if now >= run.begin:
                run.took.append(now - self._sent_at)
        if run.job.pick is Pick.CHAIN and not run.failure:
            self._follow(data)
        if now < run.end:
            self.send()
        else:
            self.close()

    def close(self) -> None:
        """End in good time."""
        self._ended = True
        if self._transport is not None:
            self._transport.close()

    def _follow(self, data: bytes) -> None:
        begin = data.find(_TOKEN) + len(_TOKEN)
        token = data[begin : data.find(b'"', begin)]
        lines = self._run.lines
        if begin < len(_TOKEN) or token == lines[self._number]:
            self._run.fail("a refresh that rotated nothing")
            return
        lines[self._number] = token


def response_length(data: bytes) -> int:
    """Return how long the response is that *data* begins with; -1 while its head is not whole.

    Raises:
        BenchmarkFailed: it has a body, and does not say how long it is.
    """
    head = data.find(_HEAD_END)
    if head < 0:
        return -1
    if data[9:12] == b"204":
        return head + len(_HEAD_END)
    at = data.find(_LENGTH, 0, head)
    if at < 0:
        at = data.find(_AS_NGINX_WRITES_IT, 0, head)
    if at < 0:
        raise BenchmarkFailed("a response without a length")
    begin = at + len(_LENGTH)
    return head + len(_HEAD_END) + int(data[begin : data.find(b"\r", begin)])


async def carry_out(job: Job, lines: list[bytes]) -> Result:
    """Do one job with the *lines* of its file, among which chains go on."""
    run = Run(job, lines)
    if run.count < (1 if job.pick is Pick.RANDOM else job.connections):
        return Result(failure="too few lines")
    connections = [await _connected(run, number) for number in range(job.connections)]
    now = time.perf_counter()
    run.begin, run.end = now + job.warm_up, now + job.warm_up + job.seconds
    used = time.process_time()
    for connection in connections:
        if run.end:
            connection.send()
        else:  # there were fewer lines than connections
            connection.close()
    try:
        await asyncio.wait_for(asyncio.shield(run.finished), job.warm_up + job.seconds + DRAIN_SECONDS)
    except TimeoutError:
        run.fail("a request was not answered")
        for connection in connections:
            connection.close()
    used, wall = time.process_time() - used, time.perf_counter() - now
    return _result(run, used=used, elapsed=wall)


async def _connected(run: Run, number: int) -> Connection:
    # The whole of 127.0.0.0/8 is this machine.
    local = (f"127.0.1.{number + 1}", 0) if run.job.pick is Pick.OWN else None
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: Connection(run, number), "127.0.0.1", run.job.port, local_addr=local
    )
    return connection


def _result(run: Run, *, used: float, elapsed: float) -> Result:
    ordered = sorted(run.took)
    statuses = dict(run.statuses)
    if run.failure or not ordered:
        return Result(statuses=statuses, failure=run.failure or "nothing was answered")
    return Result(
        requests=len(ordered),
        per_second=len(ordered) / run.job.seconds,
        p50=percentile(ordered, 0.5) * 1e3,
        p99=percentile(ordered, 0.99) * 1e3,
        statuses=statuses,
        elapsed=elapsed,
        busy=used / elapsed,
    )


def main() -> None:
    """Do the jobs that come, until there are no more."""
    files: dict[str, list[bytes]] = {}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin.buffer:
            job = msgspec.json.decode(line, type=Job)
            if job.lines not in files:
                files[job.lines] = Path(job.lines).read_bytes().splitlines()
            result = runner.run(carry_out(job, files[job.lines]))
            sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
