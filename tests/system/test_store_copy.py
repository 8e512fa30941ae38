"""`keyfob store copy` while `keyfob serve` runs: after the switch the old server says that its store has moved, and nobody is logged out."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from keyfob import Denied, Verifier

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MASTER_KEY = base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
ASKED = 10  # requests, each over a connection of its own: enough to come to both workers
PAUSE = 0.1  # seconds, in which somebody else gets the processor
PATHS = ("/session", "/check", "/sessions")


class Busy:
    """Somebody who logs in, refreshes and logs out all the time, and what was acknowledged to him."""

    def __init__(self, deployment: Any) -> None:
        self._api = type(deployment.api)(deployment.url)
        self.live: list[str] = []
        self.ended: list[str] = []
        self.refused: set[tuple[int, str]] = set()

    def go_on(self, until: threading.Event) -> None:
        number = 0
        while not until.wait(PAUSE):
            number += 1
            reply = self._api.login("bob", strategy="hybrid")
            if not self._was_done(reply):
                continue
            token = reply.body["refresh_token"]
            reply = self._api.post("/refresh", {"refresh_token": token})
            # Refused or not, the token is good for another try.
            token = reply.body["refresh_token"] if self._was_done(reply) else token
            if number % 2:
                self.live.append(token)
            elif self._was_done(self._api.post("/logout", token=token)):
                self.ended.append(token)
        self._api.close()

    def _was_done(self, reply: Any) -> bool:
        if reply.status >= 400:
            self.refused.add((reply.status, reply.code))
        return bool(reply.status < 400)


@contextmanager
def busy(deployment: Any) -> Iterator[Busy]:
    user, until = Busy(deployment), threading.Event()
    thread = threading.Thread(target=user.go_on, args=(until,))
    thread.start()
    try:
        yield user
    finally:
        until.set()
        thread.join()


def everywhere(deployment: Any, path: str, **credential: Any) -> set[tuple[int, str]]:
    """What the workers answer."""
    answers = set()
    for _ in range(ASKED):
        api = type(deployment.api)(deployment.url)
        reply = api.get(path, **credential)
        if reply.status == 503:
            assert int(reply.headers["Retry-After"]) >= 1
            assert "Set-Cookie" not in reply.headers
            assert "WWW-Authenticate" not in reply.headers
        answers.add((reply.status, reply.code))
        api.close()
    return answers


def cause(verifier: Verifier, token: str) -> str | None:
    try:
        verifier.verify(token)
    except Denied as denied:
        return str(denied.cause)
    return None


@pytest.mark.parametrize("way", ["sqlite to postgresql", "postgresql to sqlite"])
def test_after_the_switch_the_old_server_says_so_and_nobody_is_logged_out(
    deploy: Any, postgres_url: str, tmp_path: Path, way: str, eventually: Any
) -> None:
    urls = {"sqlite": f"sqlite:///{tmp_path}/keyfob.db", "postgresql": postgres_url}
    source, target = (urls[kind] for kind in way.split(" to "))
    deployment = deploy(store=source, master_key=MASTER_KEY, feed_heartbeat="0.2")
    deployment.add_users("alice", "bob")
    credentials = deployment.add_client("orders", "keyfob:feed")
    old = deployment.start("--workers", "2")
    api = deployment.api
    session = api.login("alice", strategy="session").body["session_token"]
    hybrid = api.login("alice", strategy="hybrid", audience="orders").body
    ended = api.login("alice", strategy="hybrid", audience="orders").body
    with Verifier.follow(deployment.url, audience="orders", credentials=credentials) as verifier:
        assert cause(verifier, ended["access_token"]) is None
        with busy(deployment) as user:
            level = deployment.command("store", "copy", source, target)
            assert level.returncode == 0, level.stderr
            assert api.post("/logout", token=ended["refresh_token"]).status == 204
            later = api.login("alice", strategy="session").body["session_token"]
            eventually(lambda: len(user.ended) > 3, "others go on while it is copied")
            assert everywhere(deployment, "/session", token=session) == {(200, "")}  # in the memory of both
            switched = deployment.command("store", "copy", source, target, "--switch")
            assert switched.returncode == 0, switched.stderr

            assert everywhere(deployment, "/readyz") == {(503, "store_moved")}
            for path in PATHS:
                ((status, _),) = everywhere(deployment, path, token=session)
                assert status == 503
            assert everywhere(deployment, "/healthz") == {(200, "")}
        assert {status for status, _ in user.refused} == {503}
        assert cause(verifier, hybrid["access_token"]) in {None, "verifier_stale"}

        old.end()
        deployment.move_to(target)
        deployment.start()

        for token in (session, later):
            assert api.get("/session", token=token).status == 200
        assert api.get("/session", token=ended["access_token"]).code == "revoked"
        assert api.post("/refresh", {"refresh_token": ended["refresh_token"]}).code == "revoked"
        for token in user.live:
            assert api.post("/refresh", {"refresh_token": token}).status == 200
        for token in user.ended:
            assert api.post("/refresh", {"refresh_token": token}).code == "revoked"
        eventually(lambda: cause(verifier, hybrid["access_token"]) is None, "the verifier is level again")
        assert cause(verifier, ended["access_token"]) == "revoked"
        assert api.post("/logout", token=hybrid["refresh_token"]).status == 204
        eventually(
            lambda: cause(verifier, hybrid["access_token"]) == "revoked", "it denies what is ended now"
        )
