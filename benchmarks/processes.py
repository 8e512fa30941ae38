"""The processes of a run: each is started here, pinned to a core, talked to by lines, and ended by its id."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
            raise BenchmarkFailed(f"a program has ended: {self.last_words()}") from None

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
            raise BenchmarkFailed(f"a program did not answer: {self.last_words()}")
        return line.rstrip(b"\n")

    def used(self) -> float:
        """Return the seconds of processor time that its threads have used, by themselves and in the kernel, and those of its children that live."""
        nanoseconds = 0
        processes = [self.process.pid]
        for process in processes:  # grows as children are found
            for task in _tasks_of(process):
                with suppress(OSError):  # it has just ended
                    nanoseconds += int((task / "schedstat").read_text("ascii").split()[0])
                    processes += map(int, (task / "children").read_text("ascii").split())
        return nanoseconds / 1e9

    def last_words(self) -> str:
        """Return the last line that it wrote to its log."""
        lines = self.log.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def _tasks_of(process: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{process}/task").iterdir())
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class Together:
    """Programs that answer a request together."""

    programs: tuple[Program, ...]

    def used(self) -> float:
        """Return the seconds of processor time that they have used."""
        return sum(program.used() for program in self.programs)


@contextmanager
def running(
    module: str,
    *arguments: str,
    folder: Path,
    core: int | None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Program]:
    """Run `python -m module arguments` on *core* while the block lasts, with *folder* as its working directory."""
    command = [sys.executable, "-m", module, *arguments]
    with running_program(
        command, name=module, folder=folder, core=core, environment=environment or {}
    ) as program:
        yield program


@contextmanager
def running_program(
    command: Sequence[str], *, name: str, folder: Path, core: int | None, environment: Mapping[str, str]
) -> Iterator[Program]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KEYFOB_")}
    path = os.pathsep.join(filter(None, (str(ROOT), inherited.get("PYTHONPATH"))))
    log = folder / f"{name}-{len(list(folder.glob('*.log')))}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            env={**inherited, "PYTHONPATH": path, **environment},
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
def keyfob_gateway(
    folder: Path, core: int | None, *, authority: str, client: tuple[str, str]
) -> Iterator[tuple[int, Program]]:
    """Run `keyfob gateway` in front of *authority*; give its port once it is level."""
    environment = {
        "KEYFOB_CLIENT_ID": client[0],
        "KEYFOB_CLIENT_SECRET": client[1],
        "KEYFOB_LOG_LEVEL": "error",
    }
    arguments = ("gateway", "--authority", authority, "--port", "0")
    with running("keyfob.cli", *arguments, folder=folder, core=core, environment=environment) as program:
        places = _PLACE.findall(program.line(START_SECONDS))
        port = int(places[-1])
        _await(lambda: _status(port, "/readyz") == 200, program)
        yield port, program


@contextmanager
def framework_server(
    folder: Path, core: int | None, framework: str, kind: str, environment: Mapping[str, str], tokens: Path
) -> Iterator[tuple[int, Program]]:
    """Run one route of a framework; give its port once it answers a token of *tokens*."""
    token = tokens.read_text("ascii").partition("\n")[0]
    with running(
        "benchmarks.framework_server", framework, kind, folder=folder, core=core, environment=environment
    ) as program:
        port = int(program.line(START_SECONDS))
        _await(lambda: _status(port, "/orders", {"Authorization": f"Bearer {token}"}) == 200, program)
        yield port, program


@contextmanager
def nginx_server(
    folder: Path, core: int | None, *, binary: str, backends: Mapping[str, int]
) -> Iterator[tuple[dict[str, int], Program]]:
    """Run nginx as one process: for each of *backends* (a name and a port) a port that serves a file to whom its `/check` lets through."""
    ports = {name: free_port() for name in backends}
    (folder / "file").write_text("ok", "ascii")
    (folder / "nginx.conf").write_text(_nginx_configuration(folder, backends, ports), "ascii")
    command = (binary, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr")
    with running_program(command, name="nginx", folder=folder, core=core, environment={}) as program:
        for port in ports.values():
            _await(lambda port=port: _status(port, "/none") is not None, program)
        yield ports, program


def _nginx_configuration(folder: Path, backends: Mapping[str, int], ports: Mapping[str, int]) -> str:
    user = "user root;" if os.geteuid() == 0 else ""
    kinds = ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
    places = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    servers = "".join(
        f"""
        upstream {name} {{ server 127.0.0.1:{backends[name]}; keepalive 64; keepalive_requests 1000000000; }}
        server {{
            listen 127.0.0.1:{ports[name]} backlog=1024;
            location / {{ auth_request /.check; root {folder}; }}
            location = /.check {{
                internal;
                proxy_pass http://{name}/check;
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_set_header X-Original-Method $request_method;
                proxy_pass_request_body off;
                proxy_set_header Content-Length "";
            }}
        }}"""
        for name in backends
    )
    return f"""
        daemon off; master_process off; {user} pid {folder}/nginx.pid;
        events {{ worker_connections 1024; }}
        http {{ access_log off; keepalive_requests 1000000000; {places} {servers} }}
    """


def free_port() -> int:
    """Return a port that is free at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _status(port: int, path: str, headers: Mapping[str, str] | None = None) -> int | None:
    """Return the status of a request; None if nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def _await(condition: Callable[[], bool], program: Program) -> None:
    until = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > until or program.process.poll() is not None:
            raise BenchmarkFailed(f"a program did not become ready: {program.last_words()}")
        time.sleep(0.02)


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
