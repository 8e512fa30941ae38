"""Real proxies with the configurations of deploy/proxies, a server behind them, and an application that says what reached it."""

from __future__ import annotations

import base64
import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest

from keyfob.server.export.envoy_routes import envoy_routes
from keyfob.server.export.exported import Exported

CONFIGURATIONS = Path(__file__).parent.parent.parent.parent / "deploy" / "proxies"
START_SECONDS = 20.0
AUDIENCE = "orders"
NOTHING_KNOWN = Exported(
    issuer="https://auth.example",
    timeline="",
    position=0,
    entries=(),
    level_at=datetime.fromtimestamp(0, UTC),
    good_until=datetime.fromtimestamp(0, UTC),
    is_level=False,
)


@dataclass(frozen=True)
class Reached:
    """A request as the application got it: nothing decoded, nothing joined."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Application:
    """Listens, keeps what reached it, and answers 200; an upgrade it accepts, and gives back each byte from then on."""

    def __init__(self) -> None:
        self.reached: list[Reached] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError), connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                method, target, _ = line.decode("latin-1").split(" ", 2)
                headers = read_headers(stream)
                reached = Reached(method, target, headers, read_body(stream, headers))
                self.reached.append(reached)
                if reached.all("upgrade"):
                    connection.sendall(
                        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
                    )
                    while piece := connection.recv(4096):
                        connection.sendall(piece)
                    return
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def read_headers(stream: Any) -> list[tuple[str, str]]:
    headers = []
    while (line := stream.readline().rstrip(b"\r\n")) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        headers.append((name, value.strip()))
    return headers


def read_body(stream: Any, headers: list[tuple[str, str]]) -> bytes:
    fields = {name.lower(): value for name, value in headers}
    if fields.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
        return body
    return stream.read(int(fields.get("content-length", "0")))


class Front:
    """A proxy that runs, as a client sees it: requests are sent byte for byte."""

    def __init__(self, name: str, port: int, application: Application) -> None:
        self.name = name
        self.port = port
        self.application = application

    def send(
        self,
        target: str,
        *headers: str,
        method: str = "GET",
        token: str | None = None,
        cookie: str | None = None,
        body: bytes | None = None,
    ) -> Reply:
        lines = [f"{method} {target} HTTP/1.1", "Host: app.example", "Connection: close", *headers]
        if token is not None:
            lines.append(f"Authorization: Bearer {token}")
        if cookie is not None:
            lines.append(f"Cookie: {cookie}")
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b""))
            with connection.makefile("rb") as stream:
                status = int(stream.readline().split()[1])
                answered = read_headers(stream)
                return Reply(status, answered, b"" if status == 204 else stream.read())

    def pass_through(self, target: str, *headers: str, **more: Any) -> Reached:
        """Send a request that must reach the application, and return what it got."""
        count = len(self.application.reached)
        reply = self.send(target, *headers, **more)
        assert reply.status == 200, reply
        assert len(self.application.reached) == count + 1
        return self.application.reached[-1]

    def refused(self, target: str, *headers: str, **more: Any) -> Reply:
        """Send a request that must not reach the application, and return the answer."""
        count = len(self.application.reached)
        reply = self.send(target, *headers, **more)
        assert len(self.application.reached) == count, (reply, self.application.reached[-1])
        return reply


@dataclass
class Site:
    """A server with accounts, and the client that stands for proxies."""

    deployment: Any
    admin: str = ""
    proxy: tuple[str, str] = ("", "")
    gateway: tuple[str, str] = ("", "")
    logins: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def api(self) -> Any:
        return self.deployment.api

    def login(self, name: str = "alice", **fields: Any) -> dict[str, Any]:
        reply = self.api.login(name, strategy=fields.pop("strategy", "session"), **fields)
        assert reply.status == 200, reply.raw
        return dict(reply.body)

    def revoke(self, scope: str, target: str = "") -> int:
        reply = self.api.post("/admin/api/revocations", {"scope": scope, "id": target}, token=self.admin)
        assert reply.status == 201, reply.raw
        return int(reply.body["position"])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def program(name: str) -> str:
    found = {"nginx": shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")}.get(
        name, str(Path(sys.executable).parent / name)
    )
    if not found or not Path(found).exists():
        pytest.skip(f"{name} is not installed here")
    return found


@contextmanager
def running(
    name: str, folder: Path, *, keyfob: int | str, application: Application, proxy: tuple[str, str]
) -> Iterator[Front]:
    """Run the proxy with the configuration that is given to users; only addresses, and where the files lie, are put in."""
    binary, port = program(name), free_port()
    secret = base64.b64encode(":".join(proxy).encode()).decode()
    for file in (CONFIGURATIONS / name).iterdir():
        (folder / file.name).write_text(_placed(file.read_text(), folder, keyfob, application.port, port))
    environment = {**os.environ, "KEYFOB_PROXY": secret, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            COMMANDS[name](binary, folder, secret),
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_for(process, port, folder / "log")
        yield Front(name, port, application)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _placed(text: str, folder: Path, keyfob: int | str, application: int, port: int) -> str:
    text = text.replace("/etc/traefik", str(folder))
    if isinstance(keyfob, str):
        return _placed(
            text.replace("server 127.0.0.1:8080;", f"server {keyfob};"), folder, 8080, application, port
        )
    for before, after in ((8000, port), (8080, keyfob), (9000, application)):
        text = text.replace(f"127.0.0.1:{before}", f"127.0.0.1:{after}")
        text = text.replace(f"http://:{before} ", f"http://:{after} ")
        text = text.replace(f"port_value: {before} ", f"port_value: {after} ")
    return text


def _nginx(binary: str, folder: Path, secret: str) -> list[str]:
    (folder / "keyfob-proxy.conf").write_text(f'proxy_set_header X-Keyfob-Proxy "Basic {secret}";\n')
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
    )
    # As root its workers would be another user, who may not look into a temporary folder.
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"daemon off; {user} worker_processes 1; pid {folder}/pid; error_log stderr warn;\n"
        "events { worker_connections 256; }\n"
        f"http {{ access_log off; {places} include {folder}/keyfob.conf; }}\n"
    )
    return [binary, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]


COMMANDS: dict[str, Callable[[str, Path, str], list[str]]] = {
    "nginx": _nginx,
    "caddy": lambda binary, folder, _: [
        binary,
        "run",
        "--config",
        str(folder / "Caddyfile"),
        "--adapter",
        "caddyfile",
    ],
    "traefik": lambda binary, folder, _: [binary, f"--configFile={folder}/traefik.yml"],
    "envoy": lambda binary, folder, _: [
        binary,
        "-c",
        str(folder / "envoy.yaml"),
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "-l",
        "warning",
    ],
}


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the proxy has its routes: it answers, and not with 404."""
    until = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        with (
            suppress(OSError, IndexError, ValueError),
            socket.create_connection(("127.0.0.1", port), timeout=5) as peer,
        ):
            peer.sendall(b"GET /waiting HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n")
            if peer.makefile("rb").readline().split()[1] != b"404":
                return
        time.sleep(0.02)


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    application = Application()
    yield application
    application.close()


