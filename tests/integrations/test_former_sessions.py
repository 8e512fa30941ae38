"""Taking over the sessions of Flask-Session: what is read, who is signed in, and who is not."""

from __future__ import annotations

import datetime
import hashlib
import logging
import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
import redis
from flask import Flask, session
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import BadSignature, Signer

import keyfob
from keyfob.integrations.flask import Auth, current_principal
from keyfob.integrations.flask_sessions import KeyfobSessions
from keyfob.integrations.former_sessions import (
    GRACE,
    MAX_FORMER,
    FileFormerSessions,
    RedisFormerSessions,
    read_former,
)
from keyfob.integrations.take_over import TakeOver
from keyfob.sync import Authority
from keyfob.testing.frozen_clock import FrozenClock

ISSUER = "https://localhost"
SID = "Ykhpk_Wfl-qY2fw_to2OBJkqbcZr0vrRiufBS7NMceE"
# What Flask-Session 0.8.0 wrote for this id with SESSION_TYPE="filesystem", on cachelib 0.17.0: the name of the file, and what follows its expiry.
FILE = "79c34d51379dbd3663001a9993b5091ea9ff7690d4162ce3d558198e9974443a"
PICKLED = bytes.fromhex(
    "8005959f000000000000007d94288c0a5f7065726d616e656e7494888c07757365725f6964948c07757365722d3137948c0463617274945d947d94"
    "288c026964944b058c016e944b0275618c047365656e948c086461746574696d65948c086461746574696d65949394430a07ea0101000000000000"
    "94680a8c0874696d657a6f6e65949394680a8c0974696d6564656c74619493944b004b004b00879452948594529486945294752e"
)
# What its serialisers write: msgpack, the default, and json.
MSGPACK = bytes.fromhex(
    "83aa5f7065726d616e656e74c3a7757365725f6964a7757365722d3137a4636172749182a2696405a16e02"
)
JSON = b'{"_permanent":true,"user_id":"user-17","cart":[{"id":5,"n":2}]}'
DATA = {"_permanent": True, "user_id": "user-17", "cart": [{"id": 5, "n": 2}]}


@pytest.mark.parametrize("written", [MSGPACK, JSON])
def test_what_flask_session_wrote_is_read(written):
    assert read_former(written) == DATA


def test_what_flask_session_pickled_is_read():
    assert read_former(PICKLED) == {**DATA, "seen": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)}


def test_plain_data_of_every_protocol_is_read():
    data = {
        "s": {1, 2},
        "f": frozenset({3}),
        "o": OrderedDict(a=1),
        "d": Decimal("1.5"),
        "u": UUID(int=9),
        "b": b"x",
    }
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert read_former(pickle.dumps({"t": (1, None)}, protocol)) == {"t": (1, None)}
    assert read_former(pickle.dumps(data)) == data


