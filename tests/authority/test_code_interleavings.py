"""A code that is used twice: whichever comes first, and wherever the other comes in between, nothing that it gave lives on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from keyfob.authority.authorizations import Opened
from keyfob.authority.client_logins import Origin
from keyfob.authority.user_tokens import UserGranted
from keyfob.base.clock import SystemClock
from keyfob.base.errors import Cause, GrantRefused
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, Strategy, Subject
from keyfob.clients.registration import Registration
from keyfob.grants.authorization_code import CodeUse
from keyfob.grants.parameters import Parameters
from keyfob.grants.pkce import challenge_of
from keyfob.sessions.policy import Lifetimes, SessionPolicy
from keyfob.stores.opening import open_store

from .conftest import MASTER_KEY
from .interleaving import DEADLINE, Gate, Paused

CHILD = Path(__file__).parent / "code_child.py"
CALLBACK = "https://shop.example/cb"
VERIFIER = "v" * 43


class Shop:
    """A client of which every step at the store can be held, and the same client at another authority on that store."""

    def __init__(
        self, house: Any, other: Any, grants: Paused, sessions: Paused, consents: Paused | None = None
    ) -> None:
        self.house, self.other = house, other
        self.grants, self.sessions, self.consents = grants, sessions, consents

    async def code(self, scope: str = "read") -> CodeUse:
        return CodeUse(
            secret=await given_code(self.house.authority, scope), redirect_uri=CALLBACK, verifier=VERIFIER
        )

    async def exchange(self, use: CodeUse, *, at: Any = None, client_id: str = "shop") -> UserGranted | None:
        authority = (at or self.house).authority
        client = await authority.clients.get(client_id)
        try:
            return await authority.user_tokens.for_code(client, use, origin=Origin())
        except GrantRefused as refusal:
            return None if refusal.code == "invalid_grant" else pytest.fail(refusal.code)

    async def interleave(self, use: CodeUse, gate: Gate) -> tuple[UserGranted | None, UserGranted | None]:
        """Use the code, and again at the other authority while the first use waits at *gate*."""
        first = asyncio.ensure_future(self.exchange(use))
        await asyncio.wait_for(gate.reached.wait(), DEADLINE)
        second = await self.exchange(use, at=self.other)
        gate.open.set()
        return await asyncio.wait_for(first, DEADLINE), second

    async def live(self) -> list[str]:
        """The sessions at the client that are live."""
        page = await self.other.authority.list_sessions()
        return [one.session_id for one in page.sessions if one.client_id != "first-party"]


async def given_code(
    authority: Any, scope: str = "read", *, client_id: str = "shop", between: Any = None
) -> str:
    """Return a code of alice's browser for the shop; *between* happens once it is known whose browser it is."""
    issued = await authority.login("alice", strategy="session")
    asked = {
        "client_id": client_id,
        "response_type": "code",
        "redirect_uri": CALLBACK,
        "scope": scope,
        "code_challenge": challenge_of(VERIFIER),
        "code_challenge_method": "S256",
    }
    opened = await authority.authorizations.open(Parameters.of(asked.items()))
    assert isinstance(opened, Opened)
    visitor = await authority.authorizations.visitor(issued.session_token)
    if between is not None:
        await between(issued)
    return await authority.authorizations.answer(opened, visitor)


async def add_shop(authority: Any) -> None:
    await authority.clients.add(
        "shop",
        scopes=["read", "offline_access"],
        registration=Registration(public=True, first_party=True, redirect_uris=[CALLBACK]),
    )


@pytest.fixture
async def shop(open_house: Any, clock: Any, sqlite_url: str) -> Shop:
    real = await open_store(sqlite_url, clock=clock)
    grants, sessions, consents = Paused(real.grants), Paused(real.sessions), Paused(real.consents)
    house = await open_house(replace(real, grants=grants, sessions=sessions, consents=consents))
    await add_shop(house.authority)
    return Shop(house, await open_house(sqlite_url), grants, sessions, consents)


@pytest.fixture(params=["sqlite_url", "postgres_url", "redis_url"])
def every_url(request: pytest.FixtureRequest) -> str:
    """Every store that several processes can share."""
    return str(request.getfixturevalue(request.param))


@pytest.mark.meets("10.4.2")
@pytest.mark.parametrize("scope", ["read", "read offline_access"])
@pytest.mark.parametrize(
    ("port", "verb", "where"),
    [
        ("grants", "take", "after"),
        ("grants", "amend", "before"),
        ("grants", "amend", "after"),
        ("sessions", "add", "before"),
        ("sessions", "add", "after"),
    ],
)
async def test_a_second_use_before_the_answer_leaves_both_with_nothing(
    shop: Shop, port: str, verb: str, where: str, scope: str
) -> None:
    use = await shop.code(scope)
    gate = getattr(shop, port).stop(verb, where)
    assert await shop.interleave(use, gate) == (None, None)
    assert await shop.live() == []


