"""The authority for synchronous callers."""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from keyfob.accounts.accounts import Accounts as AsyncAccounts
from keyfob.authority.api_keys import ApiKeyOrder
from keyfob.authority.api_keys import ApiKeys as AsyncApiKeys
from keyfob.authority.authority import Authority as AsyncAuthority
from keyfob.authority.client_authentication import ClientSecret
from keyfob.authority.machine_tokens import MachineTokens as AsyncMachineTokens
from keyfob.authority.machine_tokens import Wanted
from keyfob.authority.visits import Visits as AsyncVisits
from keyfob.base.errors import (
    Cause,
    ConfigurationError,
    Denied,
    GrantRefused,
    InvalidRequest,
    NotFound,
    StoreUnavailable,
)
from keyfob.base.identifiers import ClientId, Subject
from keyfob.clients.clients import Clients as AsyncClients
from keyfob.sessions.store import MAX_DATA
from keyfob.sync import Authority
from keyfob.sync.parts import Accounts, ApiKeys, Clients, MachineTokens, Visits
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
        if name.startswith("_") or name == "guard":  # there is no task to cancel here: ours calls a function
            continue
        ours = inspect.signature(getattr(Authority, name))
        assert list(ours.parameters.values()) == list(inspect.signature(method).parameters.values()), name


WITHOUT = {
    "store": "its verbs are asynchronous: call(lambda inner: inner.store...)",
    "keys": "as store",
    "feed": "as store; `staleness` is what synchronous applications ask of it",
    "trail": "as store",
    "activity": "written by the authority itself",
    "reports": "of use to endpoints alone",
    "endings": "behind `revoke` and `logout`",
    "issuing": "behind `login`, `refresh` and `mint`",
    "client_authentication": "of use to endpoints alone: `machine_tokens` asks it",
    "authorizations": "of use to endpoints alone",
    "user_tokens": "as authorizations",
    "id_tokens": "as authorizations",
    "user_info": "as authorizations",
    "backchannel": "as authorizations",
    "consents": "as authorizations",
    "device_flow": "as authorizations",
    "hand_offs": "as authorizations",
    "token_revocation": "as authorizations",
    "introspection": "behind `introspect`",
    "reads_at_once": "of use to the server alone",
}


async def test_every_public_name_of_the_asynchronous_authority_is_there(authority: Authority) -> None:
    async with AsyncAuthority.open("memory://", issuer=ISSUER) as inner:
        names = {name for name in dir(inner) if not name.startswith("_")}
    assert names - set(dir(authority)) == set(WITHOUT)


PARTS = [
    ("accounts", Accounts, AsyncAccounts),
    ("clients", Clients, AsyncClients),
    ("api_keys", ApiKeys, AsyncApiKeys),
    ("machine_tokens", MachineTokens, AsyncMachineTokens),
    ("visits", Visits, AsyncVisits),
]


@pytest.mark.parametrize(("name", "ours", "theirs"), PARTS)
def test_every_method_of_a_part_is_there_and_takes_the_same(name: str, ours: type, theirs: type) -> None:
    with Authority.open("memory://", issuer=ISSUER) as authority:
        part = getattr(authority, name)
        for method, function in inspect.getmembers(theirs, inspect.isfunction):
            if method.startswith("_"):
                continue
            assert inspect.signature(getattr(part, method), follow_wrapped=True) == inspect.signature(
                function
            ), method
            assert getattr(ours, method).__doc__ == function.__doc__


def test_accounts_and_clients_are_kept_without_an_event_loop(authority: Authority) -> None:
    account = authority.accounts.add("alice", "seventeen green llamas", roles=["buyer"])
    with authority.sign_in() as attempt:
        found = authority.accounts.authenticate("alice", "seventeen green llamas", address="192.0.2.1")
        assert attempt.login(found.subject).subject == account.subject
    with pytest.raises(Denied, match="bad_credentials"):
        authority.accounts.authenticate("alice", "seventeen blue llamas", address="192.0.2.1")
    added = authority.clients.add("orders", scopes=["keyfob:feed"])
    assert authority.clients.authenticate("orders", added.secret) == added.client
    assert authority.call(lambda inner: inner.store.feed.head()).position >= 0


