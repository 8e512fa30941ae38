"""Signing in: the admin, the backends, the account routes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import urllib3
from django.contrib import admin
from django.contrib.auth import aauthenticate, authenticate, login, logout
from django.core.signals import got_request_exception
from django.http import JsonResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import include, path
from django.views.debug import ExceptionReporter

import keyfob
from keyfob import Verifier
from keyfob.integrations.django import required
from keyfob.integrations.django.account_urls import account_urls
from keyfob.integrations.django.users import SubjectsByName
from keyfob.sync import Authority

STRATEGIES = ("session", "jwt", "hybrid")
AUTHORITY_BACKEND = "keyfob.integrations.django.backends.AuthorityBackend"
REMOTE_BACKEND = "keyfob.integrations.django.remote.RemoteBackend"


@required()
def me(request):
    return JsonResponse({"subject": request.principal.subject})


def who(request):
    return JsonResponse({"user": request.user.get_username()})


def sign_in(request):
    user = authenticate(request, **{name: request.POST[name] for name in ("username", "password")})
    if user is not None:
        login(request, user)
    return JsonResponse({"user": request.user.get_username()})


def sign_out(request):
    logout(request)
    return JsonResponse({"user": request.user.get_username()})


@pytest.fixture(autouse=True)
def _patterns(serve):
    serve(
        path("me", me),
        path("who", who),
        path("in", sign_in),
        path("out", sign_out),
        path("auth/", include(account_urls())),
        path("admin/", admin.site.urls),
    )


def post(client: Client, at: str, headers: dict[str, str] | None = None, **body: object):
    return client.post(at, json.dumps(body), content_type="application/json", headers=headers)


# The admin


def test_the_admin_is_signed_in_to_and_out_of(authority, project, password, browser):
    from django.contrib.auth.models import User

    User.objects.create_superuser("root", password=password)
    assert browser.get("/admin/").status_code == 302
    wrong = {"username": "root", "password": "wrong", "next": "/admin/"}
    assert browser.post("/admin/login/", wrong).status_code == 200

    assert browser.post("/admin/login/", {**wrong, "password": password}).status_code == 302
    assert b"Site administration" in browser.get("/admin/").content

    key = browser.cookies["__Host-session"].value
    subject = authority.authenticate(key).subject
    assert len(authority.list_sessions(subject).sessions) == 1
    browser.post("/admin/logout/")
    assert browser.get("/admin/").status_code == 302
    assert not authority.list_sessions(subject).sessions


def test_whoever_is_cut_off_is_out_of_the_admin_on_the_next_request(authority, project, password, browser):
    from django.contrib.auth.models import User

    root = User.objects.create_superuser("root", password=password)
    browser.post("/admin/login/", {"username": "root", "password": password, "next": "/admin/"})
    assert browser.get("/admin/").status_code == 200

    authority.revoke("subject", f"user-{root.pk}", reason="stolen at night")

    assert browser.get("/admin/").status_code == 302


def test_the_admin_changes_a_users_password_and_ends_their_sessions(authority, user, password, browser):
    from django.contrib.auth.models import User

    User.objects.create_superuser("root", password=password)
    alice = Client()
    alice.post("/in", {"username": "alice", "password": password})
    assert alice.get("/who").json() == {"user": "alice"}
    browser.post("/admin/login/", {"username": "root", "password": password, "next": "/admin/"})

    fields = {"usable_password": "true", "password1": "another horse", "password2": "another horse"}
    assert browser.post(f"/admin/auth/user/{user.pk}/password/", fields).status_code == 302

    assert alice.get("/who").json() == {"user": ""}
    assert browser.get("/admin/").status_code == 200


# The accounts of the authority


@pytest.fixture
def accounts(authority, project, password):
    authority.call(lambda inner: inner.accounts.add("carol", password, actor="test"))
    with override_settings(
        KEYFOB={"SOURCE": lambda: authority, "USERS": SubjectsByName()},
        AUTHENTICATION_BACKENDS=[AUTHORITY_BACKEND],
    ):
        yield


def test_an_account_of_the_authority_signs_in(authority, accounts, password):
    client = Client()
    answer = client.post("/in", {"username": "carol", "password": password})

    subject = authority.authenticate(client.cookies["__Host-session"].value).subject
    assert answer.json() == {"user": subject}
    assert subject.startswith("usr_")
    assert client.get("/me").json() == {"subject": subject}


async def test_the_same_on_an_event_loop(accounts, password):
    assert await aauthenticate(None, username="carol", password="wrong") is None
    found = await aauthenticate(None, username="carol", password=password)
    assert found.get_username().startswith("usr_")


def test_wrong_passwords_and_names_are_nobody_and_so_are_guesses_past_the_limit(accounts, password):
    assert authenticate(None, username="dave", password=password) is None
    for _ in range(6):
        assert authenticate(None, username="carol", password="wrong") is None
    assert authenticate(None, username="carol", password=password) is None  # slowed down by now
    assert authenticate(None, username=None, password=password) is None


def test_a_disabled_account_does_not_sign_in(authority, accounts, password):
    subject = authority.call(lambda inner: inner.accounts.resolve("carol"))
    authority.call(lambda inner: inner.accounts.disable(subject, actor="test"))

    assert authenticate(None, username="carol", password=password) is None


class Failing(SubjectsByName):
    """A mapping with a mistake in it."""

    def find(self, subject):
        raise RuntimeError("a mistake")

    def subject_of(self, user):
        raise RuntimeError("a mistake")


@pytest.mark.parametrize("backend", [AUTHORITY_BACKEND, REMOTE_BACKEND, None])
def test_no_password_stands_in_the_report_of_an_error(
    authority, accounts, verifier, user, password, backend, caplog
):
    described = {"SOURCE": verifier if backend == REMOTE_BACKEND else lambda: authority, "USERS": Failing()}
    backends = [backend or "keyfob.integrations.django.backends.ModelBackend"]
    reports = []

    def mail(**_: object) -> None:  # as Django's handler of errors does
        reports.append(ExceptionReporter(RequestFactory().get("/"), *sys.exc_info()).get_traceback_html())

    got_request_exception.connect(mail)
    client = Client(raise_request_exception=False)
    with override_settings(KEYFOB=described, AUTHENTICATION_BACKENDS=backends):
        if backend is None:
            post(client, "/auth/login", username="alice", password=password)
        else:
            client.post("/in", {"username": "carol", "password": password})
    got_request_exception.disconnect(mail)

    (report,) = reports
    assert "a mistake" in report
    assert password not in report
    assert password not in caplog.text


def test_an_authority_that_cannot_answer_is_no_wrong_password(authority, accounts, password):
    authority.close()

    answer = Client().post("/in", {"username": "carol", "password": password})
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")


# The account routes


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_program_signs_in_and_out_in_every_strategy(authority, user, password, strategy):
    client = Client(enforce_csrf_checks=True)
    grant = post(
        client, "/auth/login", username="alice", password=password, strategy=strategy, transport="body"
    )
    assert grant.status_code == 200, grant.content
    token = grant.json().get("session_token") or grant.json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert client.get("/me", headers=headers).json() == {"subject": f"user-{user.pk}"}
    assert client.get("/auth/session", headers=headers).json()["subject"] == f"user-{user.pk}"

    assert post(client, "/auth/logout", headers=headers).status_code == 204

    assert Client().get("/me", headers=headers).json()["code"] == "revoked"


def test_a_refresh_token_gives_new_ones(user, password):
    client = Client()
    grant = post(
        client, "/auth/login", username="alice", password=password, strategy="hybrid", transport="body"
    )

    again = post(client, "/auth/refresh", refresh_token=grant.json()["refresh_token"])

    assert again.status_code == 200
    assert again.json()["refresh_token"].startswith("kfr_")


def test_a_page_signs_in_by_cookie_and_django_knows_the_user(user, password, browser):
    answer = post(browser, "/auth/login", username="alice", password=password, strategy="session")

    cookie = answer.cookies["__Host-session"]
    assert (cookie["path"], cookie["secure"], cookie["httponly"], cookie["samesite"]) == (
        "/",
        True,
        True,
        "Lax",
    )
    assert cookie["max-age"] == ""
    assert "session_token" not in answer.json()
    assert browser.get("/who").json() == {"user": "alice"}
    cleared = post(browser, "/auth/logout")
    assert cleared.status_code == 204
    assert cleared.cookies["__Host-session"]["max-age"] == "0"
    assert cleared["Clear-Site-Data"] == '"cache", "storage"'


def test_a_device_is_listed_and_ended(authority, user, password, browser):
    grant = post(browser, "/auth/login", username="alice", password=password, transport="body")
    headers = {"Authorization": f"Bearer {grant.json()['session_token']}"}
    listed = browser.get("/auth/sessions", headers=headers).json()["sessions"]
    assert [one["session_id"] for one in listed] == [grant.json()["session_id"]]

    gone = browser.delete(f"/auth/sessions/{listed[0]['session_id']}", headers=headers)

    assert gone.status_code == 204
    assert browser.get("/me", headers=headers).json()["code"] == "revoked"


def test_bad_requests_are_refused_as_by_the_authority_itself(user, password, browser):
    cases = {
        "wrong": post(browser, "/auth/login", username="alice", password="wrong"),
        "shape": post(browser, "/auth/login", username="alice"),
        "method": browser.get("/auth/login"),
        "form": browser.post("/auth/login", {"username": "alice"}),
        "large": browser.post("/auth/login", b" " * 70_000, content_type="application/json"),
        "foreign": Client(headers={"Origin": "https://evil.example"}).post(
            "/auth/login", b"{}", "application/json"
        ),
    }
    assert {name: (answer.status_code, answer.json()["code"]) for name, answer in cases.items()} == {
        "wrong": (401, "bad_credentials"),
        "shape": (422, "invalid_request"),
        "method": (405, "method_not_allowed"),
        "form": (415, "unsupported_media_type"),
        "large": (413, "body_too_large"),
        "foreign": (403, "cross_origin"),
    }
    assert cases["method"]["Allow"] == "POST"


def test_the_account_routes_answer_503_when_the_authority_is_closed(authority, user, password):
    authority.close()
    answer = post(Client(), "/auth/login", username="alice", password=password)
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")


# An authority elsewhere


@pytest.fixture(scope="module")
def verifier(tmp_path_factory, password) -> Iterator[Verifier]:
    """A verifier that follows `keyfob serve`, a process of its own with an account and a client."""
    tmp_path = tmp_path_factory.mktemp("elsewhere")
    with closing(socket.create_server(("127.0.0.1", 0))) as reserved:
        port = reserved.getsockname()[1]
    issuer = f"http://127.0.0.1:{port}"
    store = f"sqlite:///{tmp_path / 'keyfob.db'}"
    with Authority.open(store, issuer=issuer) as opened:
        opened.call(lambda inner: inner.accounts.add("carol", password, actor="test"))
        secret = opened.call(
            lambda inner: inner.clients.add("orders", scopes=["keyfob:feed"], actor="test")
        ).secret
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KEYFOB_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "keyfob", "serve", "--store", store, "--port", str(port), "--issuer", issuer],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 30
        while not _is_ready(issuer):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < until, "the server did not become ready"
            time.sleep(0.05)
        with Verifier.follow(issuer, audience="orders", credentials=("orders", secret)) as verifier:
            yield verifier
    finally:
        process.terminate()
        process.wait(20)


def _is_ready(issuer: str) -> bool:
    try:
        return urllib3.request("GET", f"{issuer}/readyz", retries=False, timeout=2.0).status == 200
    except (urllib3.exceptions.HTTPError, OSError):
        return False


@pytest.fixture
def elsewhere(project, verifier) -> Iterator[None]:
    with override_settings(
        KEYFOB={"SOURCE": verifier, "USERS": SubjectsByName()},
        AUTHENTICATION_BACKENDS=[REMOTE_BACKEND],
        SESSION_ENGINE="django.contrib.sessions.backends.db",
        SESSION_COOKIE_NAME="sessionid",
    ):
        yield


def test_a_project_that_follows_signs_users_in_at_the_authority_and_out_again(elsewhere, password):
    client = Client(headers={"Sec-Fetch-Site": "same-origin"})
    assert client.post("/in", {"username": "carol", "password": "wrong"}).json() == {"user": ""}
    user = client.post("/in", {"username": "carol", "password": password}).json()["user"]
    assert user.startswith("usr_")
    assert client.get("/me").json() == {"subject": user}
    assert client.get("/who").json() == {"user": user}
    token = client.session["_keyfob_session_token"]
    assert client.get("/me", headers={"Authorization": f"Bearer {token}"}).json() == {"subject": user}

    assert client.get("/out").json() == {"user": ""}

    assert client.get("/me").json()["code"] == "no_credential"
    headers = {"Authorization": f"Bearer {token}"}
    until = time.monotonic() + 5
    while Client().get("/me", headers=headers).status_code == 200:
        assert time.monotonic() < until, "the verifier goes on"
    assert Client().get("/me", headers=headers).json()["code"] == "revoked"


def test_a_login_that_the_authority_ends_is_over_here_too(elsewhere, password):
    client = Client(headers={"Sec-Fetch-Site": "same-origin"})
    client.post("/in", {"username": "carol", "password": password})
    token = client.session["_keyfob_session_token"]
    assert client.get("/who").json()["user"] != ""

    from keyfob.integrations.django.sources import current_sources

    current_sources().remote.logout(token)

    until = time.monotonic() + 5
    while client.get("/who").json()["user"] != "":
        assert time.monotonic() < until, "the login goes on"
    assert "sessionid" not in client.cookies or client.cookies["sessionid"].value == ""


def test_whoever_is_no_user_of_the_project_that_follows_leaves_no_session_at_the_authority(
    elsewhere, verifier, password, monkeypatch
):
    from django.contrib.auth.models import User

    from keyfob.integrations.django.remote_authority import RemoteAuthority

    user = authenticate(None, username="carol", password=password)
    User.objects.filter(pk=user.pk).update(is_active=False)
    login_there, given = RemoteAuthority.login, []

    def watched(self, *credentials):
        given.append(login_there(self, *credentials))
        return given[-1]

    monkeypatch.setattr(RemoteAuthority, "login", watched)

    assert authenticate(None, username="carol", password=password) is None

    with pytest.raises(keyfob.Denied):
        verifier.authenticate_blocking(given[0].session_token)


def test_an_authority_elsewhere_that_does_not_answer_is_no_wrong_password(project):
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    from keyfob.authority.sign_in import Device
    from keyfob.integrations.django.remote_authority import RemoteAuthority

    remote = RemoteAuthority(f"http://127.0.0.1:{port}", audiences=["orders"])
    with pytest.raises(keyfob.AuthorityUnavailable):
        remote.login("carol", "x", Device())
    with pytest.raises(keyfob.AuthorityUnavailable):
        remote.logout("kfs_x")