@pytest.mark.parametrize("scope", ["read", "read offline_access"])
async def test_a_second_use_after_the_last_look_ends_what_the_first_is_given(shop: Shop, scope: str) -> None:
    use = await shop.code(scope)
    last_look = shop.grants.stop("amend", "before")
    first = asyncio.ensure_future(shop.exchange(use))
    await asyncio.wait_for(last_look.reached.wait(), DEADLINE)
    gate = shop.sessions.stop("find", "after")  # that the session stands: the last of step 6
    last_look.open.set()
    await asyncio.wait_for(gate.reached.wait(), DEADLINE)
    assert await shop.exchange(use, at=shop.other) is None
    gate.open.set()
    granted = await asyncio.wait_for(first, DEADLINE)
    assert granted is not None
    assert await shop.live() == []
    await shop.house.authority.feed.catch_up(await shop.house.head())
    assert await shop.house.cause(granted.access_token.text) is Cause.REVOKED


async def test_the_first_use_may_be_the_one_that_waits(shop: Shop) -> None:
    """Both have found the code unused; the one that was to be second takes it."""
    use = await shop.code()
    gate = shop.grants.stop("take", "before")
    first, second = await shop.interleave(use, gate)
    assert first is None
    assert second is not None
    assert await shop.live() == []


@pytest.mark.meets("10.4.2")
async def test_of_many_uses_at_once_nothing_lives_on(open_house: Any, every_url: str) -> None:
    house = await open_house(every_url)
    await add_shop(house.authority)
    shop = Shop(house, await open_house(every_url), Paused(None), Paused(None))
    for _ in range(5):
        use = await shop.code()
        places = [shop.house, shop.other] * 3
        granted = await asyncio.gather(*(shop.exchange(use, at=place) for place in places))
        assert sum(one is not None for one in granted) <= 1
        assert await shop.live() == []


@pytest.mark.parametrize("scope", ["read", "read offline_access"])
@pytest.mark.parametrize(
    ("port", "verb", "where"),
    [
        ("grants", "find", "after"),
        ("grants", "take", "after"),
        ("sessions", "add", "before"),
        ("sessions", "add", "after"),
    ],
)
@pytest.mark.parametrize("how", ["subject", "client", "disabled"])
async def test_what_is_ended_while_a_code_is_exchanged_does_not_live_on(
    shop: Shop, port: str, verb: str, where: str, scope: str, how: str
) -> None:
    use = await shop.code(scope)
    gate = getattr(shop, port).stop(verb, where)
    exchange = asyncio.ensure_future(shop.exchange(use))
    await asyncio.wait_for(gate.reached.wait(), DEADLINE)
    authority = shop.other.authority
    if how == "disabled":
        await authority.accounts.disable("alice", actor="admin")
    else:
        await authority.revoke(how, "alice" if how == "subject" else "shop")
    gate.open.set()
    granted = await asyncio.wait_for(exchange, DEADLINE)
    assert await shop.live() == []
    if granted is not None:
        await shop.house.authority.feed.catch_up(await shop.house.head())
        assert await shop.house.cause(granted.access_token.text) is Cause.REVOKED


async def test_a_login_that_ends_while_a_code_is_exchanged_takes_its_child_along(shop: Shop) -> None:
    for verb, where in (("find", "after"), ("take", "after")):
        use = await shop.code()
        parents = [one.session_id for one in (await shop.other.authority.list_sessions("alice")).sessions]
        gate = shop.grants.stop(verb, where)
        exchange = asyncio.ensure_future(shop.exchange(use))
        await asyncio.wait_for(gate.reached.wait(), DEADLINE)
        for parent in parents:
            await shop.other.authority.revoke("session", parent)
        gate.open.set()
        assert await asyncio.wait_for(exchange, DEADLINE) is None
        assert await shop.live() == []


async def test_a_code_knows_no_more_than_the_read_of_its_login(shop: Shop) -> None:
    """Precondition 3: others are signed out between the two; the login goes on, and what was begun before does not."""

    async def others_out(issued: Any) -> None:
        await shop.other.authority.revoke("subject", "alice", spared=issued.session_id)

    for scope in ("read", "read offline_access"):
        secret = await given_code(shop.house.authority, scope, between=others_out)
        assert await shop.exchange(CodeUse(secret=secret, redirect_uri=CALLBACK, verifier=VERIFIER)) is None
    assert await shop.live() == []
    assert await shop.exchange(await shop.code()) is not None


