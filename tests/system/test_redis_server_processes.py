"""`keyfob serve` on Redis: several workers, a kill, and what it says when it cannot start."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from keyfob import Denied, Verifier

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MASTER_KEY = base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
ASKED = 12  # requests, each over a connection of its own: enough to come to both workers


@pytest.fixture
def deployment(deploy: Any, redis_url: str) -> Any:
    return deploy(store=redis_url, master_key=MASTER_KEY)


def _statuses(deployment: Any, token: str) -> set[int]:
    statuses = set()
    for _ in range(ASKED):
        api = type(deployment.api)(deployment.url)
        statuses.add(api.get("/session", token=token).status)
        api.close()
    return statuses


def test_what_one_of_two_workers_revokes_everybody_denies_and_a_kill_changes_nothing(
    deployment: Any, eventually: Any, record_property: Any
) -> None:
    deployment.add_users("alice")
    credentials = deployment.add_client("orders", "keyfob:feed")
    server = deployment.start("--workers", "2")
    ended = deployment.api.login("alice", strategy="session").body["session_token"]
    hybrid = deployment.api.login("alice", strategy="hybrid", audience="orders").body
    assert _statuses(deployment, ended) == {200}
    with Verifier.follow(deployment.url, audience="orders", credentials=credentials) as verifier:
        assert verifier.verify(hybrid["access_token"])
        began = time.perf_counter()
        assert deployment.api.post("/logout", token=hybrid["refresh_token"]).status == 204
        answered = time.perf_counter()
        eventually(lambda: _is_denied(verifier, hybrid["access_token"]), "the verifier denies", within=1)
        record_property("denied_after_ms", (time.perf_counter() - answered) * 1000)
        record_property("revoked_in_ms", (answered - began) * 1000)
    assert deployment.api.post("/logout", token=ended).status == 204
    eventually(lambda: _statuses(deployment, ended) == {401}, "both workers deny", within=2)
    live = deployment.api.login("alice", strategy="hybrid").body["refresh_token"]

    server.kill()
    deployment.start("--workers", "2")

    assert _statuses(deployment, ended) == {401}
    refreshed = deployment.api.post("/refresh", {"refresh_token": live})
    assert refreshed.status == 200
    assert deployment.api.post("/refresh", {"refresh_token": hybrid["refresh_token"]}).status == 401


def _is_denied(verifier: Verifier, token: str) -> bool:
    try:
        verifier.verify(token)
    except Denied as denied:
        return denied.cause == "revoked"
    return False


def test_without_a_master_key_it_does_not_start(deploy: Any, redis_url: str) -> None:
    refused = deploy(store=redis_url).command("serve")
    assert refused.returncode == 1
    assert "KEYFOB_MASTER_KEY" in refused.stderr
