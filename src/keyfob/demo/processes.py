"""The processes of the demo: one authority, three services, each a real one."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec
import urllib3

from keyfob.base.errors import ConfigurationError, Unavailable
from keyfob.demo.service import ServiceSettings

SERVICES = ("orders", "stock", "billing")
START_SECONDS = 30.0
STOP_SECONDS = 5.0
PREFERRED_PORT = 8080
REPLAY_WINDOW_SECONDS = 1
ADMINISTRATOR = "admin"


class DemoFailed(Unavailable):
    """A process of the demo did not start, or answered what it should not."""

    code = "demo_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Everything that is running: the address of the authority, of each service, and the administrator's password."""

    authority: str
    services: dict[str, str]
    administrator: str
    password: str = field(repr=False)
    log: Path


@contextmanager
def running(folder: Path, *, port: int | None = None) -> Iterator[Stage]:
    """Start the authority on a new SQLite file in *folder* and three services; end them all afterwards.

    *port* None means 8080 if it is free, else any.

    Raises:
        DemoFailed: something did not start; the message says where its log is.
    """
    chosen = port if port is not None else _free_port()
    authority = f"http://127.0.0.1:{chosen}"
    log = folder / "authority.log"
    password = secrets.token_urlsafe(12)
    with ExitStack() as stack:
        commands = _Commands(folder, authority)
        commands.run(
            "user", "add", ADMINISTRATOR, "--role", "keyfob:admin", "--password-stdin", text=password
        )
        output = stack.enter_context(log.open("wb"))
        server = commands.start(output, "serve", "--host", "127.0.0.1", "--port", str(chosen))
        stack.callback(_end, server)
        _wait_until_ready(authority, server, log)
        services = {
            name: stack.enter_context(_service(name, authority, commands, folder)) for name in SERVICES
        }
        yield Stage(
            authority=authority, services=services, administrator=ADMINISTRATOR, password=password, log=log
        )


class _Commands:
    """Runs `keyfob` as an operator would, on the demo's own store."""

    def __init__(self, folder: Path, issuer: str) -> None:
        self._folder = folder
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KEYFOB_")}
        self._environment = {
            **inherited,
            "KEYFOB_STORE": f"sqlite:///{folder / 'keyfob.db'}",
            "KEYFOB_ISSUER": issuer,
            "KEYFOB_REFRESH_REPLAY_WINDOW": str(REPLAY_WINDOW_SECONDS),
        }

    def run(self, *arguments: str, text: str = "") -> str:
        """Run one command to its end and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "keyfob.cli", *arguments],
            input=text,
            capture_output=True,
            text=True,
            env=self._environment,
            cwd=self._folder,
            timeout=START_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise DemoFailed(f"'keyfob {' '.join(arguments)}' failed: {done.stderr.strip()}")
        return done.stdout

    def start(self, output: BinaryIO, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one command and leave it running."""
        return subprocess.Popen(
            [sys.executable, "-m", "keyfob.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=self._environment,
            cwd=self._folder,
        )


class _ClientCreated(msgspec.Struct, frozen=True):
    client_id: str
    client_secret: str


@contextmanager
def _service(name: str, authority: str, commands: _Commands, folder: Path) -> Iterator[str]:
    """Register a service as a client that may follow the feed, and run it."""
    printed = commands.run("client", "add", name, "--scope", "keyfob:feed", "--audience", name, "--json")
    client = msgspec.json.decode(printed.encode(), type=_ClientCreated)
    settings = ServiceSettings(
        name=name, issuer=authority, client_id=client.client_id, client_secret=client.client_secret
    )
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "keyfob.demo.service"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            cwd=folder,
        )
        try:
            yield f"http://127.0.0.1:{_told_port(process, settings, log)}"
        finally:
            _end(process)


def _told_port(process: subprocess.Popen[bytes], settings: ServiceSettings, log: Path) -> int:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(settings) + b"\n")
    process.stdin.close()
    line = process.stdout.readline()
    if not line.strip().isdigit():
        raise DemoFailed(f"the service {settings.name} did not start; see {log}")
    return int(line)


def _wait_until_ready(authority: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    with urllib3.PoolManager(retries=False, timeout=2.0) as pool:
        while time.monotonic() < until and server.poll() is None:
            try:
                if pool.request("GET", f"{authority}/readyz").status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                pass
            time.sleep(0.02)
    raise DemoFailed(f"the server did not become ready; see {log}: {_last_line(log)}")


def _last_line(log: Path) -> str:
    lines: Sequence[str] = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it is empty"


def _free_port() -> int:
    for port in (PREFERRED_PORT, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as probe:
                return int(probe.getsockname()[1])
        except OSError:
            continue
    raise ConfigurationError("no free port on the loopback interface")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
