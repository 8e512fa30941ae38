"""`keyfob serve` on PostgreSQL and on Redis: several workers, a kill, and what it says when it cannot start."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from keyfob import Denied, Verifier

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MASTER_KEY = base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
ASKED = 24  # requests, each over a connection of its own: enough to come to both workers


@pytest.fixture(params=["postgres_url", "redis_url"])
def store_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def deployment(deploy: Any, store_url: str) -> Any:
    return deploy(store=store_url, master_key=MASTER_KEY)


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


def test_a_database_without_a_schema_asks_for_migrate(deploy: Any, postgres_server: Any) -> None:
    # The database of the server itself: nobody has migrated it.
    empty = postgres_server.url("postgres").replace("keyfob@", "keyfob:hunter2@")
    deployment = deploy(store=empty, master_key=MASTER_KEY)
    refused = deployment.command("serve")
    assert refused.returncode == 1
    assert "keyfob migrate" in refused.stderr
    assert "hunter2" not in refused.stderr + refused.stdout


def test_migrate_says_what_it_did(deploy: Any, postgres_url: str) -> None:
    deployment = deploy(store=postgres_url)
    done = deployment.command("migrate")
    assert done.returncode == 0
    assert "nothing changed" in done.stdout


def test_without_a_master_key_it_does_not_start(deploy: Any, store_url: str) -> None:
    refused = deploy(store=store_url).command("serve")
    assert refused.returncode == 1
    assert "KEYFOB_MASTER_KEY" in refused.stderr
