"""The authority for synchronous callers."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from keyfob.authority.authority import Authority as AsyncAuthority
from keyfob.base.errors import ConfigurationError, Denied, NotFound, StoreUnavailable
from keyfob.base.identifiers import ClientId, Subject
from keyfob.sync import Authority
from keyfob.tokens.grant import SubjectClaims

ISSUER = "https://auth.example"
DEADLINE = 10.0  # seconds


@pytest.fixture
def authority() -> Iterator[Authority]:
    with Authority.open("memory://", issuer=ISSUER) as opened:
        yield opened


def test_the_journeys_have_the_same_names(authority: Authority) -> None:
    issued = authority.login("alice", strategy="hybrid", audience="orders", roles=["buyer"])
    principal = authority.authenticate(str(issued.access_token), audience="orders", roles={"buyer"})
    assert principal.subject == "alice"
    assert authority.introspect(str(issued.access_token))["active"] is True
    again = authority.refresh(str(issued.refresh_token))
    assert len(authority.list_sessions("alice").sessions) == 1
    assert authority.set_roles("alice", ["seller"]) is not None
    renewed = authority.renew(principal)
    assert renewed.session_id == again.session_id
    assert authority.logout(str(renewed.refresh_token)) is not None
    with pytest.raises(Denied, match="revoked"):
        authority.authenticate(str(renewed.access_token))
    assert authority.revoke("subject", "alice", reason="stolen laptop").position > 0


def test_every_method_of_the_asynchronous_authority_is_there_and_takes_the_same() -> None:
    for name, method in inspect.getmembers(AsyncAuthority, inspect.isfunction):
        if name.startswith("_") or name == "guard":  # a guard cancels a task: there is none to cancel here
            continue
        ours = inspect.signature(getattr(Authority, name))
        assert list(ours.parameters.values()) == list(inspect.signature(method).parameters.values()), name


def test_the_smaller_moves_are_there_too(authority: Authority) -> None:
    issued = authority.login("alice")
    token = str(issued.session_token)
    principal = authority.authenticate(token)
    assert authority.authenticate_cached(token) == principal
    assert authority.authenticate_cached("nonsense") is None
    minted = authority.mint(principal, "orders")
    assert authority.authenticate(minted.text, audience="orders").subject == "alice"
    assert authority.csrf_matches(issued.session_id, authority.csrf_token(issued.session_id))
    data = authority.read_data(issued.session_id)
    assert data is not None
    assert (data.data, data.version) == (b"", 0)
    with pytest.raises(NotFound):
        authority.change_password(principal, "old password", "new password")
    assert authority.end_session(principal, "0" * 32) is None
    assert authority.end_session(principal, issued.session_id) is not None
    assert authority.read_data(issued.session_id) is None


def test_what_ends_the_subject_during_an_attempt_ends_the_attempt(authority: Authority) -> None:
    with authority.sign_in() as attempt:
        assert attempt.login("alice").subject == "alice"
        authority.revoke("subject", "alice")
        with pytest.raises(Denied, match="revoked"):
            attempt.login("alice")


def test_many_threads_share_one_authority(authority: Authority) -> None:
    def journey(number: int) -> str:
        issued = authority.login(f"user{number}", strategy="session")
        return authority.authenticate(str(issued.session_token)).subject

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(journey, range(40))) == [f"user{number}" for number in range(40)]


def test_closing_twice_is_closing_once() -> None:
    authority = Authority.open("memory://", issuer=ISSUER)
    authority.close()
    authority.close()


def test_what_cannot_be_opened_leaves_no_thread_behind() -> None:
    with pytest.raises(ConfigurationError):
        Authority.open("memory://", issuer="nonsense")
    with pytest.raises(ConfigurationError):
        Authority.open("nonsense://", issuer=ISSUER)


FORK = """
import os, sys
from keyfob.sync import Authority
from keyfob.tokens.grant import SubjectClaims
from keyfob.base.errors import ConfigurationError