@pytest.fixture(scope="module")
def site(deploy_for_module: Any) -> Site:
    deployment = deploy_for_module()
    site = Site(deployment)
    site.proxy = deployment.add_client("proxy", "keyfob:check", audiences=(AUDIENCE,))
    site.gateway = deployment.add_client("gateway", "keyfob:feed")
    deployment.add_users("alice", "bob")
    deployment.add_users("root", roles=("keyfob:admin", "admin"))
    deployment.start()
    site.admin = site.login("root")["session_token"]
    return site


@pytest.fixture(scope="module")
def run_proxy(
    tmp_path_factory: pytest.TempPathFactory, application: Application, site: Site
) -> Callable[..., Any]:
    """Run a proxy by name, in front of the server, of another port, or (nginx) of a socket."""

    def run(name: str, *, keyfob: int | str | None = None) -> Any:
        return running(
            name,
            tmp_path_factory.mktemp(name),
            keyfob=site.deployment.port if keyfob is None else keyfob,
            application=application,
            proxy=site.proxy,
        )

    return run


@pytest.fixture(scope="module")
def nobody_there() -> int:
    """A port at which nobody listens."""
    return free_port()


class ClaimsNginx:
    """An nginx that answers with what the file says about the claims in the headers; each start takes a new file."""

    names: ClassVar[dict[str, str]] = {
        name: f"X-Claim-{name.replace('_', '-')}"
        for name in ("sub", "sid", "psid", "pcid", "client", "jti", "kid", "tl", "as_of")
    }

    def __init__(self, binary: str, folder: Path, port: int) -> None:
        self._binary, self._folder, self._port = binary, folder, port
        claims = "".join(f"set $keyfob_{name} $http_x_claim_{name};\n" for name in self.names)
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(
            f"daemon off; {user} worker_processes 1; pid {folder}/pid; error_log stderr warn;\n"
            "events { worker_connections 64; }\n"
            f"http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;\n"
            f"fastcgi_temp_path {folder}/f; scgi_temp_path {folder}/s; uwsgi_temp_path {folder}/u;\n"
            f"include {folder}/revoked.conf;\n"
            f"server {{ listen 127.0.0.1:{port}; {claims}"
            'location / { add_header X-Cause "[$keyfob_cause]" always; add_header X-Good $keyfob_good always; return 204; } } }\n'
        )

    @property
    def file(self) -> Path:
        """The exported file."""
        return self._folder / "revoked.conf"

    @property
    def reload(self) -> str:
        """The command that makes it take a new file."""
        return f"{self._binary} -p {self._folder} -c {self._folder}/nginx.conf -e stderr -s reload"

    def _ask(self, connection: http.client.HTTPConnection, claims: dict[str, str]) -> str:
        connection.putrequest("GET", "/")
        for name, value in claims.items():
            connection.putheader(self.names[name], value.encode())
        connection.endheaders()
        answer = connection.getresponse()
        answer.read()
        cause = (answer.getheader("X-Cause") or "")[1:-1]
        assert answer.getheader("X-Good") == ("0" if cause else "1")
        return cause

    @contextmanager
    def with_file(self, content: bytes) -> Iterator[Any]:
        """Run it with a file of *content*; give what asks it about claims."""
        self.file.write_bytes(content)
        with self.running() as ask:
            yield ask

    @contextmanager
    def running(self) -> Iterator[Any]:
        """Run it with the file that is there."""
        command = [
            self._binary,
            "-p",
            str(self._folder),
            "-c",
            str(self._folder / "nginx.conf"),
            "-e",
            "stderr",
        ]
        with (self._folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            until = time.monotonic() + 20
            while True:
                assert process.poll() is None, (self._folder / "log").read_text()
                assert time.monotonic() < until
                with suppress(OSError):
                    connection.connect()
                    break
                time.sleep(0.01)

            def ask(claims: dict[str, str]) -> str:
                try:
                    return self._ask(connection, claims)
                except (http.client.RemoteDisconnected, ConnectionError):
                    # A worker that ends after a reload closes the connections on which nothing is under way.
                    connection.close()
                    return self._ask(connection, claims)

            yield ask
            connection.close()
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture
def nginx(tmp_path: Path) -> ClaimsNginx:
    """An nginx that judges claims by an exported file."""
    return ClaimsNginx(program("nginx"), tmp_path, free_port())


@pytest.fixture
def find_program() -> Callable[[str], str]:
    """Find a proxy's program, or skip the test."""
    return program


@pytest.fixture
def a_free_port() -> int:
    return free_port()


@pytest.fixture
def start_envoy_feed(application: Application, site: Site, tmp_path: Path) -> Any:
    """Run the Envoy of deploy/proxies/envoy-feed; give it, and how its routes are exported."""
    folder = tmp_path / "envoy-feed"
    folder.mkdir()

    @contextmanager
    def start() -> Iterator[Any]:
        binary, port = program("envoy"), free_port()
        for file in (CONFIGURATIONS / "envoy-feed").iterdir():
            text = file.read_text().replace("/etc/envoy", str(folder))
            (folder / file.name).write_text(
                _placed(text, folder, site.deployment.port, application.port, port)
            )
        out = folder / "keyfob-routes.json"
        template = folder / "routes.json"
        out.write_bytes(envoy_routes(template.read_bytes())(NOTHING_KNOWN))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                COMMANDS["envoy"](binary, folder, ""),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            _wait_for(process, port, folder / "log")
            options = ["--format", "envoy-rds", "--template", str(template), "--out", str(out)]
            yield Front("envoy", port, application), options
        finally:
            process.terminate()
            process.wait(10)

    return start