@pytest.mark.parametrize("scope", ["read", "read offline_access"])
@pytest.mark.parametrize(
    ("port", "verb", "where"),
    [
        ("grants", "find", "after"),
        ("grants", "take", "after"),
        ("sessions", "add", "before"),
        ("sessions", "add", "after"),
        ("consents", "find", "after"),
    ],
)
async def test_a_consent_that_is_taken_back_while_a_code_is_exchanged_takes_the_session_along(
    shop: Shop, port: str, verb: str, where: str, scope: str
) -> None:
    authority = shop.house.authority
    registration = Registration(public=True, redirect_uris=[CALLBACK])
    await authority.clients.add("others", scopes=["read", "offline_access"], registration=registration)
    event = Event(at=shop.house.clock.now(), code="consent_given")
    scopes = frozenset(scope.split())
    await authority.store.consents.give(Subject("alice"), ClientId("others"), scopes, event=event)
    secret = await given_code(authority, scope, client_id="others")
    use = CodeUse(secret=secret, redirect_uri=CALLBACK, verifier=VERIFIER)
    gate = getattr(shop, port).stop(verb, where)
    exchange = asyncio.ensure_future(shop.exchange(use, client_id="others"))
    await asyncio.wait_for(gate.reached.wait(), DEADLINE)
    await shop.other.authority.consents.withdraw(Subject("alice"), "others")
    gate.open.set()
    # Where it had looked already, the session is looked at once more.
    assert await asyncio.wait_for(exchange, DEADLINE) is None
    assert await shop.live() == []


async def test_no_access_token_outlives_a_login_that_idles_out_soon(open_house: Any) -> None:
    lifetimes = {**SessionPolicy().lifetimes}
    lifetimes[Strategy.SESSION] = Lifetimes(idle=timedelta(minutes=5), absolute=timedelta(hours=12))
    house = await open_house(policy=SessionPolicy(lifetimes=lifetimes))
    await add_shop(house.authority)
    shop = Shop(house, house, Paused(None), Paused(None))
    granted = await shop.exchange(await shop.code())
    assert granted is not None
    assert granted.access_token.expires_in == 300


async def test_a_login_with_less_than_a_second_left_gives_nothing(open_house: Any, clock: Any) -> None:
    house = await open_house()
    await add_shop(house.authority)
    shop = Shop(house, house, Paused(None), Paused(None))
    use = await shop.code()
    login = (await house.authority.list_sessions("alice")).sessions[0]
    left = msgspec.structs.replace(login, expires_at=clock.now() + timedelta(milliseconds=500))
    house.authority.store.sessions._state.sessions[login.session_id] = left
    assert await shop.exchange(use) is None


async def test_a_request_is_answered_by_one_of_two_authorities(shop: Shop) -> None:
    one, other = shop.house.authority.authorizations, shop.other.authority.authorizations
    issued = await shop.house.authority.login("alice", strategy="session")
    visitor = await one.visitor(issued.session_token)
    asked = {
        "client_id": "shop",
        "response_type": "code",
        "code_challenge": challenge_of(VERIFIER),
        "code_challenge_method": "S256",
    }
    opened = await one.open(Parameters.of(asked.items()))
    secret = await one.keep(opened)
    kept = [await place.resume(secret) for place in (one, other)]
    outcomes = await asyncio.gather(
        *(place.answer(opened, visitor) for place, opened in zip((one, other), kept, strict=True)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 1


@contextmanager
def child(url: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, str(CHILD), url, MASTER_KEY.hex()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


async def test_of_two_processes_one_gets_a_session_at_most_and_none_lives_on(
    open_house: Any, sqlite_url: str
) -> None:
    house = await open_house(sqlite_url, clock=SystemClock())
    await add_shop(house.authority)
    with child(sqlite_url) as one, child(sqlite_url) as other:
        for _ in range(10):
            secret = await given_code(house.authority)
            use = json.dumps({"secret": secret, "redirect_uri": CALLBACK, "verifier": VERIFIER}) + "\n"
            for process in (one, other):
                assert process.stdin is not None
                process.stdin.write(use)
                process.stdin.flush()
            said = [await asyncio.to_thread(process.stdout.readline) for process in (one, other)]  # type: ignore[union-attr]
            assert said.count("refused\n") >= 1, said
            page = await house.authority.list_sessions("alice")
            assert [one for one in page.sessions if one.client_id == "shop"] == []
