"""Services that call a guarded one, with real servers and sockets everywhere."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from keyfob.base.errors import ConfigurationError, Denied
from keyfob.integrations.httpx import ServiceAuth as HttpxAuth
from keyfob.integrations.httpx import SigningClient
from keyfob.integrations.requests import ServiceAuth as RequestsAuth

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PAGE = ROOT / "docs" / "how-to" / "call-another-service.md"


class Elsewhere:
    """A server that is not ours: it redirects, and remembers what it was sent."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None]] = []
        self.target = ""
        elsewhere = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                elsewhere.seen.append((self.path, self.headers.get("Authorization")))
                self.send_response(302 if self.path == "/away" else 401)
                if self.path == "/away":
                    self.send_header("Location", elsewhere.target)
                else:
                    self.send_header("X-Auth-Cause", "expired")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class World:
    """An authority, the client `billing`, and where the service `orders` is that it calls: nowhere, unless it is started."""

    def __init__(self, authority: Any, secret: str) -> None:
        self.authority = authority
        self.orders = "http://127.0.0.1:9"
        self.secret = secret

    def auth(self, kind: Any = HttpxAuth, **options: Any) -> Any:
        options = {
            "credentials": ("billing", self.secret),
            "audience": "orders",
            "origins": self.orders,
            **options,
        }
        return kind(self.authority.url, **options)

    def command(self, *arguments: str) -> str:
        done = self.authority.command(*arguments)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)


@pytest.fixture
def desk(deploy: Callable[..., Any]) -> World:
    """An authority that runs, and no service."""
    authority = deploy(feed_heartbeat="0.5")
    _, secret = authority.add_client("billing", "orders:read")
    authority.start()
    return World(authority, secret)


