"""Serving with several processes: a parent that binds the socket, starts workers around it, and starts those anew that die."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import structlog

from keyfob.base.errors import KeyfobError
from keyfob.base.identifiers import Issuer
from keyfob.server import logs, serving
from keyfob.server.opening import open_authority
from keyfob.server.settings import Settings

FIRST_DELAY = 0.1  # seconds before a worker that died is started again; doubles each time
LONGEST_DELAY = 10.0  # seconds
MOST_FILES = (
    1_048_576  # open files of one process: what a system that sets no limit would otherwise be asked for
)
STEADY_AFTER = 30.0  # seconds after which a worker counts as healthy, and the next death as a first one
PATIENCE = 1.7  # seconds that workers are given to end, so that all of it stays within 2
_SPAWN = get_context("spawn")


def serve(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code.

    With one worker in this process; with more, in as many processes around one socket, each opened after this process has seen that
    settings and store fit.

    Raises:
        ConfigurationError: the settings are wrong; the port is in use.
        StoreUnavailable: the store does not answer.
    """
    logs.configure(settings.log_level)
    allow_many_connections()
    with serving.bind(settings.host, settings.port) as listener:
        issuer = settings.issuer_at(listener.getsockname()[1])
        line = serving.announcement(settings, listener, issuer)
        if settings.workers == 1:
            serving.run(settings, listener, issuer, ready=lambda: serving.say(line))
        else:
            asyncio.run(_try(settings, issuer))
            Supervisor(settings.workers, work=_work, given=(settings, listener, issuer), line=line).run()
    return 0


async def _try(settings: Settings, issuer: Issuer) -> None:
    """Open and close the authority once: what is wrong is said once, and keys and schema are made by one process."""
    async with open_authority(settings, issuer=issuer):
        pass


@dataclass(slots=True)
class _Worker:
    """A place for a worker: its process, if one runs, and when the next may be started."""

    number: int
    process: SpawnProcess | None = None
    ready: Connection | None = None
    is_ready: bool = False
    started_at: float = 0.0
    delay: float = 0.0
    start_at: float = 0.0


class Supervisor:
    """Keeps the workers running until told to end."""

    def __init__(
        self, workers: int, *, work: Callable[..., None], given: tuple[object, ...], line: str
    ) -> None:
        """*work* is the entry of a worker's process: it takes what is *given*, and where to say that it is ready. *line* is printed when all are."""
        self._work = work
        self._given = given
        self._line: str | None = line
        self._workers = [_Worker(number) for number in range(workers)]
        self._log = structlog.stdlib.get_logger("keyfob.supervisor")

    def run(self) -> None:
        """Start the workers, start anew those that die, and end them all at SIGINT or SIGTERM."""
        with _told_to_end() as end:
            try:
                while not end.poll():
                    self._start_due()
                    self._wait(end)
                    self._look()
            finally:
                self._end_all()

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.process is None and now >= worker.start_at:
                self._start(worker, now)

    def _start(self, worker: _Worker, now: float) -> None:
        worker.ready, ready = _SPAWN.Pipe(duplex=False)
        worker.process = _SPAWN.Process(
            target=self._work,
            args=(*self._given, ready),
            name=f"keyfob worker {worker.number}",
        )
        worker.is_ready = False
        worker.started_at = now
        # A terminal's ctrl-c reaches every process of the group; this one ends its workers itself, and in order. Blocked rather than
        # ignored, so that one that comes now is not lost here; the worker inherits the mask.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            worker.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        ready.close()

    def _wait(self, end: Connection) -> None:
        """Wait until a worker is ready or dead, one is due to be started, or it is time to end."""
        now = time.monotonic()
        due = [worker.start_at - now for worker in self._workers if worker.process is None]
        watched: list[Connection | int] = [end]
        for worker in self._workers:
            if worker.process is not None:
                watched.append(worker.process.sentinel)
            if worker.ready is not None:
                watched.append(worker.ready)
        wait(watched, max(0.0, min(due)) if due else None)

    def _look(self) -> None:
        for worker in self._workers:
            if worker.ready is not None and worker.ready.poll():
                self._hear(worker)
            if worker.process is not None and not worker.process.is_alive():
                self._bury(worker)
        if self._line is not None and all(worker.is_ready for worker in self._workers):
            serving.say(self._line)
            self._line = None

    def _hear(self, worker: _Worker) -> None:
        assert worker.ready is not None
        with suppress(EOFError):  # it died before it was ready
            worker.is_ready = worker.ready.recv_bytes() == b"ready"
        worker.ready.close()
        worker.ready = None

    def _bury(self, worker: _Worker) -> None:
        """Note a death, and when the next worker is started in its place."""
        assert worker.process is not None
        now = time.monotonic()
        is_first = worker.delay == 0 or now - worker.started_at >= STEADY_AFTER
        worker.delay = FIRST_DELAY if is_first else min(worker.delay * 2, LONGEST_DELAY)
        worker.start_at = now + worker.delay
        self._log.error(
            "worker_died",
            worker=worker.number,
            exit_code=worker.process.exitcode,
            restart_in=round(worker.delay, 1),
        )
        worker.process.close()
        worker.process = None
        worker.is_ready = False

    def _end_all(self) -> None:
        processes = [worker.process for worker in self._workers if worker.process is not None]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + PATIENCE
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
        for process in processes:
            if process.is_alive():
                process.kill()
                process.join()


def _work(settings: Settings, listener: socket.socket, issuer: Issuer, ready: Connection) -> None:
    """Serve as one of several; the entry of a worker's process."""
    work(
        lambda say_ready: serving.run(settings, listener, issuer, ready=say_ready),
        ready=ready,
        log_level=settings.log_level,
    )


def work(
    serve_until_told: Callable[[Callable[[], None]], None], *, ready: Connection, log_level: str
) -> None:
    """Serve in a worker's process, and tell its parent by *ready* once requests are answered."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    logs.configure(log_level)

    def say_ready() -> None:
        with suppress(BrokenPipeError):  # the parent is gone already: the server watches for that, and ends
            ready.send_bytes(b"ready")
        ready.close()

    try:
        serve_until_told(say_ready)
    except KeyfobError as error:
        structlog.stdlib.get_logger("keyfob.supervisor").error("worker_refused", **logs.describe(error))
        sys.exit(1)


@contextmanager
def _told_to_end() -> Iterator[Connection]:
    """Give a connection that can be read from once SIGINT or SIGTERM has come."""
    end, tell = _SPAWN.Pipe(duplex=False)
    # A second signal changes nothing; a full pipe would block the handler, and one byte is enough.
    told: list[int] = []

    def note(number: int, _frame: object) -> None:
        if not told:
            told.append(number)
            tell.send_bytes(b"end")

    before = {number: signal.signal(number, note) for number in serving.SIGNALS}
    try:
        yield end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        end.close()
        tell.close()


def allow_many_connections() -> None:
    """Raise the limit of open files to what this user may have: each connection is one."""
    if os.name != "posix":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
