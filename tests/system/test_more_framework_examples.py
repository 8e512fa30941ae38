"""The examples of aiohttp, Litestar, gRPC and Flask's sessions, started for real: two worker processes each, one journey each."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import websockets

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

EXAMPLES = Path(__file__).parents[2] / "examples"
DENIED_WITHIN = 1.0  # seconds; far above the milliseconds that it takes, for a machine that is busy
STRATEGIES = ("session", "jwt", "hybrid")


@contextmanager
def running(place: Any, *commands: list[str], folder: Path = EXAMPLES, **environment: str) -> Iterator[None]:
    """Run *commands* beside each other until the block is left."""
    processes = []
    with (place.folder / "service.log").open("wb") as log:
        for command in commands:
            processes.append(
                subprocess.Popen(
                    [sys.executable, *command],
                    cwd=folder,
                    env={**os.environ, **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(20)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


class Issuer:
    """The server that a service follows."""

    def __init__(self, deploy: Callable[..., Any]) -> None:
        self.deployment = deploy(feed_heartbeat="0.5")
        self.client = self.deployment.add_client("orders", "keyfob:feed")
        self.deployment.add_users("alice", "bob")
        self.deployment.add_users("carol", roles=("payer",))
        self.deployment.add_users("admin", roles=("keyfob:admin",))
        self.deployment.start()
        self.environment = {
            "ISSUER": self.deployment.url,
            "CLIENT_ID": self.client[0],
            "CLIENT_SECRET": self.client[1],
        }

    @property
    def api(self) -> Any:
        return self.deployment.api

    def login(self, name: str, strategy: str = "hybrid", audience: str = "orders") -> str:
        reply = self.api.login(name, strategy=strategy, audience=[audience, self.api.url])
        assert reply.status == 200, reply.raw
        return str(reply.body.get("session_token") or reply.body["access_token"])

    def revoke(self, name: str) -> None:
        admin = self.api.login("admin", strategy="session").body["session_token"]
        found = self.api.get(f"/admin/api/users/{name}", token=admin).body
        order = {"scope": "subject", "id": found["subject"]}
        assert self.api.post("/admin/api/revocations", order, token=admin).status == 201


HTTP = {
    "aiohttp": (
        *("gunicorn", "aiohttp_service:make_app", "--worker-class", "aiohttp.GunicornWebWorker"),
        *("--workers", "2", "--log-level", "error", "-b"),
    ),
    "litestar": ("uvicorn", "litestar_service:app", "--workers", "2", "--log-level", "error", "--port"),
}


@pytest.mark.parametrize("framework", sorted(HTTP))
def test_an_http_service_denies_in_every_worker_within_moments(framework, deploy, eventually):
    issuer, place = Issuer(deploy), deploy()
    where = f"127.0.0.1:{place.port}" if framework == "aiohttp" else str(place.port)
    with running(place, ["-m", *HTTP[framework], where], **issuer.environment):
        eventually(lambda: answers(place.api, "/orders") == 401, "the service answers", within=40.0)
        tokens = {strategy: issuer.login("alice", strategy) for strategy in STRATEGIES}
        for token in tokens.values():
            both_workers(place.api, "/orders", token)
        refuses_what_is_no_credential(place.api, issuer)
        refused = place.api.post("/payments", token=tokens["jwt"])
        assert (refused.status, refused.code) == (403, "insufficient_role")
        assert place.api.post("/payments", token=issuer.login("carol")).status in {200, 201}
        ends_by_logout(place.api, issuer, eventually)

        assert asyncio.run(chat(place.port, tokens["hybrid"], lambda: issuer.revoke("alice"))) == (
            1008,
            "revoked",
        )

        for token in tokens.values():
            eventually(
                lambda token=token: is_denied(place.api, "/orders", token), "both deny", within=DENIED_WITHIN
            )
        both_workers(place.api, "/orders", issuer.login("bob"))


def answers(api: Any, path: str) -> int:
    try:
        return int(api.get(path).status)
    except api.NoAnswer:
        return 0


def both_workers(api: Any, path: str, token: str) -> None:
    """Ask until both workers have answered."""
    found: set[str] = set()
    until = time.monotonic() + 20
    while len(found) < 2:
        assert time.monotonic() < until, "one worker alone answers"
        api.close()  # a new connection may reach the other worker
        reply = api.get(path, token=token)
        assert reply.status == 200, reply.raw
        found.add(reply.body["process"])


def is_denied(api: Any, path: str, token: str) -> bool:
    replies = []
    for _ in range(8):
        api.close()
        replies.append(api.get(path, token=token))
    return all(reply.status == 401 and reply.code == "revoked" for reply in replies)


def refuses_what_is_no_credential(api: Any, issuer: Issuer) -> None:
    token = issuer.login("alice", "jwt")
    other = issuer.login("alice", "jwt", audience="stock")
    causes = [
        api.get("/orders", token=text).code for text in (None, token[:-6] + "AAAAAA", "kfs_nonsense", other)
    ]
    assert causes == ["no_credential", "bad_signature", "malformed", "wrong_audience"]


def ends_by_logout(api: Any, issuer: Issuer, eventually: Any) -> None:
    token = issuer.login("bob", "session")
    both_workers(api, "/orders", token)
    assert issuer.api.post("/logout", token=token).status == 204
    eventually(lambda: is_denied(api, "/orders", token), "both workers deny", within=DENIED_WITHIN)


async def chat(port: int, token: str, revoke: Callable[[], None]) -> tuple[int, str]:
    """Talk over a WebSocket until it is ended by *revoke*; return how."""
    async with websockets.connect(
        f"ws://127.0.0.1:{port}/chat", additional_headers={"Authorization": f"Bearer {token}"}
    ) as websocket:
        await websocket.send("hello")
        assert str(await websocket.recv()).endswith(": hello")
        await asyncio.to_thread(revoke)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await asyncio.wait_for(websocket.recv(), 10)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


class Calls:
    """Calls a gRPC service, over a connection of its own each time, which may reach either process."""

    def __init__(self, port: int) -> None:
        self._port = port

    @contextmanager
    def open(self) -> Iterator[Any]:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{self._port}", options=options) as channel:
            yield channel

    def call(self, method: str, token: str | None) -> Any:
        metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        with self.open() as channel:
            return channel.unary_unary(f"/shop.Orders/{method}", write, json.loads)(
                {}, metadata=metadata, timeout=20
            )

    def processes(self, token: str) -> int:
        """Say how many processes answer eight calls."""
        return len({self.call("Get", token)["process"] for _ in range(8)})

    def refusal(self, method: str, token: str | None) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as error:
            self.call(method, token)
        return why(error.value)

    def is_denied(self, token: str) -> bool:
        try:
            self.call("Get", token)
        except grpc.RpcError as error:
            return why(error) == ("UNAUTHENTICATED", "revoked")
        return False


def write(message: object) -> bytes:
    return json.dumps(message).encode()


def why(error: Any) -> tuple[str, str]:
    return error.code().name, dict(error.trailing_metadata() or ()).get("x-auth-cause", "")


@pytest.mark.parametrize("script", ["grpc_service.py", "grpc_aio_service.py"])
def test_a_grpc_service_denies_in_every_process_and_ends_its_streams(script, deploy, eventually):
    issuer, place = Issuer(deploy), deploy()
    calls = Calls(place.port)
    environment = {**issuer.environment, "PORT": str(place.port)}
    with running(place, [script], [script], **environment):  # two processes on one port
        eventually(lambda: serves(calls), "the service answers", within=40.0)
        tokens = {strategy: issuer.login("alice", strategy) for strategy in STRATEGIES}
        for token in tokens.values():
            assert "subject" in calls.call("Get", token)
        eventually(lambda: calls.processes(tokens["jwt"]) == 2, "both processes answer")
        assert calls.refusal("Get", None) == ("UNAUTHENTICATED", "no_credential")
        assert calls.refusal("Get", tokens["jwt"][:-6] + "AAAAAA") == ("UNAUTHENTICATED", "bad_signature")
        assert calls.refusal("Get", issuer.login("alice", "jwt", "stock")) == (
            "UNAUTHENTICATED",
            "wrong_audience",
        )
        assert calls.refusal("Pay", tokens["jwt"]) == ("PERMISSION_DENIED", "insufficient_role")
        assert "paid" in calls.call("Pay", issuer.login("carol"))
        with calls.open() as channel:
            watch = channel.unary_stream("/shop.Orders/Watch", write, json.loads)
            stream = watch({}, metadata=(("authorization", f"Bearer {tokens['session']}"),), timeout=60)
            assert "hello" in next(stream)

            issuer.revoke("alice")

            with pytest.raises(grpc.RpcError) as error:
                next(stream)
            assert why(error.value) == ("UNAUTHENTICATED", "revoked")
        for token in tokens.values():
            eventually(
                lambda token=token: all(calls.is_denied(token) for _ in range(6)),
                "both processes deny",
                within=5 * DENIED_WITHIN,  # a connection for each call takes its time
            )


def serves(calls: Calls) -> bool:
    try:
        calls.call("Get", None)
    except grpc.RpcError as error:
        return why(error)[0] == "UNAUTHENTICATED"
    return False


class Browser:
    """Keeps the cookies of one user of the Flask example."""

    def __init__(self, api: Any) -> None:
        self._api = api
        self.cookies: dict[str, str] = {}

    def send(self, method: str, path: str, body: Any = None) -> Any:
        self._api.close()  # a new connection may reach the other worker
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        first, _, rest = cookie.partition("=")
        reply = self._api.request(method, path, body, cookie=(first, rest) if cookie else None)
        for header in reply.headers.getlist("Set-Cookie"):
            name, _, value = header.partition(";")[0].partition("=")
            self.cookies.pop(name, None)
            if value:
                self.cookies[name] = value
        return reply

    def both(self, path: str) -> list[Any]:
        """Ask until both workers have answered."""
        found: dict[str, Any] = {}
        until = time.monotonic() + 20
        while len(found) < 2:
            assert time.monotonic() < until, "one worker alone answers"
            body = self.send("GET", path).body
            found[body.pop("process")] = body
        return list(found.values())


SID = "Ykhpk_Wfl-qY2fw_to2OBJkqbcZr0vrRiufBS7NMceE"


@pytest.fixture
def shop(deploy: Callable[..., Any], eventually: Any) -> Iterator[Any]:
    """`flask_sessions.py` on two workers of a gunicorn that opened the authority before it forked them."""
    place = deploy()
    former = place.folder / "former"
    former.mkdir()
    kept = struct.pack("I", int(time.time()) + 3600) + pickle.dumps({"user_id": "user-18", "cart": ["tea"]})
    (former / hashlib.sha256(f"session:{SID}".encode()).hexdigest()).write_bytes(kept)
    command = [
        "-m",
        "gunicorn",
        "--chdir",
        str(EXAMPLES),
        "flask_sessions:app",
        "--preload",
        "--workers",
        "2",
    ]
    environment = {
        "STORE": place.store,
        "ISSUER": place.url,
        "FORMER_SESSIONS": str(former),
        "FORMER_SESSIONS_UNTIL": (datetime.now(UTC) + timedelta(days=14)).isoformat(),
    }
    command += ["--threads", "4", "--log-level", "error", "-b", f"127.0.0.1:{place.port}"]
    with running(place, command, folder=place.folder, **environment):
        eventually(lambda: answers(place.api, "/me") == 401, "the application answers", within=40.0)
        yield place


PASSWORD = {"username": "alice", "password": "correct horse battery"}


def test_the_sessions_of_a_flask_application_on_two_workers(shop, eventually):
    browser = Browser(shop.api)
    browser.send("POST", "/cart/tea")
    browser.send("POST", "/cart/cake")
    assert browser.both("/cart") == [{"cart": ["tea", "cake"]}] * 2
    assert browser.send("GET", "/me").code == "no_credential"
    assert browser.send("POST", "/login", PASSWORD | {"password": "wrong"}).code == "bad_credentials"
    planted = dict(browser.cookies)

    assert browser.send("POST", "/login", PASSWORD).status == 200

    assert browser.both("/me") == [{"subject": "user-17"}] * 2
    assert browser.both("/cart") == [{"cart": ["tea", "cake"]}] * 2
    thief = Browser(shop.api)
    thief.cookies = planted
    assert thief.both("/cart") == [{"cart": []}] * 2
    refused = browser.send("POST", "/payments")
    assert (refused.status, refused.code) == (403, "insufficient_role")
    stolen = dict(browser.cookies)
    assert browser.send("POST", "/logout").status == 204
    assert browser.cookies == {}
    thief.cookies = dict(stolen)
    eventually(
        lambda: {thief.send("GET", "/me").code for _ in range(8)} == {"revoked"}, "deny", within=DENIED_WITHIN
    )
    assert thief.both("/cart") == [{"cart": []}] * 2


def test_an_operator_cuts_off_a_user_of_flask_sessions_in_every_strategy(shop, eventually):
    browser = Browser(shop.api)
    browser.send("POST", "/login", PASSWORD)
    grants = {name: shop.api.post("/login", PASSWORD | {"strategy": name}).body for name in ("jwt", "hybrid")}
    again = shop.api.post("/refresh", {"refresh_token": grants["hybrid"]["refresh_token"]})
    assert again.status == 200
    tokens = [browser.cookies["__Host-session"], grants["jwt"]["access_token"], again.body["access_token"]]
    for token in tokens:
        both_workers(shop.api, "/me", token)

    ended = shop.command("revoke", "subject", "user-17", "--reason", "stolen at night")

    assert ended.returncode == 0, ended.stderr
    for token in tokens:
        eventually(lambda token=token: is_denied(shop.api, "/me", token), "both deny", within=DENIED_WITHIN)
    assert shop.api.post("/refresh", {"refresh_token": again.body["refresh_token"]}).code == "revoked"
    assert browser.both("/cart") == [{"cart": []}] * 2


def test_a_session_of_flask_session_is_taken_over(shop):
    browser = Browser(shop.api)
    browser.cookies["session"] = SID
    assert browser.send("GET", "/me").body["subject"] == "user-18"
    assert "session" not in browser.cookies
    assert browser.both("/me") == [{"subject": "user-18"}] * 2
    assert browser.both("/cart") == [{"cart": ["tea"]}] * 2
