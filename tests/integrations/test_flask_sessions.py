"""`flask.session` in the sessions of Keyfob: what is kept, who it belongs to, and when it is over."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import UUID

import pytest
from flask import Flask, flash, get_flashed_messages, request, session

import keyfob
from keyfob.base.opaque import OpaqueKind
from keyfob.integrations.flask import Auth, current_principal
from keyfob.integrations.flask_sessions import KeyfobSessions
from keyfob.sync import Authority
from keyfob.verifier.verifier import Verifier

ISSUER = "https://localhost"
DEADLINE = 10.0


@pytest.fixture
def authority() -> Iterator[Authority]:
    with Authority.open("memory://", issuer=ISSUER) as opened:
        yield opened


@pytest.fixture
def app(authority):
    app = Flask(__name__)
    auth = Auth(lambda: authority, app)
    app.session_interface = sessions = KeyfobSessions(auth)

    @app.post("/put/<name>/<value>")
    def put(name, value):
        session[name] = value
        return ""

    @app.post("/append/<value>")
    def append(value):
        session.setdefault("list", []).append(value)
        return ""

    @app.get("/all")
    def everything():
        return {name: session[name] for name in session}

    @app.post("/clear")
    def clear():
        session.clear()
        return ""

    @app.get("/nothing")
    def nothing():
        return ""

    add_signing_in(app, auth, sessions)
    return app


def add_signing_in(app, auth, sessions):
    @app.post("/login/<name>")
    def login(name):
        options = {"persistent": True} if "persistent" in request.args else {}
        sessions.begin(auth.source.login(name, strategy=request.args.get("strategy", "session"), **options))
        return {"session_id": session.session_id}

    @app.post("/renew")
    def renew():
        sessions.renew()
        return ""

    @app.post("/logout")
    def logout():
        sessions.end(devices=request.args.get("devices", "this"))
        flash("Signed out.")
        return ""

    @app.get("/flashed")
    def flashed():
        return get_flashed_messages()

    @app.get("/me")
    @auth.required()
    def me():
        return {"subject": current_principal.subject, "cart": session.get("cart")}


class Browser:
    """A test client that keeps Secure cookies, as a browser would."""

    def __init__(self, app) -> None:
        self.client = app.test_client()

    def get(self, path, **more):
        return self.client.get(path, base_url=ISSUER, **more)

    def post(self, path, **more):
        more.setdefault("headers", {"Origin": ISSUER})
        return self.client.post(path, base_url=ISSUER, **more)

    def cookie(self, name):
        found = self.client.get_cookie(name)
        return found.value if found else None

    @property
    def everything(self):
        return self.get("/all").json


@pytest.fixture
def browser(app):
    return Browser(app)


def visitors(authority):
    return [found for found in authority.list_sessions().sessions if found.subject.startswith("visitor_")]


def test_a_visitor_gets_a_session_when_something_is_put_into_it_and_not_before(authority, browser):
    assert "Set-Cookie" not in browser.get("/nothing").headers
    assert browser.everything == {}
    assert visitors(authority) == []

    answer = browser.post("/put/cart/tea")

    (made,) = visitors(authority)
    assert made.kind is OpaqueKind.ANONYMOUS
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Cookie" in answer.headers["Vary"]
    attributes = answer.headers["Set-Cookie"]
    assert attributes.startswith("__Host-session=kfa_")
    assert all(word in attributes for word in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"))
    assert "Max-Age" not in attributes
    assert browser.everything == {"cart": "tea"}
    assert len(visitors(authority)) == 1


def test_the_session_of_a_visitor_is_no_credential(authority, browser):
    browser.post("/put/cart/tea")
    token = browser.cookie("__Host-session")

    assert browser.get("/me").json["code"] == "no_credential"
    stolen = browser.get("/me", headers={"Authorization": f"Bearer {token}"})
    assert (stolen.status_code, stolen.json["code"]) == (401, "wrong_type")
    browser.client.set_cookie("__Host-session", f"kfs_{token[4:]}", domain="localhost")
    assert browser.get("/me").json["code"] == "malformed"


def test_signing_in_makes_a_new_session_and_takes_along_what_the_visitor_had(authority, browser):
    browser.post("/put/cart/tea")
    before = browser.cookie("__Host-session")
    (visitor,) = visitors(authority)

    session_id = browser.post("/login/alice").json["session_id"]

    assert session_id != visitor.session_id
    assert browser.get("/me").json == {"subject": "alice", "cart": "tea"}
    assert browser.cookie("__Host-session").startswith("kfs_")
    assert visitors(authority) == []
    with pytest.raises(keyfob.Denied, match="revoked"):
        authority.visits.require(before)


def test_a_planted_session_is_worth_nothing_after_the_login(app, authority, browser):
    thief = Browser(app)
    thief.post("/put/cart/trap")
    planted = thief.cookie("__Host-session")
    browser.client.set_cookie("__Host-session", planted, domain="localhost", secure=True)

    browser.post("/login/alice")
    browser.post("/put/card/4711")

    assert thief.everything == {}
    assert thief.get("/me").status_code == 401


def test_another_user_at_the_same_browser_finds_nothing_of_the_one_before(authority, browser):
    browser.post("/login/alice")
    browser.post("/put/cart/secret")
    alice = browser.cookie("__Host-session")

    browser.post("/login/bob")

    assert browser.get("/me").json == {"subject": "bob", "cart": None}
    with pytest.raises(keyfob.Denied, match="revoked"):
        authority.authenticate(alice)
    browser.post("/put/cart/own")
    browser.post("/login/bob")
    assert browser.get("/me").json == {"subject": "bob", "cart": "own"}


def test_signing_out_ends_the_session_with_an_entry_and_clears_the_cookie(app, authority, browser):
    browser.post("/login/alice")
    browser.post("/put/cart/tea")
    copied = browser.cookie("__Host-session")
    before = authority.call(lambda inner: inner.store.feed.head()).position

    answer = browser.post("/logout")

    assert authority.call(lambda inner: inner.store.feed.head()).position == before + 1
    assert answer.headers["Clear-Site-Data"] == '"cache", "storage"'
    assert browser.cookie("__Host-session").startswith("kfa_")  # of the visitor who is told so
    thief = Browser(app)
    thief.client.set_cookie("__Host-session", copied, domain="localhost", secure=True)
    assert thief.everything == {}
    assert thief.get("/me").json["code"] == "revoked"
    assert browser.get("/flashed").json == ["Signed out."]  # in a new session of a visitor


def test_signing_out_elsewhere_leaves_this_session(app, authority, browser):
    other = Browser(app)
    for one in (browser, other):
        one.post("/login/alice")
        one.post("/put/cart/tea")

    browser.post("/logout?devices=others")

    assert browser.get("/me").json == {"subject": "alice", "cart": "tea"}
    assert other.get("/me").json["code"] == "revoked"
    assert other.everything == {}


def test_a_revoked_session_shows_nothing_on_the_next_request_and_is_not_revived(authority, browser):
    browser.post("/login/alice")
    browser.post("/put/cart/tea")

    authority.revoke("subject", "alice", reason="theft")

    assert browser.everything == {}
    browser.post("/put/cart/other")
    assert browser.get("/me").status_code == 401
    assert authority.list_sessions("alice").sessions == []


def test_a_session_that_ends_while_a_view_writes_is_not_made_again(app, authority, browser):
    @app.post("/slow")
    def slow():
        session["cart"] = "late"
        authority.revoke("subject", "alice")
        return ""

    browser.post("/login/alice")
    browser.post("/put/cart/tea")
    answer = browser.post("/slow")

    assert answer.status_code == 200
    assert browser.cookie("__Host-session") is None
    assert authority.list_sessions().sessions == []
    assert browser.everything == {}


def test_renewing_gives_a_fresh_token_to_the_same_session(authority, browser):
    browser.post("/login/alice")
    browser.post("/put/cart/tea")
    before = browser.cookie("__Host-session")
    browser.post("/renew")
    assert browser.cookie("__Host-session") != before
    assert browser.get("/me").json == {"subject": "alice", "cart": "tea"}
    assert len(authority.list_sessions("alice").sessions) == 1


def test_a_visitor_has_nothing_to_renew(browser):
    assert browser.post("/renew").json["code"] == "no_credential"


def test_what_was_appended_to_a_list_inside_is_kept(browser):
    for value in "abc":
        browser.post(f"/append/{value}")
    assert browser.everything == {"list": ["a", "b", "c"]}


def test_reading_alone_writes_nothing(authority, browser):
    browser.post("/put/cart/tea")
    (made,) = visitors(authority)
    before = authority.read_data(made.session_id)
    assert browser.everything == {"cart": "tea"}
    assert authority.read_data(made.session_id) == before


def test_an_emptied_session_of_a_visitor_is_ended_and_that_of_a_user_goes_on(authority, browser):
    browser.post("/put/cart/tea")
    browser.post("/clear")
    assert browser.cookie("__Host-session") is None
    assert visitors(authority) == []
    browser.post("/login/alice")
    browser.post("/put/cart/tea")
    browser.post("/clear")
    assert browser.get("/me").json == {"subject": "alice", "cart": None}


def test_the_types_of_flask_come_back(app, browser):
    values = {
        "tuple": (1, 2),
        "bytes": b"\x00\xff",
        "when": datetime(2026, 1, 1, tzinfo=UTC),
        "id": UUID(int=7),
        "nested": {"t": [("x", b"y")]},
    }

    @app.post("/types")
    def put_types():
        session.update(values)
        return ""

    @app.get("/types")
    def check_types():
        return {"same": dict(session) == values}

    browser.post("/types")
    assert browser.get("/types").json == {"same": True}


def test_four_kibibytes_are_kept_and_one_byte_more_is_an_error_that_names_the_key(app, authority, browser):
    app.config["PROPAGATE_EXCEPTIONS"] = True
    overhead = len('{"big":""}')
    browser.post("/put/big/" + "x" * (4096 - overhead))
    assert len(browser.everything["big"]) == 4096 - overhead
    with pytest.raises(keyfob.InvalidRequest, match=r"at most 4096 bytes, not 4097; .* 'big' \(4089\)"):
        browser.post("/put/big/" + "x" * (4097 - overhead))
    assert len(browser.everything["big"]) == 4096 - overhead
    stranger = Browser(app)
    with pytest.raises(keyfob.InvalidRequest):
        stranger.post("/put/big/" + "x" * 5000)
    assert len(visitors(authority)) == 1  # what is too large makes no session


def test_a_cookie_lasts_only_where_that_was_asked_for(app, browser):
    @app.post("/permanent")
    def permanent():
        session.permanent = True
        return ""

    assert "Max-Age=43" in browser.post("/login/alice?persistent").headers["Set-Cookie"]
    assert "Max-Age=43" in Browser(app).post("/permanent").headers["Set-Cookie"]


@pytest.mark.parametrize("strategy", ["jwt", "hybrid"])
def test_a_login_without_a_session_token_cannot_carry_flask_sessions(app, browser, strategy):
    app.config["PROPAGATE_EXCEPTIONS"] = True
    answer = browser.post(f"/login/alice?strategy={strategy}")
    assert (answer.status_code, answer.json["code"]) == (500, "internal_error")


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}]
)
def test_a_page_of_another_site_reaches_no_session(browser, headers):
    browser.post("/login/alice")
    answer = browser.post("/put/cart/trap", headers=headers)
    assert (answer.status_code, answer.json["code"]) == (403, "cross_origin")
    assert browser.get("/me").json["cart"] is None


@pytest.mark.parametrize("strategy", ["jwt", "hybrid"])
def test_a_token_of_another_kind_in_the_cookie_is_no_session_for_data(authority, browser, strategy):
    issued = authority.login("alice", strategy=strategy)
    authority.write_data(issued.session_id, b'{"cart":"tea"}', version=0)
    for token in (issued.access_token, issued.refresh_token):
        browser.client.set_cookie("__Host-session", token or "", domain="localhost", secure=True)
        assert browser.everything == {}


@pytest.mark.parametrize("value", ["nonsense", "kfs_nonsense", "kfa_nonsense", "kfr_AAAA", '"quoted"', ""])
def test_a_cookie_that_is_none_of_ours_is_no_session(browser, value):
    browser.client.set_cookie("__Host-session", value, domain="localhost", secure=True)
    assert browser.everything == {}


def test_requests_at_once_keep_what_each_put_in(app, authority, browser):
    begin = threading.Barrier(8)

    @app.post("/race/<int:number>")
    def race(number):
        assert "own" not in session
        begin.wait(DEADLINE)  # everybody has read the same
        session[f"key-{number}"] = number
        return ""

    browser.post("/login/alice")
    token = browser.cookie("__Host-session")

    def put(number):
        one = Browser(app)
        one.client.set_cookie("__Host-session", token, domain="localhost", secure=True)
        return one.post(f"/race/{number}").status_code

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(put, range(8))) == [200] * 8
    assert browser.everything == {f"key-{number}": number for number in range(8)}


def test_a_store_that_does_not_answer_is_503_and_never_a_good_answer(app, authority, browser):
    @app.post("/gone")
    def gone():
        session["cart"] = "more"
        authority.close()
        return "saved"

    browser.post("/login/alice")
    browser.post("/put/cart/tea")
    answer = browser.post("/gone")
    assert (answer.status_code, answer.json["code"]) == (503, "store_unavailable")
    answer = browser.get("/all")
    assert (answer.status_code, answer.json["code"]) == (503, "store_unavailable")


def test_a_service_that_follows_has_no_sessions_of_its_own(authority):
    jwks = authority.call(_jwks)
    verifier = Verifier.from_jwks(jwks, issuer=ISSUER, audience="orders")
    app = Flask(__name__)
    app.session_interface = KeyfobSessions(Auth(verifier, app))
    app.testing = True

    @app.get("/")
    def index():
        return dict(session)

    assert app.test_client().get("/").json["code"] == "internal_error"


async def _jwks(inner):
    return inner.keys.jwks()


def test_flask_sessions_of_another_kind_are_not_taken_for_ours(authority):
    app = Flask(__name__)
    app.secret_key = "x" * 32
    sessions = KeyfobSessions(Auth(lambda: authority, app))
    with app.test_request_context("/"), pytest.raises(keyfob.ConfigurationError, match="session_interface"):
        sessions.end()
