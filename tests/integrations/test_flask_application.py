"""`keyfob.integrations.flask` in an application that holds its authority, and in processes that fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from flask import Flask

import keyfob
from keyfob.integrations.flask import Auth, current_principal, find_principal
from keyfob.integrations.per_process import PerProcess
from keyfob.sync import Authority

DEADLINE = 10.0


@pytest.fixture
def authority() -> Iterator[Authority]:
    with Authority.open("memory://", issuer="https://auth.example") as opened:
        yield opened


@pytest.fixture
def client(authority):
    app = Flask(__name__)
    auth = Auth(lambda: authority, app)

    @app.get("/me")
    @auth.required()
    def me():
        return {"subject": current_principal.subject}

    @app.get("/greeting")
    @auth.optional()
    def greeting():
        principal = find_principal()
        return {"hello": principal.subject if principal else "stranger"}

    @app.post("/payments")
    @auth.required(roles={"payer"}, max_staleness=timedelta(seconds=3), max_auth_age=timedelta(minutes=5))
    def pay():
        return {"paid": current_principal.subject}

    @app.get("/open")
    def unprotected():
        return {"subject": current_principal.subject}

    return app.test_client()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("strategy", ["session", "hybrid", "jwt"])
def test_whoever_is_signed_in_is_the_current_principal(authority, client, strategy):
    issued = authority.login("alice", strategy=strategy)
    token = issued.session_token or issued.access_token

    assert client.get("/me", headers=bearer(token)).json == {"subject": "alice"}


def test_a_refusal_is_a_problem_document_that_says_what_to_do(client):
    answer = client.get("/me")

    assert (answer.status_code, answer.mimetype) == (401, "application/problem+json")
    assert (answer.json["code"], answer.json["next"]) == ("no_credential", "login")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.headers.getlist("Content-Type") == ["application/problem+json"]


def test_a_revoked_credential_is_refused_on_the_next_request(authority, client):
    issued = authority.login("alice", strategy="jwt")
    assert client.get("/me", headers=bearer(issued.access_token)).status_code == 200

    authority.revoke("subject", "alice", reason="theft")

    answer = client.get("/me", headers=bearer(issued.access_token))
    assert (answer.status_code, answer.json["code"]) == (401, "revoked")


def test_the_policy_of_a_view_is_enforced_and_follows_the_roles(authority, client):
    issued = authority.login("alice", strategy="session")
    headers = bearer(issued.session_token)
    answer = client.post("/payments", headers=headers)
    assert (answer.status_code, answer.json["code"]) == (403, "insufficient_role")

    authority.set_roles("alice", ["payer"])

    assert client.post("/payments", headers=headers).json == {"paid": "alice"}


def test_a_stranger_is_greeted_and_a_bad_credential_is_refused(client):
    assert client.get("/greeting").json == {"hello": "stranger"}
    assert client.get("/greeting", headers=bearer("nonsense")).status_code == 401


def test_a_view_that_nobody_protects_has_no_principal(client):
    assert client.get("/open").json["code"] == "no_credential"


def test_a_principal_does_not_outlive_its_request(authority, client):
    issued = authority.login("alice", strategy="session")
    client.get("/me", headers=bearer(issued.session_token))

    assert client.get("/open").status_code == 401


def test_a_cookie_that_a_page_of_another_site_sends_changes_nothing(authority, client):
    issued = authority.login("alice", strategy="session", roles=["payer"])
    client.set_cookie("__Host-session", issued.session_token, domain="localhost")

    assert client.post("/payments").json["code"] == "cross_origin"
    assert client.post("/payments", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.post("/payments", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
    token = {"X-CSRF-Token": authority.csrf_token(issued.session_id)}
    assert client.post("/payments", headers=token).status_code == 200


def test_two_credentials_at_once_are_refused(authority, client):
    issued = authority.login("alice", strategy="session")
    client.set_cookie("__Host-session", issued.session_token, domain="localhost")

    assert client.get("/me", headers=bearer(issued.session_token)).json["code"] == "malformed"


def test_two_joined_authorization_headers_are_no_credential(authority, client):
    issued = authority.login("alice", strategy="session")
    joined = f"Bearer {issued.session_token},Bearer {issued.session_token}"

    assert client.get("/me", headers={"Authorization": joined}).json["code"] == "malformed"


def test_a_policy_that_cannot_be_meant_is_refused_when_the_view_is_made(authority):
    with pytest.raises(keyfob.ConfigurationError):
        Auth(lambda: authority).required(roles="payer")


def test_what_opens_an_authority_is_called_once_however_many_come_first():
    opened, begin = [], threading.Barrier(8)

    def open_one() -> int:
        opened.append(1)
        return len(opened)

    per_process = PerProcess(open_one)

    def use() -> None:
        begin.wait(DEADLINE)
        assert per_process() == 1

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)

    assert opened == [1]


def test_opening_that_failed_is_tried_again():
    outcomes = iter([keyfob.StoreUnavailable("away"), 17])

    def open_one() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    per_process = PerProcess(open_one)
    with pytest.raises(keyfob.StoreUnavailable):
        per_process()

    assert per_process() == 17


def test_a_forked_child_opens_its_own_even_if_a_thread_of_the_parent_was_opening():
    per_process = PerProcess(os.getpid)
    assert per_process() == os.getpid()
    per_process._lock.acquire()  # as another thread of the parent would, at the moment of the fork
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"own" if per_process() == os.getpid() else b"parent's")
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        assert answer.read() == b"own"
    os.waitpid(child, 0)


@pytest.mark.parametrize(("strategy", "helps"), [("hybrid", "refresh"), ("jwt", "login")])
def test_whoever_can_refresh_is_told_to(authority, client, strategy, helps):
    issued = authority.login("alice", strategy=strategy, roles=["buyer"])
    authority.set_roles("alice", ["payer"])
    answer = client.get("/me", headers=bearer(issued.access_token))
    assert (answer.status_code, answer.json["code"], answer.json["next"]) == (401, "stale_claims", helps)
