"""The processes of a run: each is started here, pinned to a core, talked to by lines, and ended by its id."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.figures import BenchmarkFailed
from benchmarks.load import DRAIN_SECONDS, Job, Result
from benchmarks.machine import cores

START_SECONDS = 60.0
STOP_SECONDS = 5.0
ROOT = Path(__file__).parents[1]
_PLACE = re.compile(rb"http://127\.0\.0\.1:(\d+)")


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core the servers have, and which the load generators; None where there is only one, and nothing is pinned."""

    server: int | None
    load: int | None

    @classmethod
    def here(cls) -> Cores:
        """Choose among the cores of this process."""
        ours = cores()
        return (
            cls(ours[0], ours[1]) if len(ours) > 1 and hasattr(os, "sched_setaffinity") else cls(None, None)
        )


@dataclass(slots=True)
class Program:
    """A program that runs. Lines go in and out."""

    process: subprocess.Popen[bytes]
    log: Path

    def tell(self, line: bytes) -> None:
        """Send one *line*."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise BenchmarkFailed(f"a program has ended: {self._last_words()}") from None

    def line(self, seconds: float) -> bytes:
        """Return the next line that it prints.

        Raises:
            BenchmarkFailed: it ends, or *seconds* pass, before one came.
        """
        assert self.process.stdout is not None
        # A read cannot be given a deadline; a process that is dead ends it.
        watchdog = threading.Timer(seconds, self.process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            line = self.process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line.endswith(b"\n"):
            raise BenchmarkFailed(f"a program did not answer: {self._last_words()}")
        return line.rstrip(b"\n")

    def used(self) -> float:
        """Return the seconds of processor time that its threads have used, by themselves and in the kernel."""
        nanoseconds = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with suppress(OSError):  # it has just ended
                nanoseconds += int((task / "schedstat").read_text("ascii").split()[0])
        return nanoseconds / 1e9

    def _last_words(self) -> str:
        lines = self.log.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


@contextmanager
def running(
    module: str,
    *arguments: str,
    folder: Path,
    core: int | None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Program]:
    """Run `python -m module arguments` on *core* while the block lasts, with *folder* as its working directory."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KEYFOB_")}
    path = os.pathsep.join(filter(None, (str(ROOT), inherited.get("PYTHONPATH"))))
    log = folder / f"{module}-{len(list(folder.glob('*.log')))}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            env={**inherited, "PYTHONPATH": path, **(environment or {})},
            cwd=folder,
        )
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})  # long before it has a second thread
        yield Program(process, log)
    finally:
        _end(process)


@contextmanager
def bare_server(folder: Path, core: int | None) -> Iterator[tuple[int, Program]]:
    """Run the bare application; give its port."""
    with running("benchmarks.bare_server", folder=folder, core=core) as program:
        yield int(program.line(START_SECONDS)), program


@contextmanager
def keyfob_server(
    folder: Path,
    core: int | None,
    environment: Mapping[str, str],
    *,
    port: int = 0,
) -> Iterator[tuple[int, Program]]:
    """Run `keyfob serve` with the settings of *environment*; give its port."""
    settings = {"KEYFOB_PORT": str(port), "KEYFOB_LOG_LEVEL": "warning", **environment}
    with running("keyfob.cli", "serve", folder=folder, core=core, environment=settings) as program:
        place = _PLACE.search(program.line(START_SECONDS))
        if place is None:
            raise BenchmarkFailed("keyfob serve did not say where it is")
        yield int(place[1]), program


@contextmanager
def load_generator(folder: Path, core: int | None) -> Iterator[Program]:
    """Run a load generator."""
    with running("benchmarks.load", folder=folder, core=core) as program:
        yield program


def begin(generator: Program, job: Job) -> None:
    """Let *generator* begin with *job*."""
    generator.tell(msgspec.json.encode(job))


def result_of(generator: Program, job: Job) -> Result:
    """Return what came of *job*.

    Raises:
        BenchmarkFailed: a status that was not expected, or no answer.
    """
    seconds = job.warm_up + job.seconds + 2 * DRAIN_SECONDS + START_SECONDS
    result = msgspec.json.decode(generator.line(seconds), type=Result)
    if result.failure:
        raise BenchmarkFailed(
            f"{job.prefix.partition(' HTTP')[0]}: {result.failure}; statuses {result.statuses}"
        )
    return result


def _end(process: subprocess.Popen[bytes]) -> None:
    """End *process* and wait until it has."""
    if process.stdin is not None:
        with suppress(OSError):  # it is gone, with something left to be written
            process.stdin.close()
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