authority = Authority.open("memory://", issuer="https://auth.example")
token = authority.login("bob").session_token
assert authority.authenticate(token).path
assert authority.authenticate_cached(token) is not None
child = os.fork()
if child == 0:
    if authority.authenticate_cached(token) is not None:
        os._exit(3)
    try:
        authority.login("alice")
    except ConfigurationError as error:
        authority.close()
        os._exit(7 if "fork" in str(error) else 1)
    os._exit(2)
_, status = os.waitpid(child, 0)
authority.login("alice")
authority.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_is_told_so_and_its_parent_goes_on() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 7, done.stderr


class Door:
    """A claims source that holds whoever asks until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = asyncio.Event()

    async def __call__(self, subject: Subject, client_id: ClientId, /) -> SubjectClaims:
        self.reached.set()
        await self.open.wait()
        return SubjectClaims()


def test_memory_answers_under_the_same_policy_as_the_store(authority: Authority) -> None:
    token = str(authority.login("alice", roles=["buyer"], audience="orders").session_token)
    assert authority.authenticate(token, audience="orders", roles={"buyer"}).path == "session"
    assert authority.authenticate(token, audience="orders", roles={"buyer"}).path == "session cache"

    for refused in (
        {"roles": {"seller"}},
        {"scopes": {"orders:read"}},
        {"audience": "stock"},
        {"max_auth_age": timedelta(0)},
    ):
        with pytest.raises(Denied):
            authority.authenticate(token, **refused)


async def test_callers_on_a_loop_of_their_own_wait_without_keeping_it(authority: Authority) -> None:
    token = str(authority.login("alice").session_token)

    principal = await authority.acall(lambda inner: inner.authenticate(token))

    assert principal.subject == "alice"
    assert authority.call(lambda inner: inner.authenticate(token)) == principal
    assert authority.submit(lambda inner: inner.authenticate(token)).result(DEADLINE) == principal


async def test_a_caller_on_a_loop_is_told_when_the_authority_closes_and_cancels_the_work_when_it_gives_up() -> (
    None
):
    door = Door()
    authority = Authority.open("memory://", issuer=ISSUER, claims_source=door)
    waiting = asyncio.ensure_future(authority.acall(lambda inner: inner.login("alice")))
    await asyncio.to_thread(door.reached.wait, DEADLINE)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    door.reached.clear()

    waiting = asyncio.ensure_future(authority.acall(lambda inner: inner.login("alice")))
    await asyncio.to_thread(door.reached.wait, DEADLINE)
    await asyncio.to_thread(authority.close)
    with pytest.raises(StoreUnavailable):
        await waiting
    with pytest.raises(StoreUnavailable):
        await authority.acall(lambda inner: inner.login("alice"))


def test_a_call_under_way_when_it_closes_ends_with_an_error_and_hangs_nobody() -> None:
    door = Door()
    authority = Authority.open("memory://", issuer=ISSUER, claims_source=door)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(authority.login, "alice")
        assert door.reached.wait(DEADLINE)
        authority.close()
        with pytest.raises(StoreUnavailable):
            call.result(DEADLINE)


def test_a_closed_authority_answers_nothing() -> None:
    authority = Authority.open("memory://", issuer=ISSUER)
    issued = authority.login("alice")
    authority.close()
    for call in (
        lambda: authority.login("alice"),
        lambda: authority.authenticate(str(issued.session_token)),
        lambda: authority.logout(str(issued.session_token)),
    ):
        with pytest.raises(StoreUnavailable):
            call()
    with pytest.raises(StoreUnavailable), authority.sign_in():
        pass


def test_many_threads_may_close_it_while_others_call() -> None:
    for _ in range(10):
        authority = Authority.open("memory://", issuer=ISSUER)
        begin = threading.Barrier(8)

        def act(number: int, authority: Authority = authority, begin: threading.Barrier = begin) -> bool:
            begin.wait(DEADLINE)
            if number % 2:
                authority.close()
                return True
            try:
                return authority.login(f"user{number}").session_token is not None
            except StoreUnavailable:
                return True

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(act, range(8), timeout=DEADLINE))
