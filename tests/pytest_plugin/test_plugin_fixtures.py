"""The fixtures of the pytest plugin, as the tests of an application use them."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from datetime import timedelta
from functools import partial

import httpx
import pytest
import requests
from flask import Flask

import keyfob
from keyfob.integrations.flask import Auth, current_principal
from keyfob.pytest_plugin.authority_races import AuthorityRaces
from keyfob.sync import Authority


def application(source) -> Flask:
    app = Flask(__name__)
    auth = Auth(source, app)

    @app.post("/payments")
    @auth.required(roles={"payer"}, max_staleness=timedelta(seconds=3))
    def pay():
        return {"paid": current_principal.subject}

    return app


@pytest.mark.parametrize("strategy", ["session", "jwt", "hybrid"])
def test_a_client_is_logged_in_in_one_line(keyfob_authority, keyfob_login, strategy):
    app = application(lambda: keyfob_authority)
    client = keyfob_login("alice", roles=["payer"], strategy=strategy).into(app.test_client())
    assert client.post("/payments").json == {"paid": "alice"}
    assert app.test_client().post("/payments").status_code == 401


def test_every_kind_of_client_is_told_in_its_own_way(keyfob_login):
    alice = keyfob_login("alice")
    with httpx.Client() as one, requests.Session() as other:
        assert alice.into(one).headers["Authorization"] == f"Bearer {alice.token}"
        assert alice.into(other).headers["Authorization"] == f"Bearer {alice.token}"

    class OfDjango:
        def __init__(self):
            self.defaults = {}

    assert alice.into(OfDjango()).defaults == {"HTTP_AUTHORIZATION": f"Bearer {alice.token}"}
    with pytest.raises(TypeError, match="keeps no headers"):
        alice.into(object())


def test_a_login_says_what_a_browser_and_a_page_would_have(keyfob_authority, keyfob_login):
    alice = keyfob_login("alice")
    assert alice.cookies == {"__Host-session": alice.token}
    assert keyfob_login("alice", strategy="jwt").cookies == {}
    assert list(keyfob_login("alice", strategy="hybrid").cookies) == ["__Host-refresh"]
    assert keyfob_authority.csrf_matches(alice.issued.session_id, alice.csrf_token)
    assert alice.principal.subject == "alice"
    assert alice.token not in repr(alice)
    alice.log_out()
    with pytest.raises(keyfob.Denied, match="revoked"):
        assert alice.principal


def test_the_clock_stands_still_until_it_is_moved(keyfob_clock, keyfob_authority, keyfob_login):
    app = application(lambda: keyfob_authority)
    client = keyfob_login("alice", roles=["payer"]).into(app.test_client())
    keyfob_clock.advance(timedelta(minutes=29, seconds=59))
    assert client.post("/payments").status_code == 200  # and nobody is behind the feed for it
    keyfob_clock.advance(timedelta(minutes=30))
    assert client.post("/payments").json["code"] == "idle"


def test_each_test_has_an_authority_of_its_own(keyfob_authority):
    assert keyfob_authority.list_sessions().sessions == []


def ask_until_refused(verifier, token):
    """Ask on; it takes milliseconds, and the timeout of the test bounds it."""
    while True:
        verifier.authenticate_blocking(token)


def test_an_application_that_follows_is_tested_against_a_real_server(keyfob_server):
    verifier = keyfob_server.follow(audience="orders")
    app = application(verifier)
    try:
        client = keyfob_server.login("alice", audience="orders").into(app.test_client())
        keyfob_server.authority.set_roles("alice", ["payer"])
        carol = keyfob_server.authority.login("carol", strategy="session", audience="orders", roles=["payer"])
        paid = app.test_client().post("/payments", headers={"Authorization": f"Bearer {carol.session_token}"})
        assert paid.json == {"paid": "carol"}
        assert client.post("/payments").json["code"] in {"stale_claims", "insufficient_role"}
        keyfob_server.authority.revoke("subject", "carol")
        with pytest.raises(keyfob.Denied, match="revoked"):
            ask_until_refused(verifier, str(carol.session_token))
    finally:
        verifier.close()
    with urllib.request.urlopen(f"{keyfob_server.url}/healthz") as answer:
        assert answer.status == 200


def test_the_plugin_imports_nothing_of_keyfob_before_a_fixture_is_used():
    script = (
        "import sys, keyfob.pytest_plugin as p; print(*(n for n in sys.modules if n.startswith('keyfob.')))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == ["keyfob.pytest_plugin"]


class TestRacesOnSqlite(AuthorityRaces):
    rounds = 2

    @pytest.fixture
    def open_authority(self, tmp_path):
        policy = keyfob.SessionPolicy(sessions_per_subject=10)
        return partial(
            Authority.open, f"sqlite:///{tmp_path}/keyfob.db", issuer="https://auth.example", policy=policy
        )


class Forgetful(Authority):
    """An authority that does the first thing that comes to mind: it says that every write went well."""

    def write_data(self, session_id, data, *, version):
        super().write_data(session_id, data, version=version)
        return True


@pytest.mark.parametrize("race", ["test_data_is_written_by_one"])
def test_a_broken_authority_does_not_pass_the_races(tmp_path, race):
    races = AuthorityRaces()
    url = f"sqlite:///{tmp_path}/keyfob.db"
    with Forgetful.open(url, issuer="https://auth.example") as first, pytest.raises(AssertionError):
        getattr(races, race)([first, first])
    with pytest.raises(NotImplementedError):
        AuthorityRaces.open_authority.__wrapped__(races)
