"""Sessions of Django's own engines are taken over, and nobody is logged out or logged in by it."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module

import pytest
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.http import JsonResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from keyfob import ConfigurationError
from keyfob.integrations.django import required
from keyfob.integrations.django.taking_over import POINTER_SECONDS

BACKEND = "keyfob.integrations.django.backends.ModelBackend"
ENGINES = ["db", "cache", "cached_db"]


def me(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"user": request.user.get_username(), "visits": request.session["visits"]})


async def me_async(request):
    user = await request.auser()
    return JsonResponse({"user": user.get_username(), "cart": await request.session.aget("cart")})


def quiet(request):
    return JsonResponse({})


def stubborn(request):
    request.session["again"] = request.session.get("cart")
    request.session.save()
    return JsonResponse({"user": request.user.get_username()})


def sign_out(request):
    from django.contrib.auth import logout

    logout(request)
    return JsonResponse({})


@required(max_auth_age=timedelta(minutes=5))
def pay(request):
    return JsonResponse({})


@pytest.fixture(params=ENGINES)
def engine(request, authority, project, serve):
    name = f"django.contrib.sessions.backends.{request.param}"
    serve(
        path("me", me),
        path("me-async", me_async),
        path("quiet", quiet),
        path("sign-out", sign_out),
        path("pay", pay),
        path("stubborn", stubborn),
    )
    until = authority.clock.now() + timedelta(days=14)
    take_over = {"ENGINE": name, "COOKIE": "sessionid", "UNTIL": until}
    with override_settings(KEYFOB={"SOURCE": lambda: authority, "TAKE_OVER": take_over}):
        yield import_module(name)


@pytest.fixture
def old(engine, user):
    """Make the old session of Alice."""
    session = engine.SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = BACKEND
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session["cart"] = ["book"]
    session.save()
    return session


def with_old(session, kind=Client):
    client = kind(headers={"Sec-Fetch-Site": "same-origin"})
    client.cookies["sessionid"] = session.session_key
    return client


def test_whoever_was_signed_in_stays_so_with_what_the_session_kept(authority, old, user):
    client = with_old(old)

    assert client.get("/me").json() == {"user": "alice", "visits": 1}

    key = client.cookies["__Host-session"].value
    assert authority.authenticate(key).subject == f"user-{user.pk}"
    assert client.get("/me").json() == {"user": "alice", "visits": 2}
    assert client.session["cart"] == ["book"]
    assert len(authority.list_sessions(f"user-{user.pk}").sessions) == 1


async def test_the_same_on_an_event_loop(authority, old, user):
    client = with_old(old, AsyncClient)

    assert (await client.get("/me-async")).json() == {"user": "alice", "cart": ["book"]}
    assert authority.authenticate(client.cookies["__Host-session"].value).subject == f"user-{user.pk}"


def test_the_old_cookie_is_taken_from_the_browser_that_has_the_new_one(old):
    client = with_old(old)
    client.get("/me")

    assert client.cookies["sessionid"].value == ""


def test_of_two_requests_that_take_over_at_once_one_finds_the_session_of_the_other(
    authority, old, user, monkeypatch
):
    from keyfob.integrations.django.taking_over import FormerSession

    second, point_at = with_old(old), FormerSession.point_at
    answers = []

    def overtaken(self, session_id):
        monkeypatch.setattr(FormerSession, "point_at", point_at)
        answers.append(second.get("/me").json())
        return point_at(self, session_id)

    monkeypatch.setattr(FormerSession, "point_at", overtaken)
    first = with_old(old)

    answers.append(first.get("/me").json())

    assert answers == [{"user": "alice", "visits": 1}, {"user": "alice", "visits": 2}]
    assert len(authority.list_sessions(f"user-{user.pk}").sessions) == 1
    assert "__Host-session" not in first.cookies


def test_a_session_that_is_signed_out_of_while_it_is_taken_over_stays_so(
    authority, engine, old, user, monkeypatch
):
    from keyfob.integrations.django.taking_over import FormerSession

    point_at = FormerSession.point_at

    def ended_meanwhile(self, session_id):
        engine.SessionStore(old.session_key).delete()
        return point_at(self, session_id)

    monkeypatch.setattr(FormerSession, "point_at", ended_meanwhile)

    assert with_old(old).get("/me").json() == {"user": "", "visits": 1}
    assert not authority.list_sessions(f"user-{user.pk}").sessions


def test_a_request_that_does_not_use_its_session_takes_nothing_over(old):
    client = with_old(old)
    client.get("/quiet")

    assert "__Host-session" not in client.cookies
    assert client.get("/me").json()["user"] == "alice"


def test_tabs_that_come_with_the_old_cookie_find_the_one_session(authority, old, user):
    first, second = with_old(old), with_old(old)
    first.get("/me")

    assert second.get("/me").json() == {"user": "alice", "visits": 2}

    assert "__Host-session" not in second.cookies
    assert first.get("/me").json()["visits"] == 3
    assert len(authority.list_sessions(f"user-{user.pk}").sessions) == 1


def test_a_tab_with_the_old_cookie_signs_out_the_one_session(authority, old, user):
    first, second = with_old(old), with_old(old)
    first.get("/me")

    second.get("/sign-out")

    assert not authority.list_sessions(f"user-{user.pk}").sessions
    assert first.get("/me").json()["user"] == ""


def test_after_the_logout_the_old_cookie_leads_nowhere(authority, old, user):
    client, thief = with_old(old), with_old(old)
    client.get("/me")
    client.get("/sign-out")

    assert thief.get("/me").json() == {"user": "", "visits": 1}
    assert not authority.list_sessions(f"user-{user.pk}").sessions


def test_the_old_session_is_gone_when_its_minute_is_over(engine, old):
    with_old(old).get("/me")
    left = engine.SessionStore(old.session_key)

    assert 0 < left.get_expiry_age() <= POINTER_SECONDS
    assert set(left.keys()) <= {"_keyfob_session", "_session_expiry"}


def test_a_password_that_has_changed_since_ends_the_old_session(old, user, authority):
    from django.contrib.auth.models import User

    changed = User.objects.get(pk=user.pk)
    changed.set_password("another horse")
    changed.save()

    assert with_old(old).get("/me").json() == {"user": "", "visits": 1}
    assert not authority.list_sessions(f"user-{user.pk}").sessions


def test_a_user_who_was_cut_off_before_is_not_signed_in_by_the_old_session(old, user, authority):
    authority.revoke("subject", f"user-{user.pk}", reason="laptop stolen")

    assert with_old(old).get("/me").json() == {"user": "", "visits": 1}
    assert not authority.list_sessions(f"user-{user.pk}").sessions


@pytest.mark.parametrize(("left", "user_name"), [(timedelta(0), ""), (timedelta(minutes=1), "alice")])
def test_nothing_is_taken_over_at_the_end_of_taking_over(old, authority, engine, left, user_name):
    name = engine.__name__
    described = {"ENGINE": name, "UNTIL": authority.clock.now() + left}
    with override_settings(KEYFOB={"SOURCE": lambda: authority, "TAKE_OVER": described}):
        assert with_old(old).get("/me").json()["user"] == user_name


def test_an_end_that_is_later_than_ends_are_kept_is_a_mistake_of_the_project(old, authority, engine):
    until = authority.clock.now() + authority.call(_longest) + timedelta(minutes=1)
    described = {"ENGINE": engine.__name__, "UNTIL": until}
    with (
        override_settings(KEYFOB={"SOURCE": lambda: authority, "TAKE_OVER": described}),
        pytest.raises(ConfigurationError, match="UNTIL"),
    ):
        with_old(old).get("/me")


async def _longest(inner):
    return inner.policy.longest_session


def test_the_old_session_of_a_user_who_is_not_active_is_worth_nothing(old, user, authority):
    from django.contrib.auth.models import User

    User.objects.filter(pk=user.pk).update(is_active=False)

    assert with_old(old).get("/me").json() == {"user": "", "visits": 1}
    assert [one.subject[:8] for one in authority.list_sessions().sessions] == ["visitor_"]


def test_a_user_who_was_cut_off_while_the_session_is_taken_over_is_not_signed_in(
    old, user, authority, monkeypatch
):
    from keyfob.integrations.django.taking_over import FormerSession

    read = FormerSession.read

    def cut_off_meanwhile(self):
        found = read(self)
        authority.revoke("subject", f"user-{user.pk}")
        return found

    monkeypatch.setattr(FormerSession, "read", cut_off_meanwhile)

    client = with_old(old)

    assert client.get("/stubborn").json() == {"user": ""}
    assert client.get("/me").json() == {"user": "", "visits": 1}
    assert not authority.list_sessions(f"user-{user.pk}").sessions


def test_who_was_taken_over_signs_in_again_where_a_recent_login_is_asked_for(old):
    client = with_old(old)
    client.get("/me")

    assert client.get("/pay").json()["code"] == "reauthentication_required"


def test_a_visitors_old_session_is_taken_over_as_a_visitors(engine, authority, browser):
    session = engine.SessionStore()
    session["visits"] = 5
    session.save()
    client = with_old(session)

    assert client.get("/me").json() == {"user": "", "visits": 6}
    assert client.cookies["__Host-session"].value.startswith("kfa_")


def test_an_unknown_old_cookie_begins_a_new_session(engine):
    client = Client()
    client.cookies["sessionid"] = "someunknownkey"

    assert client.get("/me").json() == {"user": "", "visits": 1}


def test_an_own_session_comes_before_an_old_one(authority, old, user):
    client = with_old(old)
    issued = authority.login("user-0", strategy="session")
    client.cookies["__Host-session"] = issued.session_token

    assert client.get("/me").json() == {"user": "", "visits": 1}
    assert not authority.list_sessions(f"user-{user.pk}").sessions
