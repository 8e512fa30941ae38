"""Sessions of Django in two processes on one database: what one ends is over in the other, whatever was under way there."""

from __future__ import annotations

import pytest
from django.contrib.auth import SESSION_KEY, login
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.test import override_settings

from keyfob import Denied
from keyfob.integrations.django.sessions import SessionStore
from keyfob.sync import Authority

BACKEND = "keyfob.integrations.django.backends.ModelBackend"


@pytest.fixture
def authority(tmp_path):
    with Authority.open(f"sqlite:///{tmp_path / 'keyfob.db'}", issuer="https://auth.example") as opened:
        yield opened


@pytest.fixture
def other(authority, tmp_path):
    """The authority of another process on the same database."""
    with Authority.open(f"sqlite:///{tmp_path / 'keyfob.db'}", issuer="https://auth.example") as opened:
        yield opened


@pytest.fixture
def signed_in(user, request_with):
    request = request_with()
    login(request, user, BACKEND)
    request.session.save()
    return request.session.session_key


def end_by_revocation(other, user, key):
    other.revoke("subject", f"user-{user.pk}", reason="theft")


def end_by_logout(other, user, key):
    other.logout(key)


def end_in_django(other, user, key):
    with override_settings(KEYFOB={"SOURCE": lambda: other}):
        SessionStore(key).flush()


@pytest.mark.parametrize("end", [end_by_revocation, end_by_logout, end_in_django])
def test_what_another_process_ends_is_over_for_the_next_read_and_for_what_was_read_before(
    user, signed_in, other, end
):
    read_before = SessionStore(signed_in)
    assert read_before[SESSION_KEY] == str(user.pk)
    read_before["draft"] = 1
    renewing = SessionStore(signed_in)
    assert renewing[SESSION_KEY] == str(user.pk)

    end(other, user, signed_in)

    assert SessionStore(signed_in).get(SESSION_KEY) is None
    with pytest.raises(UpdateError):
        read_before.save()
    with pytest.raises(SessionInterrupted):
        renewing.cycle_key()
    assert not other.list_sessions(f"user-{user.pk}").sessions


def test_what_another_process_writes_is_read_at_once_and_joined(user, signed_in, other):
    mine = SessionStore(signed_in)
    mine["mine"] = 1
    with override_settings(KEYFOB={"SOURCE": lambda: other}):
        theirs = SessionStore(signed_in)
        theirs["theirs"] = 1
        theirs.save()
    assert SessionStore(signed_in)["theirs"] == 1

    mine.save()

    kept = dict(SessionStore(signed_in).items())
    assert (kept["mine"], kept["theirs"]) == (1, 1)


def test_a_key_that_another_process_has_renewed_is_not_written_with_again(
    user, signed_in, other, eventually_denied
):
    with override_settings(KEYFOB={"SOURCE": lambda: other}):
        renewed = SessionStore(signed_in)
        renewed.cycle_key()
        assert SessionStore(renewed.session_key)[SESSION_KEY] == str(user.pk)

    eventually_denied(signed_in)
    assert SessionStore(signed_in).get(SESSION_KEY) is None


def test_a_login_begun_before_another_process_cut_the_user_off_is_refused(
    user, password, other, request_with
):
    from django.contrib.auth import authenticate

    found = authenticate(None, username="alice", password=password)
    other.revoke("subject", f"user-{user.pk}")

    with pytest.raises(Denied, match="revoked"):
        login(request_with(), found)
    assert not other.list_sessions(f"user-{user.pk}").sessions


@pytest.fixture
def eventually_denied(authority):
    """Wait until this process has heard of a renewal, which takes it milliseconds."""
    import time

    def waiting(token: str) -> None:
        until = time.monotonic() + 5
        while True:
            try:
                authority.authenticate(token)
            except Denied:
                return
            assert time.monotonic() < until, "still taken"
            time.sleep(0.005)

    return waiting
