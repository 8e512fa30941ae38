"""`examples/django_service.py` on gunicorn with two worker processes, real sockets: each holds the authority, on one database."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAM = EXAMPLES / "django_service.py"
PASSWORD = "correct horse battery"
DENIED_WITHIN = 1.0  # seconds; far above the milliseconds that it takes, for a machine that is busy
ADD_USERS = f"""
from django.contrib.auth.models import User
for name in ("alice", "bob", "carol"):
    User.objects.create_superuser(name, password="{PASSWORD}")
"""
STRATEGIES = ("session", "jwt", "hybrid")


class Browser:
    """Keeps cookies, and says that its own pages are behind what it sends."""

    def __init__(self, api: Any) -> None:
        self.api = api
        self.cookies: dict[str, str] = {}

    def open(self, path: str, fields: dict[str, str] | None = None) -> tuple[int, str, Any]:
        """Ask for a page, or post a form; return status, text and headers."""
        headers = {
            "Cookie": "; ".join(map("=".join, self.cookies.items())),
            "Sec-Fetch-Site": "same-origin",
            "Referer": self.api.url + path,
        }
        pool = self.api._pool
        if fields is None:
            reply = pool.request("GET", self.api.url + path, headers=headers, redirect=False)
        else:
            reply = pool.request_encode_body(
                "POST",
                self.api.url + path,
                fields=fields,
                headers=headers,
                encode_multipart=False,
                redirect=False,
            )
        for line in reply.headers.getlist("Set-Cookie"):
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
        return reply.status, reply.data.decode(), reply.headers

    def sign_in_to_admin(self, name: str, password: str = PASSWORD) -> int:
        _, page, _ = self.open("/admin/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token is not None
        fields = {"username": name, "password": password, "csrfmiddlewaretoken": token[1], "next": "/admin/"}
        return self.open("/admin/login/", fields)[0]


class Project:
    """The example, running."""

    def __init__(self, place: Any, environment: dict[str, str]) -> None:
        self.place = place
        self.api = place.api
        self.environment = environment

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(PROGRAM), *arguments],
            env=self.environment,
            cwd=self.place.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def login(self, name: str, strategy: str, password: str = PASSWORD) -> Any:
        body = {"username": name, "password": password, "strategy": strategy, "transport": "body"}
        return self.api.post("/auth/login", body)

    def token(self, name: str, strategy: str) -> str:
        reply = self.login(name, strategy)
        assert reply.status == 200, reply.raw
        return str(reply.body.get("session_token") or reply.body["access_token"])

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

    def all_deny(self, token: str) -> bool:
        replies = []
        for _ in range(8):
            self.api.close()
            replies.append(self.api.get("/orders", token=token))
        return all((reply.status, reply.code) == (401, "revoked") for reply in replies)


@pytest.fixture(scope="module")
def project(deploy_for_module: Callable[..., Any], eventually: Any) -> Iterator[Project]:
    place = deploy_for_module()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("KEYFOB_")},
        "DATA": str(place.folder),
        "SECRET_KEY": "for this test alone, and long enough for Django",
        "ISSUER": place.url,
    }
    running = Project(place, environment)
    assert running.manage("migrate").returncode == 0
    made = running.manage("shell", "--no-imports", "--command", ADD_USERS)
    assert made.returncode == 0, made.stderr
    with (place.folder / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--chdir", str(EXAMPLES), "django_service:application"),
                *(
                    "--workers",
                    "2",
                    "--threads",
                    "4",
                    "--log-level",
                    "error",
                    "-b",
                    f"127.0.0.1:{place.port}",
                ),
            ],
            env=environment,
            cwd=place.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        eventually(lambda: _answers(place.api), "the project answers", within=40.0)
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _answers(api: Any) -> bool:
    try:
        return bool(api.get("/orders").status == 401)
    except api.NoAnswer:
        return False


def test_two_workers_check_every_strategy_and_deny_whoever_is_cut_off_within_moments(project, eventually):
    tokens = {strategy: project.token("alice", strategy) for strategy in STRATEGIES}
    browser = Browser(project.api)
    assert browser.sign_in_to_admin("alice") == 302
    assert browser.open("/admin/")[0] == 200
    for token in tokens.values():
        assert len(project.processes(token)) == 2
    bob = project.token("bob", "jwt")
    subject = project.api.get("/orders", token=bob).body["subject"]

    # A route with a policy.
    refused = project.api.post("/payments", token=tokens["jwt"])
    assert (refused.status, refused.code) == (403, "insufficient_role")
    project.place.with_authority(lambda authority: authority.set_roles(subject, ["payer"]))
    paid = project.api.post("/payments", token=project.token("bob", "hybrid"))
    assert (paid.status, paid.body) == (200, {"paid": subject})

    # Wrong and stolen credentials.
    causes = {
        "": project.api.get("/orders").code,
        "tampered": project.api.get("/orders", token=tokens["jwt"][:-6] + "AAAAAA").code,
        "nonsense": project.api.get("/orders", token="kfs_nonsense").code,
        "password": project.login("alice", "session", "wrong horse").code,
        "refresh": project.api.get(
            "/orders", token=project.login("bob", "hybrid").body["refresh_token"]
        ).code,
    }
    assert causes == {
        "": "no_credential",
        "tampered": "bad_signature",
        "nonsense": "malformed",
        "password": "bad_credentials",
        "refresh": "wrong_type",
    }

    # An operator cuts alice off.
    alice = project.api.get("/orders", token=tokens["session"]).body["subject"]
    ended = project.manage("keyfob", "revoke", "subject", alice, "--reason", "laptop stolen")
    assert ended.returncode == 0, ended.stderr
    for token in tokens.values():
        eventually(lambda token=token: project.all_deny(token), "both workers deny", within=DENIED_WITHIN)
    eventually(lambda: browser.open("/admin/")[0] == 302, "the admin asks for a login", within=DENIED_WITHIN)
    assert project.api.get("/orders", token=bob).status in {200, 401}  # 401: its roles are stale
    assert len(project.processes(project.token("bob", "session"))) == 2

    # A logout, by a page and by a program.
    token = project.token("bob", "session")
    assert len(project.processes(token)) == 2
    assert project.api.post("/auth/logout", token=token).status == 204
    eventually(lambda: project.all_deny(token), "both workers deny", within=DENIED_WITHIN)


def test_a_visitor_keeps_a_session_through_the_login_and_leaves_nothing_behind_at_the_logout(
    project, eventually
):
    browser = Browser(project.api)
    assert json.loads(browser.open("/me")[1]) == {"user": "", "visits": 1}
    visit = browser.cookies["__Host-session"]
    assert browser.open("/orders")[0] == 401

    assert browser.sign_in_to_admin("carol", "wrong horse") == 200
    assert browser.cookies["__Host-session"] == visit
    assert browser.sign_in_to_admin("carol") == 302

    own = browser.cookies["__Host-session"]
    assert own != visit
    assert json.loads(browser.open("/me")[1]) == {"user": "carol", "visits": 2}
    assert browser.open("/orders")[0] == 200
    thief = Browser(project.api)
    thief.cookies = {"__Host-session": own}
    assert thief.open("/admin/")[0] == 200

    _, page, _ = browser.open("/admin/")
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token is not None
    assert browser.open("/admin/logout/", {"csrfmiddlewaretoken": token[1]})[0] in {200, 302}

    assert browser.cookies["__Host-session"] in {"", '""'}
    eventually(lambda: project.all_deny(own), "both workers deny", within=DENIED_WITHIN)
    assert thief.open("/admin/")[0] == 302
    planted = Browser(project.api)
    planted.cookies = {"__Host-session": visit}
    assert json.loads(planted.open("/me")[1]) == {"user": "", "visits": 1}
