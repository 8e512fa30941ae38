"""The preconditions of the one rule (design.md, section 2), each as the interleaving that would break it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from keyfob.base.errors import Cause
from keyfob.base.identifiers import ClientId, Strategy, Subject
from keyfob.stores.memory import open_memory_store
from keyfob.stores.opening import open_store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.tokens.grant import SubjectClaims

from .interleaving import DEADLINE, Gate, Paused, Scene, ended

PASSWORD = "correct horse battery"
WINDOW = timedelta(seconds=30)
R, S = Cause.REVOKED, Cause.STALE_CLAIMS


@pytest.fixture
async def scene(open_house: Any, clock: Any, store_url: str) -> Any:
    real = open_memory_store(clock) if store_url == "memory://" else await open_store(store_url, clock=clock)
    sessions, accounts = Paused(real.sessions), Paused(real.accounts)
    other = await open_house(real)
    house = await open_house(replace(real, sessions=sessions, accounts=accounts))
    return Scene(house, other, sessions, accounts)


ENDINGS = ["subject", "everything", "client", "password", "disabled", "deleted", "others"]


# Precondition 2: before the credential is looked at.


@pytest.mark.parametrize("how", ENDINGS)
async def test_an_old_password_that_waits_in_argon2_opens_nothing(scene: Scene, how: str) -> None:
    subject = (await scene.authority.accounts.add("alice", PASSWORD)).subject
    turn = threading.Event()
    busy = scene.authority._parts.passwords.load().threads.submit(turn.wait, DEADLINE)
    gate = scene.accounts.stop("find_by_name", "after")

    async def sign_in() -> Any:
        async with scene.authority.sign_in() as attempt:
            account = await scene.authority.accounts.authenticate("alice", PASSWORD, address="")
            return await attempt.login(account.subject, strategy="hybrid")

    async def change() -> None:
        await ended(scene, how, subject)
        turn.set()

    assert await scene.during(sign_in(), gate, change) is R
    assert busy.result()
    left = (await scene.authority.list_sessions(subject)).sessions
    assert len(left) == (1 if how == "others" else 0)


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_roles_that_change_while_a_password_is_checked_are_in_force(
    scene: Scene, strategy: Strategy
) -> None:
    subject = (await scene.authority.accounts.add("alice", PASSWORD, roles=["boss"])).subject
    gate = scene.accounts.stop("find_by_name", "after")

    async def sign_in() -> Any:
        async with scene.authority.sign_in() as attempt:
            account = await scene.authority.accounts.authenticate("alice", PASSWORD, address="")
            return await attempt.login(account.subject, strategy=strategy)

    issued = await scene.during(sign_in(), gate, lambda: scene.other.authority.set_roles(subject, []))
    assert await scene.house.cause(issued.session_token or issued.access_token, roles={"boss"}) in {
        S,
        Cause.INSUFFICIENT_ROLE,
    }


# The same between `sign_in` and `add`, at the last moment.


@pytest.mark.parametrize("how", [how for how in ENDINGS if how != "password"])
@pytest.mark.parametrize("strategy", list(Strategy))
async def test_who_is_ended_between_sign_in_and_add_is_not_signed_in(
    scene: Scene, strategy: Strategy, how: str
) -> None:
    await scene.authority.set_roles("alice", ["a"])
    gate = scene.sessions.stop("add", "before")
    call = scene.authority.login("alice", strategy=strategy)
    assert await scene.during(call, gate, lambda: ended(scene, how, "alice")) is R


@pytest.mark.parametrize("how", [how for how in ENDINGS if how != "password"])
@pytest.mark.parametrize("strategy", list(Strategy))
async def test_who_is_ended_right_after_add_carries_a_dead_credential(
    scene: Scene, strategy: Strategy, how: str
) -> None:
    await scene.authority.set_roles("alice", ["a"])
    gate = scene.sessions.stop("add", "after")
    call = scene.authority.login("alice", strategy=strategy)
    issued = await scene.during(call, gate, lambda: ended(scene, how, "alice"))
    await scene.authority.feed.catch_up(await scene.other.head())
    assert await scene.house.causes(issued) == [R]
    if issued.refresh_token:
        assert await scene.house.refresh_cause(issued.refresh_token) is R


async def test_a_client_that_is_deleted_while_it_logs_in_holds_nothing(scene: Scene) -> None:
    await scene.authority.clients.add("shop")
    gate = scene.sessions.stop("add", "before")
    call = scene.authority.login("alice", client_id="shop")
    delete = lambda: scene.other.authority.clients.delete("shop", actor="admin")  # noqa: E731
    assert await scene.during(call, gate, delete) is R


# Precondition 3: derived credentials, and the refresh between `find` and `rotate`.


@pytest.mark.parametrize("how", ["session", *ENDINGS])
async def test_a_session_that_ends_between_find_and_rotate_is_not_refreshed(scene: Scene, how: str) -> None:
    await scene.authority.set_roles("alice", ["a"])
    if how == "password":
        how = "subject"
    issued = await scene.authority.login("alice", strategy="hybrid")
    gate = scene.sessions.stop("rotate", "before")

    async def change() -> None:
        if how == "session":
            await scene.other.authority.revoke("session", issued.session_id)
        else:
            await ended(scene, how, "alice")

    assert await scene.during(scene.authority.refresh(issued.refresh_token), gate, change) is R


async def test_a_client_that_is_deleted_while_it_refreshes_gets_nothing(scene: Scene) -> None:
    await scene.authority.clients.add("shop")
    issued = await scene.authority.login("alice", client_id="shop")
    gate = scene.sessions.stop("find", "after")
    call = scene.authority.refresh(issued.refresh_token)
    delete = lambda: scene.other.authority.clients.delete("shop", actor="admin")  # noqa: E731
    assert await scene.during(call, gate, delete) is R


async def test_a_store_whose_clock_is_behind_gives_no_session_a_second_life(open_house: Any) -> None:
    behind = FrozenClock()
    house = await open_house(open_memory_store(behind))
    parent = await house.authority.login("alice")
    child = await house.authority.login("alice", strategy="hybrid", parent_session_id=parent.session_id)
    house.clock.advance(timedelta(minutes=30))
    # To the store's own clock the parent is not idle yet, to the authority's it is: the stricter one counts.
    assert await house.refresh_cause(child.refresh_token) is Cause.UNKNOWN_SESSION
    house.clock.advance(-timedelta(microseconds=1))
    assert await house.refresh_cause(child.refresh_token) is None


async def test_a_session_that_ends_right_after_rotate_leaves_dead_credentials(scene: Scene) -> None:
    issued = await scene.authority.login("alice", strategy="hybrid")
    gate = scene.sessions.stop("rotate", "after")
    call = scene.authority.refresh(issued.refresh_token)
    refreshed = await scene.during(call, gate, lambda: scene.other.authority.revoke("subject", "alice"))
    await scene.authority.feed.catch_up(await scene.other.head())
    assert await scene.house.causes(refreshed) == [R]
    assert await scene.house.refresh_cause(refreshed.refresh_token) is R


@pytest.mark.parametrize("where", ["before", "after"])
async def test_roles_that_change_during_a_refresh_make_its_token_stale_or_are_in_it(
    scene: Scene, where: str
) -> None:
    issued = await scene.authority.login("alice", strategy="hybrid", roles=["boss"])
    gate = scene.sessions.stop("rotate", where)
    call = scene.authority.refresh(issued.refresh_token)
    refreshed = await scene.during(call, gate, lambda: scene.other.authority.set_roles("alice", []))
    await scene.authority.feed.catch_up(await scene.other.head())
    assert await scene.house.cause(refreshed.access_token) is S
    again = await scene.authority.refresh(refreshed.refresh_token)
    assert await scene.house.cause(again.access_token, roles={"boss"}) is Cause.INSUFFICIENT_ROLE


async def test_a_refreshed_token_knows_no_more_than_the_read_of_its_session(scene: Scene) -> None:
    issued = await scene.authority.login("alice", strategy="hybrid")
    known = await scene.other.head()
    gate = scene.sessions.stop("find", "after")
    call = scene.authority.refresh(issued.refresh_token)
    refreshed = await scene.during(
        call, gate, lambda: scene.other.authority.revoke("subject", "alice", reach="claims")
    )
    await scene.authority.feed.catch_up(await scene.other.head())
    assert await scene.other.head() == known + 1
    assert await scene.house.cause(refreshed.access_token) is S


async def test_a_refresh_token_that_was_renewed_between_find_and_rotate_is_unknown(scene: Scene) -> None:
    issued = await scene.authority.login("alice", strategy="hybrid")
    principal = await scene.authority.authenticate(issued.access_token)
    gate = scene.sessions.stop("rotate", "before")
    call = scene.authority.refresh(issued.refresh_token)
    assert (
        await scene.during(call, gate, lambda: scene.other.authority.renew(principal))
        is Cause.UNKNOWN_SESSION
    )


async def test_a_session_that_expires_during_its_refresh_gives_dead_credentials(scene: Scene) -> None:
    issued = await scene.authority.login("alice", strategy="hybrid")
    scene.house.clock.advance(timedelta(days=14) - timedelta(microseconds=1))
    gate = scene.sessions.stop("rotate", "before")

    async def late() -> None:
        scene.house.clock.advance(timedelta(days=16, microseconds=1))

    # `rotate` judges by the moment at which it was asked; its answer is worth nothing any more.
    refreshed = await scene.during(scene.authority.refresh(issued.refresh_token), gate, late)
    assert await scene.house.causes(refreshed) == [Cause.EXPIRED]
    assert await scene.house.refresh_cause(refreshed.refresh_token) is Cause.EXPIRED


# Precondition 4: roles are read after `as_of`.


class SlowDirectory:
    """A claims source that has looked up its answer when it is held."""

    def __init__(self) -> None:
        self.roles = frozenset({"boss"})
        self.gate: Gate | None = None

    async def __call__(self, subject: Subject, client_id: ClientId, /) -> SubjectClaims:
        roles, gate, self.gate = self.roles, self.gate, None
        if gate is not None:
            await gate.wait()
        return SubjectClaims(roles=roles)


@pytest.mark.parametrize(
    "journey", ["login jwt", "login hybrid", "login session", "refresh", "read", "introspect"]
)
async def test_roles_that_change_between_as_of_and_their_source_are_not_held_on_to(
    open_house: Any, store_url: str, journey: str
) -> None:
    directory = SlowDirectory()
    house = await open_house(store_url, claims_source=directory)
    authority = house.authority
    hybrid = await authority.login("alice", strategy="hybrid")
    session = await authority.login("alice", strategy="session")
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "login jwt": lambda: authority.login("alice", strategy="jwt"),
        "login hybrid": lambda: authority.login("alice", strategy="hybrid"),
        "login session": lambda: authority.login("alice", strategy="session"),
        "refresh": lambda: authority.refresh(hybrid.refresh_token),
        "read": lambda: authority.authenticate(session.session_token),
        "introspect": lambda: authority.introspect(session.session_token),
    }
    directory.gate = gate = Gate()
    task = asyncio.ensure_future(calls[journey]())
    await asyncio.wait_for(gate.reached.wait(), DEADLINE)
    directory.roles = frozenset()
    entry = await authority.revoke("subject", "alice", reach="claims")
    gate.open.set()
    answer = await task
    if journey == "introspect":
        # The answer may be cached by whoever asked: its position says that it is covered.
        assert answer["as_of"] < entry.position
    else:
        token = session.session_token if journey == "read" else answer.session_token or answer.access_token
        assert await house.cause(token, roles={"boss"}) in {S, Cause.INSUFFICIENT_ROLE}


# Precondition 5: sparing one session.


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_session_that_is_spared_is_spared_by_the_store_too(scene: Scene, strategy: Strategy) -> None:
    spared = await scene.authority.login("alice", strategy=strategy)
    in_flight = scene.sessions.stop("add", "before")

    async def log_out_others() -> None:
        await scene.other.authority.logout(
            spared.refresh_token or spared.session_token or spared.access_token, devices="others"
        )

    call = scene.authority.login("alice", strategy=strategy)
    assert await scene.during(call, in_flight, log_out_others) is R
    await scene.authority.feed.catch_up(await scene.other.head())
    assert await scene.house.causes(spared) == [None]
    if spared.refresh_token:
        assert await scene.house.causes(await scene.authority.refresh(spared.refresh_token)) == [None]
    # The next entry spares nobody.
    await scene.authority.revoke("subject", "alice")
    assert await scene.house.causes(spared) == [R]


# Precondition 12: renewal, and the cache.


async def test_an_old_token_that_was_read_during_a_renewal_has_no_more_than_the_window(scene: Scene) -> None:
    issued = await scene.authority.login("alice")
    principal = await scene.authority.authenticate(issued.session_token)
    other = await scene.authority.login("alice")  # not cached: this one is read below
    gate = scene.sessions.stop("find", "after")
    call = scene.authority.authenticate(other.session_token)
    renew = lambda: scene.other.authority.renew(replace_session(principal, other.session_id))  # noqa: E731
    assert (await scene.during(call, gate, renew)).session_id == other.session_id
    await scene.house.advance(WINDOW)
    assert await scene.house.causes(other) == [Cause.UNKNOWN_SESSION]


def replace_session(principal: Any, session_id: str) -> Any:
    return msgspec.structs.replace(principal, session_id=session_id)


@pytest.mark.parametrize("how", ["session", "subject", "claims"])
async def test_a_session_that_ends_while_it_is_read_is_not_cached_as_good(scene: Scene, how: str) -> None:
    issued = await scene.authority.login("alice", roles=["boss"])
    gate = scene.sessions.stop("find", "after")

    async def change() -> None:
        if how == "claims":
            await scene.other.authority.set_roles("alice", [])
        else:
            await scene.other.authority.revoke(how, issued.session_id if how == "session" else "alice")

    call = scene.authority.authenticate(issued.session_token)
    await scene.during(call, gate, change)
    await scene.authority.feed.catch_up(await scene.other.head())
    expected = Cause.INSUFFICIENT_ROLE if how == "claims" else R
    assert await scene.house.cause(issued.session_token, roles={"boss"}) is expected


async def test_a_renewal_of_a_session_that_ends_meanwhile_gives_nothing(scene: Scene) -> None:
    issued = await scene.authority.login("alice")
    principal = await scene.authority.authenticate(issued.session_token)
    gate = scene.sessions.stop("renew", "before")
    end = lambda: scene.other.authority.revoke("session", issued.session_id)  # noqa: E731
    assert await scene.during(scene.authority.renew(principal), gate, end) is Cause.UNKNOWN_SESSION
    assert await scene.other.head() == 1


async def test_a_renewal_of_a_jwt_that_ends_meanwhile_gives_nothing(scene: Scene) -> None:
    issued = await scene.authority.login("alice", strategy="jwt")
    principal = await scene.authority.authenticate(issued.access_token)
    gate = scene.sessions.stop("end", "before")
    end = lambda: scene.other.authority.revoke("session", issued.session_id)  # noqa: E731
    assert await scene.during(scene.authority.renew(principal), gate, end) is R
    assert await scene.other.head() == 1