def test_machines_get_their_tokens_without_an_event_loop(authority: Authority) -> None:
    added = authority.clients.add("orders", scopes=["orders:read"])
    granted = authority.machine_tokens.for_client(ClientSecret("orders", str(added.secret)), Wanted())
    assert authority.authenticate(granted.token.text).subject == "orders"
    with pytest.raises(Denied, match="bad_credentials"):
        authority.machine_tokens.for_client(ClientSecret("orders", "wrong"), Wanted())
    with pytest.raises(GrantRefused, match="not granted for this audience"):
        authority.machine_tokens.for_client(
            ClientSecret("orders", str(added.secret)), Wanted(scopes=["orders:write"])
        )

    order = ApiKeyOrder(name="nightly", audience=[ISSUER], scopes=["orders:read"])
    key = authority.api_keys.add_for_service("orders", order, actor="test")
    exchanged = authority.machine_tokens.for_api_key(key.text, Wanted())
    assert exchanged.scopes == {"orders:read"}
    assert authority.authenticate(exchanged.token.text).session_id == key.api_key.key_id
    authority.api_keys.revoke(key.api_key.key_id, actor="test")
    with pytest.raises(Denied, match="revoked"):
        authority.authenticate(exchanged.token.text)


def test_visitors_are_kept_without_an_event_loop(authority: Authority) -> None:
    visit = authority.visits.begin()
    found = authority.visits.find(visit.token)
    assert found is not None
    assert found.session_id == authority.visits.require(visit.token).session_id == visit.session_id
    assert authority.logout(visit.token) is not None
    assert authority.visits.find(visit.token) is None


def test_data_is_compared_and_set(authority: Authority) -> None:
    session_id = authority.login("alice").session_id
    assert authority.write_data(session_id, b"first", version=0)
    assert not authority.write_data(session_id, b"late", version=0)
    assert authority.sessions.write_data(session_id, b"x" * MAX_DATA, 1)
    with pytest.raises(InvalidRequest, match="at most 4096 bytes, not 4097"):
        authority.write_data(session_id, b"x" * (MAX_DATA + 1), version=2)
    kept = authority.sessions.read_data(session_id)
    assert kept is not None
    assert (kept.data, kept.version) == (b"x" * MAX_DATA, 2)


def test_a_guard_says_when_its_principal_is_revoked_and_not_after_it_was_left(authority: Authority) -> None:
    issued = authority.login("alice", strategy="session")
    principal = authority.authenticate(str(issued.session_token))
    causes: queue.SimpleQueue[Cause] = queue.SimpleQueue()
    with authority.guard(principal, ended=causes.put):
        pass
    with authority.guard(principal, ended=causes.put) as guard:
        guard.require()
        authority.revoke("subject", "alice")
        assert causes.get(timeout=DEADLINE) is Cause.REVOKED
        assert guard.cause is Cause.REVOKED
        with pytest.raises(Denied, match="revoked"):
            guard.require()
    with pytest.raises(Denied, match="revoked"), authority.guard(principal, ended=causes.put):
        pass
    assert causes.empty()


def test_a_guard_ends_with_its_authority(authority: Authority) -> None:
    principal = authority.authenticate(str(authority.login("alice").session_token))
    causes: queue.SimpleQueue[Cause] = queue.SimpleQueue()
    with authority.guard(principal, ended=causes.put):
        authority.close()
        assert causes.get(timeout=DEADLINE) is Cause.VERIFIER_STALE


def test_a_login_of_before_is_void_where_the_subject_was_ended_since(authority: Authority) -> None:
    with authority.sign_in(as_of=0) as attempt:
        assert attempt.login("alice").subject == "alice"
    authority.revoke("subject", "alice")
    with authority.sign_in(as_of=0) as attempt, pytest.raises(Denied, match="revoked"):
        attempt.login("alice")
    with authority.sign_in() as attempt:
        assert attempt.login("alice").subject == "alice"


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


def test_who_calls_while_a_fork_waits_for_others_waits_for_the_fork(tmp_path) -> None:
    door = Door()
    url = f"sqlite:///{tmp_path}/keyfob.db"
    with Authority.open(url, issuer=ISSUER, claims_source=door) as authority, ThreadPoolExecutor(3) as pool:
        home = authority._home
        under_way = pool.submit(authority.login, "alice")
        assert door.reached.wait(DEADLINE)
        forking = pool.submit(home.before_fork)
        while not home._is_forking:
            assert not forking.done()
        late = pool.submit(authority.list_sessions)
        with pytest.raises(TimeoutError):
            late.result(0.2)

        home._running.thread.loop.call_soon_threadsafe(door.open.set)

        assert under_way.result(DEADLINE).subject == "alice"
        forking.result(DEADLINE)
        assert home._running is None
        assert not late.done()
        home.after_fork_in_parent()
        assert [found.subject for found in late.result(DEADLINE).sessions] == ["alice"]
