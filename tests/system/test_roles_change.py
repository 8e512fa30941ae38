"""A role that is taken away is gone at the next request, everywhere, without a login: two workers, and a verifier elsewhere, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from keyfob import Denied, Verifier

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ADMIN = "keyfob:admin"


class Site:
    """A server of two workers, a verifier for the audience `orders`, and two administrators."""

    def __init__(self, deployment: Any) -> None:
        self.api = deployment.api
        credentials = deployment.add_client("orders", "keyfob:feed")
        deployment.add_users("alice", "root", roles=(ADMIN,))
        deployment.start("--workers", "2")
        self.verifier = Verifier.follow(
            self.api.url,
            audience="orders",
            credentials=credentials,
            heartbeat=timedelta(seconds=0.2),
            max_staleness=timedelta(seconds=2),
        )
        self.root = self.api.login("root", strategy="session").body["session_token"]

    def login(self, strategy: str) -> Any:
        reply = self.api.login("alice", strategy=strategy, audience=["orders", self.api.url])
        assert reply.status == 200, reply.raw
        return reply.body

    def set_roles(self, *roles: str) -> None:
        reply = self.api.request("PUT", "/admin/api/users/alice/roles", {"roles": roles}, token=self.root)
        assert reply.status == 200, reply.raw

    def refresh(self, login: dict[str, str]) -> dict[str, str]:
        reply = self.api.post("/refresh", {"refresh_token": login["refresh_token"]})
        assert reply.status == 200, reply.raw
        return dict(reply.body)

    def workers_say(self, path: str, token: str) -> set[int]:
        """Return the statuses of eight requests, of which each worker gets some."""
        return {self.api.get(path, token=token).status for _ in range(8)}

    def says(self, token: str, *roles: str) -> str:
        """Return `ok`, or the cause of the verifier's refusal."""
        try:
            self.verifier.authenticate_blocking(token, roles=roles)
        except Denied as denied:
            return denied.cause.value
        return "ok"


@pytest.fixture
def site(deploy: Callable[..., Any]) -> Iterator[Site]:
    site = Site(deploy(feed_heartbeat="0.2", refresh_replay_window="1"))
    with site.verifier:
        yield site


def test_a_demoted_administrator_is_out_everywhere_and_goes_on_without_a_login(site, eventually) -> None:
    login = site.login("hybrid")
    token = login["access_token"]
    assert site.says(token, ADMIN) == "ok"
    assert site.workers_say("/admin/api/users", token) == {200}

    site.set_roles("buyer")

    said = site.says(token, ADMIN)
    while said == "ok":  # milliseconds; another cause would fail below
        said = site.says(token, ADMIN)
    assert said == "stale_claims"
    assert site.says(token) == "stale_claims"
    eventually(lambda: site.workers_say("/session", token) == {401}, "both workers know")
    for _ in range(8):  # both workers
        for path in ("/admin/api/users", "/session", "/check"):
            reply = site.api.get(path, token=token)
            assert (reply.status, reply.headers["X-Auth-Cause"]) == (401, "stale_claims"), path
            assert reply.body["next"] == "refresh"

    fresh = site.refresh(login)  # the refresh token of the login before: it still works
    token = fresh["access_token"]
    assert fresh["session_id"] == login["session_id"]
    assert site.says(token) == "ok"
    assert site.verifier.verify(token).roles == {"buyer"}
    assert site.says(token, ADMIN) == "insufficient_role"
    for _ in range(8):
        assert site.api.get("/admin/api/users", token=token).code == "insufficient_role"
        assert site.api.get("/session", token=token).body["roles"] == ["buyer"]

    site.set_roles("buyer", ADMIN)
    eventually(lambda: site.says(token) == "stale_claims", "promoted: the verifier asks for a refresh")
    token = site.refresh(fresh)["access_token"]
    assert site.says(token, ADMIN, "buyer") == "ok"
    assert site.api.get("/admin/api/users", token=token).status == 200


def test_a_session_has_the_roles_of_today_at_its_next_request(site, eventually) -> None:
    token = site.login("session")["session_token"]
    assert site.says(token, ADMIN) == "ok"
    assert site.says(token, ADMIN) == "ok"
    assert site.verifier.stats().introspections == 1
    for _ in range(8):
        assert site.api.get("/session", token=token).body["roles"] == [ADMIN]

    site.set_roles("buyer")

    eventually(lambda: site.says(token, ADMIN) == "insufficient_role", "the verifier reads it anew")
    assert site.says(token, "buyer") == "ok"
    assert site.verifier.stats().introspections == 2
    assert site.verifier.verify(token).roles == {"buyer"}
    eventually(lambda: site.workers_say("/admin/api/users", token) == {403}, "both workers know")
    for _ in range(8):
        assert site.api.get("/session", token=token).body["roles"] == ["buyer"]
        assert site.api.get("/admin/api/users", token=token).code == "insufficient_role"


def test_one_that_cannot_refresh_is_told_to_log_in(site, eventually) -> None:
    token = site.login("jwt")["access_token"]
    assert site.says(token, ADMIN) == "ok"
    site.set_roles()
    eventually(lambda: site.says(token) == "stale_claims", "the verifier knows")
    eventually(lambda: site.workers_say("/session", token) == {401}, "both workers know")
    reply = site.api.get("/session", token=token)
    assert (reply.code, reply.body["next"]) == ("stale_claims", "login")
    assert site.api.get("/session", token=site.login("jwt")["access_token"]).body["roles"] == []
