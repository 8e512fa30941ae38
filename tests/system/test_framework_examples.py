"""The applications of `examples/` beside a real server: two worker processes each, real sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

EXAMPLES = Path(__file__).parents[2] / "examples"
DENIED_WITHIN = 1.0  # seconds; far above the milliseconds that it takes, for a machine that is busy
SERVERS = {
    "fastapi": ["uvicorn", "fastapi_service:app", "--workers", "2", "--log-level", "error", "--port"],
    "flask": [
        "gunicorn",
        "flask_service:app",
        "--workers",
        "2",
        "--threads",
        "4",
        "--log-level",
        "error",
        "-b",
    ],
    "flask-preload": [
        *("gunicorn", "flask_service:app", "--workers", "2", "--threads", "4", "--preload"),
        *("--log-level", "error", "-b"),
    ],
}


class Service:
    """An example application, the server that it follows, and a client of it."""

    def __init__(self, authority: Any, service: Any) -> None:
        self.authority = authority
        self.deployment = service
        self.api = service.api

    def login(self, name: str, strategy: str = "hybrid") -> str:
        reply = self.authority.api.login(name, strategy=strategy, audience=["orders", self.authority.api.url])
        assert reply.status == 200, reply.raw
        return reply.body.get("session_token") or reply.body["access_token"]

    def revoke(self, name: str) -> None:
        admin = self.authority.api.login("admin", strategy="session").body["session_token"]
        reply = self.authority.api.post(
            "/admin/api/revocations", {"scope": "subject", "id": self.subject(name)}, token=admin
        )
        assert reply.status == 201, reply.raw

    def subject(self, name: str) -> str:
        return self.authority.with_authority(lambda authority: _subject(authority, name))

    def processes(self, token: str) -> set[str]:
        """Ask until both workers have answered."""
        found: set[str] = set()
        until = time.monotonic() + 20
        while len(found) < 2 and time.monotonic() < until:
            self.api.close()  # a new connection may reach the other worker
            reply = self.api.get("/orders", token=token)
            assert reply.status == 200, reply.raw
            found.add(reply.body["process"])
        return found


async def _subject(authority: Any, name: str) -> str:
    account = await authority.accounts.find(name)
    return str(account.subject)


@pytest.fixture(params=sorted(SERVERS))
def service(request: pytest.FixtureRequest, deploy: Callable[..., Any], eventually: Any) -> Iterator[Service]:
    authority, place = deploy(feed_heartbeat="0.5"), deploy()
    client_id, secret = authority.add_client("orders", "keyfob:feed")
    authority.add_users("alice", "bob")
    authority.add_users("carol", roles=("payer",))
    authority.add_users("admin", roles=("keyfob:admin",))
    authority.start()
    where = str(place.port) if request.param == "fastapi" else f"127.0.0.1:{place.port}"
    with (place.folder / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *SERVERS[request.param], where],
            cwd=EXAMPLES,
            env={**os.environ, "ISSUER": authority.url, "CLIENT_ID": client_id, "CLIENT_SECRET": secret},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        running = Service(authority, place)
        eventually(lambda: _answers_at(place.api, "/orders"), "the service answers", within=40.0)
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _answers_at(api: Any, path: str) -> bool:
    try:
        return api.get(path).status == 401
    except api.NoAnswer:
        return False


def test_every_worker_denies_a_revoked_user_within_moments_in_every_strategy(service, eventually):
    tokens = {strategy: service.login("alice", strategy) for strategy in ("session", "jwt", "hybrid")}
    for token in tokens.values():
        assert len(service.processes(token)) == 2

    service.revoke("alice")

    for token in tokens.values():
        eventually(lambda token=token: _is_denied(service, token), "both workers deny", within=DENIED_WITHIN)
    bob = service.login("bob")
    assert len(service.processes(bob)) == 2


def _is_denied(service: Any, token: str) -> bool:
    return _is_denied_at(service, "/orders", token)


def _is_denied_at(service: Any, path: str, token: str) -> bool:
    replies = []
    for _ in range(8):
        service.api.close()
        replies.append(service.api.get(path, token=token))
    return all(reply.status == 401 and reply.code == "revoked" for reply in replies)


@pytest.mark.parametrize("service", ["fastapi", "flask"], indirect=True)
def test_a_route_with_a_policy_takes_who_meets_it(service):
    refused = service.api.post("/payments", token=service.login("alice"))
    assert (refused.status, refused.code) == (403, "insufficient_role")
    assert service.api.post("/payments", token=service.login("carol")).status == 200


@pytest.mark.parametrize("service", ["fastapi", "flask"], indirect=True)
def test_what_is_no_credential_of_ours_is_refused_with_its_cause(service):
    token = service.login("alice", "jwt")
    causes = {
        "": service.api.get("/orders").code,
        "tampered": service.api.get("/orders", token=token[:-6] + "AAAAAA").code,
        "nonsense": service.api.get("/orders", token="kfs_nonsense").code,
    }
    assert causes == {"": "no_credential", "tampered": "bad_signature", "nonsense": "malformed"}
    other = service.authority.api.login("alice", strategy="jwt", audience="stock").body["access_token"]
    assert service.api.get("/orders", token=other).code == "wrong_audience"


@pytest.mark.parametrize("service", ["fastapi", "flask"], indirect=True)
def test_a_logout_at_the_authority_reaches_the_service(service, eventually):
    token = service.login("alice", "session")
    assert len(service.processes(token)) == 2

    assert service.authority.api.post("/logout", token=token).status == 204

    eventually(lambda: _is_denied(service, token), "both workers deny", within=DENIED_WITHIN)


@pytest.mark.parametrize("service", ["fastapi"], indirect=True)
def test_a_websocket_of_the_service_ends_with_its_user(service):
    token = service.login("alice")

    async def chat() -> tuple[int, str]:
        async with websockets.connect(
            f"ws://127.0.0.1:{service.deployment.port}/chat",
            additional_headers={"Authorization": f"Bearer {token}"},
        ) as websocket:
            await websocket.send("hello")
            assert (await websocket.recv()).endswith(": hello")
            await asyncio.to_thread(service.revoke, "alice")
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await asyncio.wait_for(websocket.recv(), 10)
        return closed.value.rcvd.code, closed.value.rcvd.reason

    assert asyncio.run(chat()) == (1008, "revoked")


@pytest.fixture
def embedded(deploy: Callable[..., Any], eventually: Any) -> Iterator[Any]:
    """`fastapi_embedded.py` on two workers, each with an authority on the one database."""
    place = deploy()
    with (place.folder / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "fastapi_embedded:app"),
                *("--workers", "2", "--log-level", "error", "--port", str(place.port)),
            ],
            cwd=place.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        eventually(lambda: _answers_at(place.api, "/me"), "the application answers", within=40.0)
        yield place
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def test_an_operator_cuts_off_a_user_of_an_application_that_holds_its_authority(embedded, eventually):
    body = {"username": "alice", "password": "correct horse battery", "transport": "body"}
    grants = [embedded.api.post("/login", {**body, "strategy": s}).body for s in ("session", "jwt", "hybrid")]
    tokens = [grant.get("session_token") or grant["access_token"] for grant in grants]
    assert [embedded.api.get("/me", token=token).body for token in tokens] == [{"subject": "user-17"}] * 3

    ended = embedded.command("revoke", "subject", "user-17", "--reason", "left")

    assert ended.returncode == 0, ended.stderr
    for token in tokens:
        eventually(
            lambda token=token: _is_denied_at(embedded, "/me", token), "both deny", within=DENIED_WITHIN
        )
    assert embedded.api.post("/refresh", {"refresh_token": grants[2]["refresh_token"]}).code == "revoked"
