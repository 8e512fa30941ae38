"""`keyfob gateway`: a real one, level with a real server, answers as the server's own /check does; and alone for as long as it may."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

GET = {"X-Forwarded-Method": "GET"}
END_SECONDS = 20.0  # on a machine that has much else to do
DENY_SECONDS = 30.0


class UnixConnection(http.client.HTTPConnection):
    """A connection over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


class Gateway:
    """One start of `keyfob gateway`."""

    def __init__(self, process: subprocess.Popen[str], line: str, log: Path) -> None:
        self.process = process
        self.line = line
        self.log = log
        place = re.search(r" on (unix:|http://)(\S+?)(,|;)", line)
        assert place, line
        self.place = place[2]
        self.is_unix = place[1] == "unix:"

    @property
    def port(self) -> int:
        return int(self.place.rpartition(":")[2])

    def ask(
        self, path: str, headers: dict[str, str] | None = None, *, method: str = "GET"
    ) -> tuple[int, dict[str, str], Any]:
        connection = (
            UnixConnection(self.place)
            if self.is_unix
            else http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        )
        try:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def end(self) -> None:
        """End it as an operator would, and see that it called that a success."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(END_SECONDS) == 0, self.log.read_text()


@contextmanager
def running_gateway(
    folder: Path, authority: str, client: tuple[str, str], *options: str, **variables: str
) -> Iterator[Gateway]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KEYFOB_")}
    environment |= {"KEYFOB_CLIENT_ID": client[0], "KEYFOB_CLIENT_SECRET": client[1], **variables}
    log = folder / f"gateway-{time.monotonic_ns()}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "keyfob.cli",
                "gateway",
                "--authority",
                authority,
                "--port",
                "0",
                *options,
            ],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        yield Gateway(process, line, log)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(END_SECONDS)
        process.communicate()


@pytest.fixture
def wait_until(eventually: Callable[..., None]) -> Callable[[Gateway], None]:
    def wait(gateway: Gateway) -> None:
        eventually(lambda: gateway.ask("/readyz")[0] == 200, "the gateway is ready")

    return wait


@pytest.fixture(scope="module")
def gateway(site: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(
        tmp_path_factory.mktemp("gateway"), site.api.url, site.gateway, KEYFOB_GATEWAY_REPORT_AS="gateway"
    ) as gateway:
        until = time.monotonic() + DENY_SECONDS
        while gateway.ask("/readyz")[0] != 200:
            assert time.monotonic() < until, gateway.log.read_text()
            time.sleep(0.01)
        yield gateway


def basic(client: tuple[str, str]) -> str:
    return "Basic " + base64.b64encode(":".join(client).encode()).decode()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def cookie(login: dict[str, Any]) -> dict[str, str]:
    return {"Cookie": f"__Host-session={login['session_token']}"}


def test_it_answers_as_the_authority_does(site: Any, gateway: Gateway) -> None:
    alice, root = site.login("alice"), site.login("root")
    jwt = site.login("alice", strategy="jwt")["access_token"]
    proxy = {"X-Keyfob-Proxy": basic(site.proxy)}
    ended = site.login("bob")
    gateway.ask("/check", bearer(ended["session_token"]))
    site.revoke("session", ended["session_id"])
    questions: list[tuple[str, dict[str, str]]] = [
        ("/check", {}),
        ("/check", bearer(alice["session_token"])),
        ("/check", bearer(jwt)),
        ("/check", bearer(root["session_token"])),
        ("/check", bearer(jwt[:-2])),
        ("/check", bearer(jwt.replace(".", "..", 1))),
        ("/check", bearer(alice["session_token"].replace("kfs", "kfr"))),
        ("/check", bearer(ended["session_token"])),
        ("/check", bearer("x") | cookie(alice)),
        ("/check", cookie(alice)),
        ("/check", cookie(alice) | GET),
        ("/check", cookie(alice) | {"X-Forwarded-Method": "POST", "Sec-Fetch-Site": "same-origin"}),
        ("/check", cookie(alice) | {"X-Forwarded-Method": "POST", "Sec-Fetch-Site": "cross-site"}),
        ("/check", cookie(alice) | {"X-Forwarded-Method": "POST", "Origin": site.api.url}),
        ("/check", cookie(alice) | {"X-Forwarded-Method": "POST", "Origin": "https://evil.example"}),
        ("/check", cookie(alice) | {"X-Forwarded-Method": "POST", "X-CSRF-Token": alice["csrf_token"]}),
        ("/check", cookie(alice) | {"X-Forwarded-Method": "POST", "X-CSRF-Token": root["csrf_token"]}),
        ("/check", cookie(alice) | {"X-Forwarded-Method": "POST", "X-CSRF-Token": "x" * 201}),
        ("/check", cookie(alice) | {"X-Forwarded-Method": "POST", "X-CSRF-Token": "\xe9"}),
        ("/check", cookie(alice) | {"X-Forwarded-Method": "POST"}),
        ("/check?role=admin", bearer(alice["session_token"])),
        ("/check?role=admin", bearer(root["session_token"])),
        ("/check?scope=x", bearer(jwt)),
        ("/check?rolle=x", bearer(jwt)),
        ("/check?status=200", bearer(jwt)),
        ("/check?max_auth_age=600&max_staleness=3", bearer(jwt)),
        ("/check?max_auth_age=0", bearer(jwt)),
        ("/check/shop?q=shoes&role=admin", bearer(jwt)),
        ("/check/shop?q=shoes&mint=orders", bearer(jwt) | proxy),
        ("/check?mint=orders", bearer(jwt)),
        ("/check?mint=stock", bearer(jwt) | proxy),
        ("/check?mint=orders", bearer(jwt) | {"X-Keyfob-Proxy": basic(("proxy", "wrong"))}),
        ("/check?mint=orders", bearer(jwt) | {"X-Keyfob-Proxy": "Basic x"}),
    ]
    for path, headers in questions:
        for method in ("GET", "DELETE"):
            said = site.api._pool.request(method, site.api.url + path, headers=headers)
            status, told, body = gateway.ask(path, headers, method=method)
            context = (path, headers, told)
            assert status == said.status, context
            for name in (
                "x-auth-subject",
                "x-auth-session",
                "x-auth-roles",
                "x-auth-scopes",
                "x-auth-cause",
                "www-authenticate",
                "cache-control",
            ):
                assert told.get(name) == said.headers.get(name), context
            if status >= 400:
                assert json.loads(body) == json.loads(said.data), context


def test_what_the_authority_does_not_know_is_nobodys(gateway: Gateway) -> None:
    """The authority says `malformed` of a forged token; by introspection it says no more than that it is not active."""
    status, told, _ = gateway.ask("/check", bearer("kfs_" + "A" * 98))
    assert (status, told["x-auth-cause"]) == (401, "unknown_session")


def test_a_token_is_minted_once_and_follows_the_rule(site: Any, gateway: Gateway) -> None:
    login = site.login("bob")
    headers = bearer(login["session_token"]) | {"X-Keyfob-Proxy": basic(site.proxy)}

    def minted() -> str:
        status, told, body = gateway.ask("/check?mint=orders", headers)
        assert status == 204, body
        return told["authorization"].removeprefix("Bearer ")

    before = {minted() for _ in range(4)}
    assert len(before) == 1
    # Straight to the authority it is another one: each process keeps its own.
    site.api.request("PUT", "/admin/api/users/bob/roles", {"roles": [f"r{time.time_ns()}"]}, token=site.admin)
    until = time.monotonic() + DENY_SECONDS
    while (after := minted()) in before:
        assert time.monotonic() < until
    assert minted() == after
    site.revoke("session", login["session_id"])
    until = time.monotonic() + DENY_SECONDS
    while (answer := gateway.ask("/check?mint=orders", headers))[0] == 204:
        assert time.monotonic() < until
    assert (answer[0], "authorization" in answer[1]) == (401, False)


def test_a_deleted_proxy_gets_no_token_that_was_kept(site: Any, gateway: Gateway) -> None:
    reply = site.api.post(
        "/admin/api/clients",
        {"client_id": "leaving", "scopes": ["keyfob:check"], "audiences": ["orders"]},
        token=site.admin,
    )
    assert reply.status == 201, reply.raw
    login = site.login("alice")
    headers = bearer(login["session_token"]) | {
        "X-Keyfob-Proxy": basic(("leaving", reply.body["client_secret"]))
    }
    assert gateway.ask("/check?mint=orders", headers)[0] == 204
    assert site.api.request("DELETE", "/admin/api/clients/leaving", token=site.admin).status == 204
    until = time.monotonic() + DENY_SECONDS
    while (answer := gateway.ask("/check?mint=orders", headers))[0] == 204:
        assert time.monotonic() < until
    assert answer[1]["x-auth-cause"] == "bad_credentials"


def test_operations_see_it(site: Any, gateway: Gateway) -> None:
    assert gateway.ask("/check", bearer(site.login("alice")["session_token"]))[0] == 204
    assert gateway.ask("/livez")[0] == gateway.ask("/healthz")[0] == gateway.ask("/readyz")[0] == 200
    metrics = gateway.ask("/metrics")[2].decode()
    assert 'keyfob_http_responses_total{route="/check",status="204"}' in metrics
    assert re.search(r"^keyfob_feed_staleness_seconds \d", metrics, re.MULTILINE)
    assert gateway.ask("/login", method="POST")[0] == 404
    assert gateway.ask("/.well-known/jwks.json")[0] == 404


def test_it_does_not_start_with_a_client_that_is_refused(site: Any, tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="refuses client 'gateway'"),
        running_gateway(tmp_path, site.api.url, ("gateway", "wrong")),
    ):
        pass


def test_it_listens_at_a_socket_with_several_workers_for_nginx(
    site: Any, tmp_path: Path, wait_until: Any, run_proxy: Any
) -> None:
    path = tmp_path / "gateway.sock"
    left_behind = socket.socket(socket.AF_UNIX)
    left_behind.bind(str(path))
    left_behind.close()
    login = site.login("alice")
    with running_gateway(
        tmp_path, site.api.url, site.gateway, "--socket", str(path), "--workers", "2"
    ) as gateway:
        wait_until(gateway)
        assert path.stat().st_mode & 0o777 == 0o660
        with run_proxy("nginx", keyfob=f"unix:{path}") as front:
            for _ in range(6):
                reached = front.pass_through("/orders/1", token=login["session_token"])
                assert reached.all("X-Auth-Subject") == [login["subject"]]
                assert reached.all("Authorization")[0].startswith("Bearer ey")
            site.revoke("session", login["session_id"])
            until = time.monotonic() + DENY_SECONDS
            while front.send("/orders/1", token=login["session_token"]).status != 401:
                assert time.monotonic() < until
        gateway.end()
    assert not path.exists()


def test_cut_off_it_answers_until_it_is_stale_and_then_refuses(
    deploy: Any, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    deployment = deploy(feed_heartbeat="0.2")
    client = deployment.add_client("gateway", "keyfob:feed")
    proxy = deployment.add_client("proxy", "keyfob:check", audiences=("orders",))
    deployment.add_users("alice")
    server = deployment.start()
    login = deployment.api.login("alice", strategy="session").body
    fresh = deployment.api.login("alice", strategy="session").body
    jwt = deployment.api.login("alice", strategy="jwt").body["access_token"]
    headers = bearer(login["session_token"]) | {"X-Keyfob-Proxy": basic(proxy)}
    with ExitStack() as stack:
        gateway = stack.enter_context(
            running_gateway(
                tmp_path, deployment.url, client, "--max-staleness", "3s", KEYFOB_FEED_HEARTBEAT="0.2"
            )
        )
        eventually(lambda: gateway.ask("/readyz")[0] == 200, "ready")
        assert gateway.ask("/check?mint=orders", headers)[0] == 204
        assert gateway.ask("/check", bearer(jwt))[0] == 204
        server.kill()
        cut_off = time.monotonic()
        statuses = []
        while time.monotonic() - cut_off < 1.5:
            statuses += [
                gateway.ask(path, given)[0]
                for path, given in (
                    ("/check", headers),
                    ("/check?mint=orders", headers),
                    ("/check", bearer(jwt)),
                )
            ]
        assert set(statuses) == {204}
        # What is not in memory cannot be found out, and that is no word about the credential.
        status, told, _ = gateway.ask("/check", bearer(fresh["session_token"]))
        assert (status, told["retry-after"], told["x-auth-cause"]) == (503, "1", "authority_unavailable")
        eventually(lambda: gateway.ask("/check", headers)[0] == 503, "stale", within=30)
        assert time.monotonic() - cut_off > 2.0
        for path, given in (("/check", headers), ("/check?mint=orders", headers), ("/check", bearer(jwt))):
            status, told, _ = gateway.ask(path, given)
            assert (status, told["retry-after"], told["x-auth-cause"]) == (503, "1", "verifier_stale")
        assert gateway.ask("/readyz")[0] == 503
        assert gateway.ask("/livez")[0] == 200
        # The proxy may bear more for a route; below /check/ it is the client who asks, and may not.
        assert gateway.ask("/check?max_staleness=3600", bearer(jwt))[0] == 204
        assert gateway.ask("/check/shop?max_staleness=3600", bearer(jwt))[0] == 503
        deployment.start()
        eventually(lambda: gateway.ask("/check", headers)[0] == 204, "level again")


def test_before_it_is_level_it_refuses_and_so_does_every_proxy_in_front_of_it(
    tmp_path: Path, nobody_there: int, run_proxy: Any
) -> None:
    with running_gateway(tmp_path, f"http://127.0.0.1:{nobody_there}", ("gateway", "x")) as gateway:
        assert gateway.ask("/readyz")[0] == 503
        status, told, _ = gateway.ask("/check", bearer("kfs_" + "A" * 98))
        assert (status, told["x-auth-cause"]) == (503, "verifier_stale")
        for name in ("nginx", "caddy", "traefik", "envoy"):
            with run_proxy(name, keyfob=gateway.port) as front:
                assert front.refused("/orders/1", token="kfs_" + "A" * 98).status == 503
        gateway.end()
