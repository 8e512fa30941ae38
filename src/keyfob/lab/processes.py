"""The processes of the lab: each is told its settings by one line, says where it serves by another, and ends with whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from keyfob.base.errors import Unavailable
from keyfob.lab.asgi import Announcement
from keyfob.server.settings import environment_of_others

START_SECONDS = 90.0
STOP_SECONDS = 5.0


class LabFailed(Unavailable):
    """A process of the lab did not start or ended, or something answered what it should not."""

    code = "lab_failed"


@dataclass(slots=True)
class Program:
    """A process that runs."""

    process: subprocess.Popen[bytes]
    log: Path
    name: str

    @classmethod
    def start(cls, module: str, settings: msgspec.Struct | None, *, folder: Path, name: str) -> Program:
        """Run `python -m module`, tell it its settings, and do not wait."""
        log = folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=environment_of_others(),
                cwd=folder,
            )
        program = cls(process, log, name)
        if settings is not None:
            program.tell(msgspec.json.encode(settings))
        return program

    def tell(self, line: bytes) -> None:
        """Send it one line.

        Raises:
            LabFailed: it has ended.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise self._failure("ended") from None

    def line(self, *, seconds: float = START_SECONDS) -> bytes:
        """Return the next line that it says.

        Raises:
            LabFailed: it ends, or *seconds* pass, before one came.
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
            raise self._failure("did not answer")
        return line

    def announced(self) -> Announcement:
        """Return where it serves.

        Raises:
            LabFailed: it does not.
        """
        return msgspec.json.decode(self.line(), type=Announcement)

    def pin(self, core: int | None) -> None:
        """Let it use one core alone; None, and a system that cannot, leave it free."""
        if core is not None and hasattr(os, "sched_setaffinity"):
            for task in Path(f"/proc/{self.process.pid}/task").iterdir():
                with suppress(OSError):  # it has just ended
                    os.sched_setaffinity(int(task.name), {core})

    def end(self) -> None:
        """End it, and wait until it has. Twice is once."""
        process = self.process
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

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def _failure(self, what: str) -> LabFailed:
        lines = self.log.read_text("utf-8", "replace").strip().splitlines()
        return LabFailed(f"{self.name} {what}: {lines[-1] if lines else 'it said nothing'}")


def cores() -> tuple[int | None, int | None]:
    """Return a core for what is measured and one for the load; None twice where there are not two, or nothing can be pinned."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    ours = sorted(os.sched_getaffinity(0))
    return (ours[0], ours[1]) if len(ours) > 1 else (None, None)
