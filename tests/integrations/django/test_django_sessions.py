"""The session engine: who a session is of, when it is over, and what it keeps."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.contrib.auth import SESSION_KEY, alogin, alogout, login, logout
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpResponse

from keyfob import Cause, Denied
from keyfob.integrations.django.session_content import Content, SessionCodec, joined
from keyfob.integrations.django.sessions import SessionStore, SessionTooLarge
from keyfob.sessions.store import MAX_DATA

BACKEND = "keyfob.integrations.django.backends.ModelBackend"


def saved(**kept: object) -> SessionStore:
    session = SessionStore()
    session.update(kept)
    session.save()
    return session


def cause_of(authority, token: str) -> Cause | None:
    try:
        authority.authenticate(token)
    except Denied as denied:
        return denied.cause
    return None


# Visitors


def test_the_session_of_a_visitor_is_no_credential(authority, project):
    session = saved(cart=["book"])

    assert session.session_key.startswith("kfa_")
    assert cause_of(authority, session.session_key) is Cause.WRONG_TYPE
    assert authority.introspect(session.session_key) == {"active": False}
    assert SessionStore(session.session_key)["cart"] == ["book"]


def test_a_visitors_token_passed_off_as_a_session_token_is_malformed(authority, project):
    session = saved(cart=["book"])

    assert cause_of(authority, "kfs_" + session.session_key[4:]) is Cause.MALFORMED


@pytest.mark.parametrize("key", ["kfs_nonsense", "kfa_" + "A" * 98, "kfr_" + "A" * 98, "someunknownkey"])
def test_a_key_that_is_none_of_ours_gives_an_empty_session_without_a_key(project, key):
    session = SessionStore(key)

    assert session.get("x") is None
    assert session.session_key is None


def test_a_refresh_token_is_no_session_key(authority, project, user):
    issued = authority.login("user-1", strategy="hybrid")

    assert not SessionStore().exists(issued.refresh_token)
    assert not SessionStore().exists(issued.access_token)


# Signing in and out


def test_signing_in_gives_a_new_session_of_the_users_subject_and_keeps_the_visitors_data(
    authority, user, request_with
):
    visit = saved(cart=["book"])
    request = request_with(visit.session_key)

    login(request, user, BACKEND)

    key = request.session.session_key
    assert authority.authenticate(key).subject == f"user-{user.pk}"
    assert not SessionStore().exists(visit.session_key)
    request.session.save()
    assert request.session.session_key == key
    assert SessionStore(key)["cart"] == ["book"]
    assert SessionStore(key)[SESSION_KEY] == str(user.pk)


def test_a_key_that_was_planted_before_the_login_opens_nothing_after_it(authority, user, request_with):
    planted = saved().session_key
    login(request_with(planted), user, BACKEND)

    assert not SessionStore().exists(planted)
    assert SessionStore(planted).get(SESSION_KEY) is None


def test_signing_out_ends_the_session_with_an_entry(authority, user, request_with):
    request = request_with()
    login(request, user, BACKEND)
    key = request.session.session_key
    principal = authority.authenticate(key)

    logout(request)

    assert cause_of(authority, key) is Cause.REVOKED
    assert request.session.session_key is None
    entries = authority.call(lambda inner: inner.store.feed.read_after(0, 100))
    assert entries[-1].id == principal.session_id


def test_signing_in_again_gives_a_fresh_session_and_a_fresh_moment_of_authentication(
    authority, user, request_with
):
    request = request_with()
    login(request, user, BACKEND)
    first = request.session.session_key
    before = authority.authenticate(first).auth_time

    login(request, user, BACKEND)

    second = request.session.session_key
    assert authority.authenticate(second).auth_time > before
    assert cause_of(authority, first) is Cause.REVOKED


def test_another_users_login_in_the_same_browser_inherits_nothing(authority, user, request_with):
    from django.contrib.auth.models import User

    bob = User.objects.create_user("bob")
    request = request_with()
    login(request, user, BACKEND)
    request.session["secret"] = "alice's"
    former = request.session.session_key

    login(request, bob, BACKEND)

    assert request.session.get("secret") is None
    assert authority.authenticate(request.session.session_key).subject == f"user-{bob.pk}"
    assert cause_of(authority, former) is Cause.REVOKED


def test_a_user_who_is_written_into_the_session_by_hand_gets_a_session_of_their_own_when_it_is_saved(
    authority, user
):
    session = saved(cart=1)
    visit = session.session_key

    session[SESSION_KEY] = str(user.pk)
    session.save()

    assert authority.authenticate(session.session_key).subject == f"user-{user.pk}"
    assert not SessionStore().exists(visit)


def test_a_session_out_of_which_the_user_is_taken_opens_no_door_any_longer(authority, user, request_with):
    request = request_with()
    login(request, user, BACKEND)
    former = request.session.session_key

    request.session.clear()
    request.session["cart"] = 1
    request.session.save()

    assert request.session.session_key.startswith("kfa_")
    assert cause_of(authority, former) is Cause.REVOKED


def test_whoever_is_cut_off_while_the_password_is_checked_is_not_signed_in_by_the_end_of_the_request(
    authority, user, request_with, password
):
    from django.contrib.auth import authenticate

    found = authenticate(None, username="alice", password=password)
    authority.revoke("subject", f"user-{user.pk}", reason="stolen password")
    request = request_with()

    with pytest.raises(Denied) as denied:
        login(request, found)

    assert denied.value.cause is Cause.REVOKED
    response = SessionMiddleware(lambda _: HttpResponse()).process_response(request, HttpResponse())
    assert not response.cookies
    assert not authority.list_sessions(f"user-{user.pk}").sessions


def test_whoever_is_cut_off_before_the_password_is_checked_can_sign_in(
    authority, user, request_with, password
):
    from django.contrib.auth import authenticate

    authority.revoke("subject", f"user-{user.pk}", reason="stolen laptop")
    request = request_with()

    login(request, authenticate(None, username="alice", password=password))

    assert cause_of(authority, request.session.session_key) is None


# Ended is ended


def revoke(authority, user) -> None:
    authority.revoke("subject", f"user-{user.pk}", reason="theft")


def end_the_one(authority, user) -> None:
    session_id = authority.list_sessions(f"user-{user.pk}").sessions[0].session_id
    authority.revoke("session", session_id)


@pytest.mark.parametrize("end", [revoke, end_the_one])
@pytest.mark.parametrize("act", ["save", "cycle_key"])
def test_a_request_under_way_does_not_bring_back_a_session_that_was_ended(
    authority, user, request_with, end, act
):
    request = request_with()
    login(request, user, BACKEND)
    under_way = SessionStore(request.session.session_key)
    under_way["draft"] = "text"

    end(authority, user)

    with pytest.raises((UpdateError, SessionInterrupted)):
        getattr(under_way, act)()
    assert not authority.list_sessions(f"user-{user.pk}").sessions
    assert SessionStore(request.session.session_key).get(SESSION_KEY) is None


def test_of_two_requests_that_cycle_the_key_at_once_one_is_told_so(authority, user, request_with):
    request = request_with()
    login(request, user, BACKEND)
    key = request.session.session_key
    one, other = SessionStore(key), SessionStore(key)
    assert one[SESSION_KEY] == other[SESSION_KEY]

    one.cycle_key()
    with pytest.raises(SessionInterrupted):
        other.cycle_key()

    assert cause_of(authority, key) is Cause.UNKNOWN_SESSION
    assert cause_of(authority, one.session_key) is None


def test_a_new_key_leaves_session_and_data_what_they_are(authority, user, request_with):
    request = request_with()
    login(request, user, BACKEND)
    request.session["cart"] = 1
    request.session.save()
    before = authority.authenticate(request.session.session_key)

    request.session.cycle_key()

    after = authority.authenticate(request.session.session_key)
    assert (after.session_id, after.auth_time) == (before.session_id, before.auth_time)
    assert SessionStore(request.session.session_key)["cart"] == 1


def test_an_expiry_of_the_applications_own_ends_the_session_at_the_authority_too(
    authority, user, request_with
):
    request = request_with()
    login(request, user, BACKEND)
    request.session.set_expiry(-timedelta(seconds=1))
    request.session.save()
    key = request.session.session_key
    assert cause_of(authority, key) is None

    assert SessionStore(key).get(SESSION_KEY) is None

    assert cause_of(authority, key) is Cause.REVOKED


# What a session keeps


def test_two_requests_at_once_lose_nothing_of_each_other(project):
    key = saved(a=1, b=1, c=1).session_key
    one, other = SessionStore(key), SessionStore(key)
    one["a"] = 2
    del one["c"]
    other["b"] = 2
    other["d"] = 3

    one.save()
    other.save()

    assert dict(SessionStore(key).items()) == {"a": 2, "b": 2, "d": 3}


def test_many_requests_at_once_lose_nothing_of_each_other(project):
    key, begin, failed = saved().session_key, threading.Barrier(6), []

    def add(name: str) -> None:
        session = SessionStore(key)
        session[name] = 1
        begin.wait(10)
        try:
            session.save()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            failed.append(error)

    threads = [threading.Thread(target=add, args=(f"entry-{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert not failed
    assert len(SessionStore(key).keys()) == 6


def test_what_changes_inside_an_entry_after_a_save_is_written_by_the_next(project):
    session = saved(cart={"books": 1})
    session["cart"]["books"] = 2
    other = SessionStore(session.session_key)
    other["seen"] = True
    other.save()

    session.save()

    assert dict(SessionStore(session.session_key).items()) == {"cart": {"books": 2}, "seen": True}


def test_of_one_entry_that_two_changed_the_later_change_stays():
    assert joined({"a": 2}, base={"a": 1}, theirs={"a": 3}) == {"a": 2}
    assert joined({"a": 1}, base={"a": 1}, theirs={}) == {}
    assert joined({}, base={"a": 1}, theirs={"a": 3, "b": 1}) == {"b": 1}


def test_a_session_that_is_given_too_much_says_by_what_and_writes_nothing(project):
    session = saved(small=1)
    noise = "".join(chr(33 + (number * number) % 90) + str(number) for number in range(3000))
    session["basket"] = noise

    with pytest.raises(SessionTooLarge, match=r"at most 4096 bytes.*'basket'") as raised:
        session.save()

    assert noise[:50] not in str(raised.value)
    assert dict(SessionStore(session.session_key).items()) == {"small": 1}
    with pytest.raises(SessionTooLarge):
        saved(basket=noise)


def test_a_login_with_too_much_in_the_session_leaves_no_session_behind(authority, user, request_with):
    request = request_with()
    request.session["basket"] = "".join(chr(33 + (n * n) % 90) + str(n) for n in range(3000))

    with pytest.raises(SessionTooLarge):
        login(request, user, BACKEND)
    with pytest.raises(SessionTooLarge):
        request.session.save()

    assert not authority.list_sessions().sessions


@pytest.mark.parametrize(("more", "fits"), [(-1, True), (0, True), (1, False)])
def test_a_session_keeps_exactly_as_much_as_its_bound(monkeypatch, more, fits):
    codec = SessionCodec(
        type("Plain", (), {"dumps": lambda _, kept: repr(kept).encode(), "loads": lambda _, raw: raw})
    )
    monkeypatch.setattr(SessionCodec, "_text", lambda self, content, session_id: "x" * (MAX_DATA + more))

    if fits:
        assert len(codec.pack(Content({}, 0.0), "0" * 32)) == MAX_DATA + more
    else:
        with pytest.raises(SessionTooLarge):
            codec.pack(Content({}, 0.0), "0" * 32)


def test_an_emptied_session_stays_and_keeps_its_key(project):
    session = saved(foo="bar")
    key = session.session_key
    del session["foo"]

    session.save()

    assert session.session_key == key
    assert SessionStore(key).exists(key)
    assert dict(SessionStore(key).items()) == {}


def test_a_session_that_is_emptied_without_being_read_is_empty(project):
    key = saved(foo="bar").session_key
    session = SessionStore(key)
    session.clear()

    session.save()

    assert dict(SessionStore(key).items()) == {}


def test_what_is_kept_of_one_session_is_not_read_as_that_of_another(authority, user, request_with):
    request = request_with()
    login(request, user, BACKEND)
    theirs = authority.authenticate(request.session.session_key).session_id
    thief = saved(cart=1)
    mine = thief._opened.session_id
    stolen = authority.read_data(theirs).data

    async def swap(inner):
        return await inner.store.sessions.write_data(mine, stolen, version=1, now=inner.clock.now())

    assert authority.call(swap)
    assert dict(SessionStore(thief.session_key).items()) == {}


def test_a_key_that_somebody_else_chose_is_never_used(project):
    session = SessionStore("kfs_" + "A" * 98)
    session["x"] = 1
    session.save(must_create=True)

    assert session.session_key.startswith("kfa_")


# Users who change


def test_a_changed_password_ends_the_other_sessions_and_spares_the_one_it_is_changed_in(
    authority, user, request_with, password, serve, browser
):
    from django.contrib.auth import views
    from django.urls import path

    serve(
        path("password", views.PasswordChangeView.as_view(success_url="/done")),
        path("done", lambda request: HttpResponse(request.user.get_username())),
    )
    elsewhere = request_with()
    login(elsewhere, user, BACKEND)
    browser.force_login(user, BACKEND)
    own = browser.cookies["__Host-session"].value
    session_id = authority.authenticate(own).session_id

    fields = {"old_password": password, "new_password1": "another horse", "new_password2": "another horse"}
    assert browser.post("/password", fields, secure=True).status_code == 302

    assert cause_of(authority, elsewhere.session.session_key) is Cause.REVOKED
    renewed = browser.cookies["__Host-session"].value
    assert renewed != own
    assert authority.authenticate(renewed).session_id == session_id
    assert cause_of(authority, own) is not None
    assert browser.get("/done", secure=True).content == b"alice"


def test_a_password_that_somebody_else_sets_ends_every_session_when_it_is_committed(
    authority, user, request_with
):
    from django.db import transaction

    request = request_with()
    login(request, user, BACKEND)

    with transaction.atomic():
        user.set_password("another horse")
        user.save()
        assert cause_of(authority, request.session.session_key) is None

    assert cause_of(authority, request.session.session_key) is Cause.REVOKED


def test_a_user_who_is_deactivated_or_deleted_is_signed_out_everywhere(authority, user, request_with):
    request = request_with()
    login(request, user, BACKEND)
    user.is_active = False
    user.save()
    assert cause_of(authority, request.session.session_key) is Cause.REVOKED

    user.is_active = True
    user.save()
    request = request_with()
    login(request, user, BACKEND)
    user.delete()
    assert cause_of(authority, request.session.session_key) is Cause.REVOKED


# Without threads


async def test_the_same_journeys_on_an_event_loop(authority, user, request_with):
    request = request_with()
    await request.session.aset("cart", 1)
    await request.session.asave()
    visit = request.session.session_key

    await alogin(request, user, BACKEND)
    await request.session.asave()

    key = request.session.session_key
    assert authority.authenticate(key).subject == f"user-{user.pk}"
    assert not await request.session.aexists(visit)
    assert await SessionStore(key).aget("cart") == 1

    under_way = SessionStore(key)
    await under_way.aset("draft", 1)
    request.user = user
    await alogout(request)

    assert cause_of(authority, key) is Cause.REVOKED
    with pytest.raises(UpdateError):
        await under_way.asave()
    with pytest.raises(SessionInterrupted):
        await under_way.acycle_key()


async def test_a_user_written_by_hand_on_an_event_loop_gets_a_session_of_their_own(authority, user):
    session = SessionStore()
    await session.aset(SESSION_KEY, str(user.pk))

    await session.asave()

    assert authority.authenticate(session.session_key).subject == f"user-{user.pk}"
    await session.apop(SESSION_KEY)
    former = session.session_key
    await session.asave()
    assert session.session_key.startswith("kfa_")
    assert cause_of(authority, former) is Cause.REVOKED