@pytest.fixture
def world(desk: World, deploy: Callable[..., Any], eventually: Any) -> Iterator[World]:
    """An authority, and the service `orders` that follows it."""
    authority, place = desk.authority, deploy()
    client_id, follower_secret = authority.add_client("orders", "keyfob:feed")
    with (place.folder / "orders.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "fastapi_service:app", "--log-level", "error"),
                *("--port", str(place.port)),
            ],
            cwd=EXAMPLES,
            env={
                **os.environ,
                "ISSUER": authority.url,
                "CLIENT_ID": client_id,
                "CLIENT_SECRET": follower_secret,
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        eventually(lambda: _answers(place.api), "the service answers", within=40.0)
        desk.orders = place.api.url
        yield desk
    finally:
        process.terminate()
        process.wait(20)


def _answers(api: Any) -> bool:
    try:
        return bool(api.get("/orders").status == 401)
    except api.NoAnswer:
        return False


def test_every_way_of_calling_is_let_in_and_survives_revocations(world: World) -> None:
    httpx_auth, requests_auth = world.auth(), world.auth(RequestsAuth)
    session = requests.Session()
    session.auth = requests_auth

    async def in_tasks() -> list[tuple[int, int]]:
        async with httpx.AsyncClient(base_url=world.orders, auth=httpx_auth) as client:
            answers = await asyncio.gather(*(client.get("/orders") for _ in range(8)))
        return [(answer.status_code, len(answer.history)) for answer in answers]

    def in_threads() -> list[tuple[int, int]]:
        with ThreadPoolExecutor(4) as pool, httpx.Client(base_url=world.orders, auth=httpx_auth) as client:
            answers = list(pool.map(lambda _: client.get("/orders"), range(8)))
        return [(answer.status_code, len(answer.history)) for answer in answers]

    def by_requests() -> tuple[int, int, str]:
        answer = session.post(f"{world.orders}/payments", data=b"body")  # refused for its role, not its token
        return answer.status_code, len(answer.history), answer.headers["X-Auth-Cause"]

    assert asyncio.run(in_tasks()) == [(200, 0)] * 8
    assert in_threads() == [(200, 0)] * 8
    assert by_requests() == (403, 0, "insufficient_role")
    for reach in ("claims", "end"):
        world.command("revoke", "client", "billing", "--reach", reach)
        # Whoever comes first is refused and comes again with a new token, which the others then have.
        answers = asyncio.run(in_tasks())
        assert {status for status, _ in answers} == {200}
        assert max(again for _, again in answers) == 1
        assert by_requests() == (403, 1, "insufficient_role")
        assert in_threads() == [(200, 0)] * 8
        assert by_requests() == (403, 0, "insufficient_role")


def test_a_body_that_cannot_be_sent_again_is_not(world: World) -> None:
    def stream() -> Iterator[bytes]:
        yield b"once"

    auth, other = world.auth(), world.auth(RequestsAuth)
    with httpx.Client(base_url=world.orders, auth=auth) as client:
        assert client.get("/orders").status_code == 200
        assert requests.get(f"{world.orders}/orders", auth=other, timeout=20).status_code == 200
        world.command("revoke", "client", "billing", "--reach", "claims")
        answer = client.post("/payments", content=stream())
        assert (answer.status_code, answer.headers["X-Auth-Cause"]) == (401, "stale_claims")
        refused = requests.post(f"{world.orders}/payments", data=stream(), auth=other, timeout=20)
        assert (refused.status_code, refused.headers["X-Auth-Cause"]) == (401, "stale_claims")


@pytest.mark.meets("9700-4.3")
def test_a_token_never_leaves_for_another_origin(desk: World) -> None:
    here, away = Elsewhere(), Elsewhere()
    try:
        here.target = f"{away.url}/stolen"
        auth, other = desk.auth(origins=here.url), desk.auth(RequestsAuth, origins=here.url)
        with httpx.Client(auth=auth, follow_redirects=True) as client:
            assert client.get(f"{here.url}/away").status_code == 401
            with pytest.raises(ConfigurationError, match="none of the origins"):
                client.get(f"{away.url}/directly")
        assert requests.get(f"{here.url}/away", auth=other, timeout=20).status_code == 401
        with pytest.raises(ConfigurationError, match="none of the origins"):
            requests.get(f"{away.url}/directly", auth=other, timeout=20)
        assert [path for path, _ in here.seen] == ["/away"] * 2
        assert all(sent is not None and sent.startswith("Bearer ey") for _, sent in here.seen)
        assert away.seen == [("/stolen", None)] * 2
    finally:
        here.close()
        away.close()


def test_a_client_can_sign_and_an_api_key_can_be_exchanged(world: World, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    public = tmp_path / "robot.pub"
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    world.command("client", "add", "robot", "--public-keys", str(public))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    signing = world.auth(credentials=SigningClient.from_pem("robot", pem))
    assert httpx.get(f"{world.orders}/orders", auth=signing).json()["subject"] == "robot"

    shown = world.command("api-key", "add", "deploy", "--client", "billing", "--audience", "orders")
    (text,) = re.findall(r"kfk_[A-Za-z0-9_-]+", shown)
    (key_id,) = re.findall(r"key_id:\s+([0-9a-f]{32})", shown)
    exchanging = world.auth(RequestsAuth, credentials=text)
    assert requests.get(f"{world.orders}/orders", auth=exchanging, timeout=20).json()["subject"] == "billing"
    # The key itself is a credential at a service that may ask about it.
    directly = {"Authorization": f"Bearer {text}"}
    assert httpx.get(f"{world.orders}/orders", headers=directly).json()["subject"] == "billing"
    world.command("api-key", "revoke", key_id)
    with pytest.raises(ConfigurationError, match="invalid_request"):
        requests.get(f"{world.orders}/orders", auth=exchanging, timeout=20)
    assert httpx.get(f"{world.orders}/orders", headers=directly).headers["X-Auth-Cause"] == "revoked"


def test_the_example_goes_on_through_a_rotation_and_stops_when_compromised(world: World) -> None:
    environment = {
        **os.environ,
        "ISSUER": world.authority.url,
        "ORDERS": world.orders,
        "CLIENT_ID": "billing",
        "CLIENT_SECRET": world.secret,
    }
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "call_another_service.py")],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None

        def call() -> str:
            process.stdin.write("\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        assert call() == "200 billing"
        world.command("client", "rotate-secret", "billing")
        world.command("revoke", "client", "billing")
        assert call() == "200 billing"
        world.command("client", "rotate-secret", "billing", "--compromised")
        assert call() == ""
        assert "bad_credentials" in process.stderr.read()
        assert process.wait(20) == 1


def test_a_wrong_secret_is_named_as_what_it_is(desk: World) -> None:
    with pytest.raises(Denied, match="bad_credentials"):
        httpx.get(f"{desk.orders}/orders", auth=desk.auth(credentials=("billing", "kfc_wrong")))
    with pytest.raises(ConfigurationError, match="invalid_scope"):
        httpx.get(f"{desk.orders}/orders", auth=desk.auth(scopes={"orders:write"}))
    for wrong in ({"credentials": "kfs_nonsense"}, {"scopes": "orders:read"}, {"ca": "/nowhere.pem"}):
        with pytest.raises(ConfigurationError):
            desk.auth(**wrong)


def test_the_page_shows_the_example_as_it_is() -> None:
    block = PAGE.read_text("utf-8").partition("```python\n")[2].partition("```")[0]
    assert block == (EXAMPLES / "call_another_service.py").read_text("utf-8")
