"""Deployments for the tests of this folder: a temporary folder, a port of its own, and real server processes on a real SQLite file."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import urllib3

from keyfob.authority.authority import Authority

PASSWORD = "seventeen green llamas"
START_SECONDS = 40.0  # with every core busy, and several workers to be started
END_SECONDS = 15.0
PORTS = range(20_000, 32_000)  # below those that the kernel gives to outgoing connections
_ATTEMPTS = 200

T = TypeVar("T")


class NoAnswer(Exception):
    """The server was not there, or went away before it answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer of the server."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw) if self.raw else None

    @property
    def code(self) -> str:
        """The cause of a refusal, empty for none."""
        return str(self.body["code"]) if self.status >= 400 else ""

    def cookie(self, name: str) -> str | None:
        """What the answer sets a cookie to; empty for one that it clears."""
        for header in self.headers.getlist("Set-Cookie"):  # type: ignore[attr-defined]
            pair, _, _ = header.partition(";")
            if pair.startswith(f"{name}="):
                return pair.removeprefix(f"{name}=")
        return None


class Api:
    """Talks to one server over connections that stay open. May be used from any thread."""

    NoAnswer = NoAnswer

    def __init__(self, url: str) -> None:
        self.url = url
        self._pool = urllib3.PoolManager(retries=False, timeout=30.0, maxsize=32)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        cookie: tuple[str, str] | None = None,
        basic: tuple[str, str] | None = None,
    ) -> Reply:
        headers = {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if basic is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(basic).encode()).decode()
        if cookie is not None:  # by hand: a cookie jar does not send Secure cookies to http://127.0.0.1
            headers |= {"Cookie": "=".join(cookie), "Origin": self.url}
        try:
            answer = self._pool.request(
                method,
                self.url + path,
                headers=headers,
                body=json.dumps(body).encode() if body is not None else None,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise NoAnswer(f"{method} {path}: {error!r}") from None
        return Reply(status=answer.status, headers=answer.headers, raw=answer.data)

    def get(self, path: str, **credential: Any) -> Reply:
        return self.request("GET", path, **credential)

    def post(self, path: str, body: Any = None, **credential: Any) -> Reply:
        return self.request("POST", path, {} if body is None else body, **credential)

    def login(self, name: str, *, strategy: str = "hybrid", transport: str = "body", **more: Any) -> Reply:
        """Log in with the password that every account of these tests has."""
        body = {"username": name, "password": PASSWORD, "strategy": strategy, "transport": transport}
        return self.post("/login", body | more)

    def close(self) -> None:
        self._pool.clear()


class Server:
    """One start of `keyfob serve`: the process, its workers, its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        """End it as the kernel or a power cut would: the whole group at once, by SIGKILL."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(END_SECONDS)

    def end(self, number: int = signal.SIGTERM) -> float:
        """End it as an operator would; return how many seconds it took, and see that it called that a success."""
        began = time.monotonic()
        self.process.send_signal(number)
        try:
            code = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not end within {END_SECONDS} s") from None
        took = time.monotonic() - began
        assert code == 0, f"the server ended with {code}: {self.log.read_text()}"
        return took

    def has_announced(self) -> bool:
        """Say whether it has printed where it is, which it does once every worker serves."""
        return "keyfob: serving on" in self.log.with_suffix(".out").read_text()

    def is_running(self) -> bool:
        return self.process.poll() is None


class Deployment:
    """A database, a port and settings: what stays when the server is killed and started again."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.database = folder / "keyfob.db"
        self.state_folder = folder / "state"
        self._reservation, self.port = _reserve_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = Api(self.url)
        self.expected_errors: set[str] = set()
        """Events that may stand in the log at level error, where a test causes them."""
        self._settings = settings
        self._servers: list[Server] = []

    @property
    def store(self) -> str:
        return self._settings.get("store", f"sqlite:///{self.database}")

    def move_to(self, store: str) -> None:
        """Be on another store from the next start on."""
        self._settings = {**self._settings, "store": store}

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KEYFOB_")}
        own = {"KEYFOB_STORE": self.store, "KEYFOB_PORT": str(self.port)}
        own["KEYFOB_STATE_FOLDER"] = str(self.state_folder)  # not that of whoever runs the tests
        return inherited | own | {f"KEYFOB_{name.upper()}": text for name, text in self._settings.items()}

    def command(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run one `keyfob` command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "keyfob.cli", *arguments],
            input=text,
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.folder,
            timeout=START_SECONDS,
            check=False,
        )

    def with_authority(self, work: Callable[[Authority], Awaitable[T]]) -> T:
        """Open the database in this process, as `keyfob` commands do, and return what *work* returns."""

        async def opened() -> T:
            key = self._settings.get("master_key")
            async with Authority.open(self.store, issuer=self.url, master_key=key) as authority:
                return await work(authority)

        return asyncio.run(opened())

    def add_users(self, *names: str, roles: tuple[str, ...] = ()) -> None:
        async def work(authority: Authority) -> None:
            for name in names:
                await authority.accounts.add(name, PASSWORD, roles=roles, actor="test")

        self.with_authority(work)

    def add_client(self, client_id: str, *scopes: str, audiences: tuple[str, ...] = ()) -> tuple[str, str]:
        """Add a client and return its credentials."""

        async def work(authority: Authority) -> tuple[str, str]:
            added = await authority.clients.add(client_id, scopes=scopes, audiences=audiences, actor="test")
            return added.client.client_id, added.secret

        return self.with_authority(work)

    def start(self, *arguments: str) -> Server:
        """Start the server and return when it is ready, with all its workers."""
        server = self.launch(*arguments)
        until = time.monotonic() + START_SECONDS
        while not (server.has_announced() and self.is_ready()):
            assert server.is_running(), f"the server ended: {server.log.read_text()}"
            assert time.monotonic() < until, f"the server did not become ready: {server.log.read_text()}"
            time.sleep(0.02)
        return server

    def launch(self, *arguments: str) -> Server:
        """Start the server, in a process group of its own."""
        log = self.folder / f"server-{len(self._servers)}.log"
        with log.open("wb") as errors, log.with_suffix(".out").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "keyfob.cli", "serve", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=self.environment,
                cwd=self.folder,
                start_new_session=True,
            )
        server = Server(process, log)
        self._servers.append(server)
        return server

    def close(self) -> None:
        """End whatever still runs, gently where that is possible, and look through the logs."""
        try:
            for server in self._servers:
                if server.is_running():
                    server.end()
            self._require_quiet_logs()
        finally:
            for server in self._servers:
                server.kill()
            self.api.close()
            self._reservation.close()

    def is_ready(self) -> bool:
        """Say whether some process of the server says that it is ready."""
        try:
            return self.api.get("/readyz").status == 200
        except NoAnswer:
            return False

    def _require_quiet_logs(self) -> None:
        """Every line is one of the log's own, so no traceback; and none is an error that the test did not cause."""
        for server in self._servers:
            for line in server.log.read_text().splitlines():
                try:
                    event = json.loads(line)
                except ValueError:
                    raise AssertionError(
                        f"{server.log.name} holds what is no log line: {server.log.read_text()}"
                    ) from None
                is_loud = event["level"] in {"error", "critical"}
                assert not is_loud or event["event"] in self.expected_errors, event


def _reserve_port() -> tuple[socket.socket, int]:
    """Return a port that no other test takes, and the socket that reserves it.

    A UDP socket on the same number says that it is taken, so the port stays ours while the server is down.
    """
    for _ in range(_ATTEMPTS):
        port = random.choice(PORTS)
        reservation = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            reservation.bind(("127.0.0.1", port))
            with socket.create_server(("127.0.0.1", port)):
                return reservation, port
        except OSError:
            reservation.close()
    raise AssertionError("there is no free port")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--crash-rounds N` makes a soak test of the crash test, `--burst N` of the burst."""
    parser.addoption(
        "--crash-rounds", type=int, default=None, help="how often the crash test kills the server"
    )
    parser.addoption("--burst", type=int, default=10_000, help="revocations of the burst")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give the crash test the time that its rounds take."""
    rounds = config.getoption("--crash-rounds", default=None) or 0
    for item in items:
        if item.path.name == "test_crash.py":
            item.add_marker(pytest.mark.timeout(300 + 30 * rounds))


def _deployments(folder: Path) -> Iterator[Callable[..., Deployment]]:
    made: list[Deployment] = []

    def make(**settings: str) -> Deployment:
        own = folder / f"deployment-{len(made)}"
        own.mkdir()
        made.append(Deployment(own, settings))
        return made[-1]

    yield make
    errors = []
    for deployment in made:
        try:
            deployment.close()
        except AssertionError as error:
            errors.append(error)
    if errors:
        raise errors[0]


@pytest.fixture
def deploy(tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    """Make deployments with `KEYFOB_*` settings given by name; whatever was started is ended, and the logs are looked through."""
    yield from _deployments(tmp_path)


@pytest.fixture(scope="module")
def deploy_for_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Deployment]]:
    """As `deploy`, for servers that the tests of a module share."""
    yield from _deployments(tmp_path_factory.mktemp("module"))


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    """Wait until a condition holds, looking every hundredth of a second; fail where it does not come within the seconds given."""

    def wait(condition: Callable[[], bool], what: str, *, within: float = 20.0) -> None:
        until = time.monotonic() + within
        while not condition():
            assert time.monotonic() < until, f"not within {within} s: {what}"
            time.sleep(0.01)

    return wait


@pytest.fixture
def processes_of() -> Callable[[int], dict[int, list[str]]]:
    """Return the living processes of a session (one that began with `start_new_session`): pid and command line."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc to see processes")
    return living_processes


def living_processes(session: int) -> dict[int, list[str]]:
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):  # it ended meanwhile
            state, _, _, its_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                command = (folder / "cmdline").read_bytes().decode().split("\0")[:-1]
                found[int(folder.name)] = command
    return found