class Trap:
    """Runs a command when it is unpickled by somebody who trusts it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_makes_nothing_happen(tmp_path, protocol):
    assert read_former(pickle.dumps({"user_id": Trap(tmp_path / "made")}, protocol)) is None
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "name", [b"builtins\neval", b"builtins\ngetattr", b"os\nsystem", b"builtins\nset.__init__"]
)
def test_a_pickle_names_no_function(name):
    assert read_former(b"c" + name + b"\n(S'1'\ntR.") is None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_are_none(data):
    found = read_former(data)
    assert found is None or isinstance(found, dict)


@given(st.integers(0, len(PICKLED) - 1), st.integers(0, 255))
def test_a_damaged_pickle_is_read_or_is_none(at, byte):
    found = read_former(PICKLED[:at] + bytes([byte]) + PICKLED[at + 1 :])
    assert found is None or isinstance(found, dict)


def test_what_is_too_large_or_no_dict_of_names_is_none():
    assert read_former(b" " * MAX_FORMER + JSON) is None
    assert read_former(msgspec.msgpack.encode([1, 2])) is None
    assert read_former(msgspec.msgpack.encode({1: 2})) is None


def expiring(until: float, data: bytes = PICKLED) -> bytes:
    return struct.pack("I", int(until)) + data


def test_a_file_is_read_until_it_runs_out_and_retired_to_the_grace(tmp_path):
    clock = FrozenClock()
    (tmp_path / FILE).write_bytes(expiring(clock.time() + 3600))
    former = FileFormerSessions(tmp_path, clock=clock)
    assert former.read(SID)["user_id"] == "user-17"
    assert former.read("another") is None
    former.retire(SID)
    clock.advance(GRACE / 2)
    former.retire(SID)  # does not begin the grace anew
    clock.advance(GRACE / 2)
    assert former.read(SID)["user_id"] == "user-17"
    clock.advance(1)
    assert former.read(SID) is None
    former.retire("another")


def test_a_file_that_never_runs_out_or_of_an_older_cachelib_is_read(tmp_path):
    md5 = tmp_path / hashlib.md5(b"session:" + SID.encode()).hexdigest()
    md5.write_bytes(expiring(0))
    former = FileFormerSessions(tmp_path, clock=FrozenClock())
    assert former.read(SID)["user_id"] == "user-17"
    md5.write_bytes(b"\1")
    assert former.read(SID) is None


class Store:
    """Former sessions of a test, by id."""

    def __init__(self, **kept):
        self.kept = kept
        self.retired = []

    def read(self, sid):
        return None if sid in self.retired else self.kept.get(sid)

    def retire(self, sid):
        self.retired.append(sid)


@pytest.fixture
def clock():
    return FrozenClock()


@pytest.fixture
def authority(clock) -> Iterator[Authority]:
    with Authority.open("memory://", issuer=ISSUER, clock=clock) as opened:
        yield opened


@pytest.fixture
def make(authority, clock):
    def making(former, **options):
        app = Flask(__name__)
        auth = Auth(lambda: authority, app)
        app.session_interface = KeyfobSessions(auth)
        options.setdefault("until", clock.now() + datetime.timedelta(days=14))
        app.wsgi_app = TakeOver(
            app.wsgi_app, auth, former=former, subject_of=lambda data: data.get("user_id"), **options
        )

        @app.get("/me")
        @auth.required()
        def me():
            return {"subject": current_principal.subject, "cart": session.get("cart")}

        @app.get("/cart")
        def cart():
            return {"cart": session.get("cart")}

        return app

    return making


def client_of(app, value=SID):
    client = app.test_client()
    client.set_cookie("session", value, domain="localhost")
    return client


def ask(client, path, **more):
    return client.get(path, base_url=ISSUER, **more)


def test_a_signed_in_user_stays_signed_in_with_what_the_session_held(make, authority):
    store = Store(**{SID: DATA})
    client = client_of(make(store))

    answer = ask(client, "/me", headers={"User-Agent": "browser"})

    assert answer.json == {"subject": "user-17", "cart": [{"id": 5, "n": 2}]}
    assert store.retired == [SID]
    assert client.get_cookie("session") is None
    (taken,) = authority.list_sessions("user-17").sessions
    assert (taken.user_agent, taken.persistent) == ("browser", True)
    set_cookie = next(
        value for value in answer.headers.getlist("Set-Cookie") if value.startswith("__Host-session")
    )
    assert "Max-Age=43200" in set_cookie
    assert ask(client, "/me").json["subject"] == "user-17"
    assert len(authority.list_sessions("user-17").sessions) == 1


def test_a_visitor_stays_a_visitor_with_what_was_in_the_cart(make, authority):
    client = client_of(make(Store(**{SID: {"cart": "tea"}})))
    assert ask(client, "/cart").json == {"cart": "tea"}
    assert ask(client, "/cart").json == {"cart": "tea"}
    assert client.get_cookie("__Host-session", domain="localhost").value.startswith("kfa_")
    assert ask(client, "/me").json["code"] == "no_credential"
    assert len(authority.list_sessions().sessions) == 1


def test_whoever_was_ended_since_is_not_signed_in_by_an_old_cookie(make, authority, caplog):
    authority.revoke("subject", "user-17", reason="stolen at night")
    store = Store(**{SID: DATA})
    with caplog.at_level(logging.WARNING):
        answer = ask(client_of(make(store)), "/me")
    assert (answer.status_code, answer.json["code"]) == (401, "no_credential")
    assert store.retired == [SID]
    assert "revoked" in caplog.text
    assert authority.list_sessions("user-17").sessions == []
    # but by a login of today
    assert authority.login("user-17").subject == "user-17"


def test_the_old_cookie_is_worth_nothing_once_it_was_taken_over(make):
    app = make(Store(**{SID: DATA}))
    assert ask(client_of(app), "/me").status_code == 200
    assert ask(client_of(app), "/me").json["code"] == "no_credential"


def test_a_cookie_without_a_session_goes_on_as_it_came(make):
    app = make(Store(**{SID: DATA}))
    for value in ("another-id-of-nobody", "short", "bad value", "a" * 300):
        assert ask(client_of(app, value), "/me").json["code"] == "no_credential"


def test_our_own_credentials_come_first(make, authority):
    store = Store(**{SID: DATA})
    app = make(store)
    issued = authority.login("alice", strategy="session")
    client = client_of(app)
    assert (
        ask(client, "/me", headers={"Authorization": f"Bearer {issued.session_token}"}).json["subject"]
        == "alice"
    )
    client.set_cookie("__Host-session", issued.session_token, domain="localhost", secure=True)
    assert ask(client, "/me").json["subject"] == "alice"
    assert store.retired == []


def test_at_the_end_of_the_move_nothing_is_taken_over(make, clock):
    until = clock.now() + datetime.timedelta(days=1)
    app = make(Store(**{SID: DATA}), until=until)
    clock.advance(datetime.timedelta(days=1))
    assert ask(client_of(app), "/me").json["code"] == "no_credential"


def test_a_move_that_outlasts_what_is_known_of_ends_is_refused(make, clock):
    with pytest.raises(keyfob.ConfigurationError, match="time zone"):
        make(Store(), until=datetime.datetime(2026, 1, 1))  # noqa: DTZ001 - refused for that
    app = make(Store(**{SID: DATA}), until=clock.now() + datetime.timedelta(days=31))
    with pytest.raises(keyfob.ConfigurationError, match="not kept for longer"):
        ask(client_of(app), "/me")


@pytest.mark.parametrize(
    "data", [{"user_id": "user-17", "big": "x" * 5000}, {"user_id": "user-17", "odd": object()}]
)
def test_data_that_cannot_go_along_signs_nobody_out(make, caplog, data):
    with caplog.at_level(logging.WARNING):
        assert ask(client_of(make(Store(**{SID: data}))), "/me").json == {"subject": "user-17", "cart": None}
    assert "without its data" in caplog.text


def test_what_is_kept_can_be_chosen(make):
    app = make(Store(**{SID: {**DATA, "big": "x" * 5000}}), keep=lambda data: {"cart": data["cart"]})
    assert ask(client_of(app), "/me").json == {"subject": "user-17", "cart": [{"id": 5, "n": 2}]}


def test_signed_cookies_are_read_and_forged_ones_not(make):
    signer = Signer("secret", salt="flask-session", key_derivation="hmac")

    def unsign(value):
        try:
            return signer.unsign(value).decode()
        except BadSignature:
            return None

    app = make(Store(**{SID: DATA}), unsign=unsign)
    assert ask(client_of(app, SID + ".forged"), "/me").status_code == 401
    assert ask(client_of(app, signer.sign(SID).decode()), "/me").json["subject"] == "user-17"


def test_a_store_that_does_not_answer_is_503(make, authority):
    app = make(Store(**{SID: DATA}))
    client = client_of(app)
    authority.close()
    answer = ask(client, "/me")
    assert (answer.status_code, answer.json["code"]) == (503, "store_unavailable")


@pytest.mark.parametrize("written", [MSGPACK, JSON, PICKLED])
def test_sessions_in_redis_are_read_and_run_out(redis_url, written):
    prefix = "session:"
    with redis.Redis.from_url(redis_url) as client:
        former = RedisFormerSessions(client)
        client.set(prefix + SID, written, ex=3600)
        found = former.read(SID)
        assert found is not None
        assert found["user_id"] == "user-17"
        assert former.read("another") is None
        former.retire(SID)
        assert 0 < client.ttl(prefix + SID) <= GRACE.total_seconds()
        client.expire(prefix + SID, 7)
        former.retire(SID)  # does not begin the grace anew
        assert client.ttl(prefix + SID) <= 7
        former.retire("another")
        client.set(prefix + "for-good", written)
        former.retire("for-good")
        assert 0 < client.ttl(prefix + "for-good") <= GRACE.total_seconds()
        client.delete(prefix + SID, prefix + "for-good")
