"""Each cause of revocation leaves exactly one entry, and nothing else leaves any."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyfob.accounts.passwords import PasswordPolicy
from keyfob.authority.authority import Authority
from keyfob.base.errors import KeyfobError
from keyfob.base.identifiers import Strategy, Subject
from keyfob.keys.store import KeyPurpose
from keyfob.sessions.policy import AtLimit, SessionPolicy
from keyfob.testing.frozen_clock import FrozenClock

CHEAP = PasswordPolicy(memory_kib=8, iterations=1, threads=1)
PASSWORD, NEW = "correct horse battery", "a much better one"
LIMIT = 4

Act = Callable[[], Awaitable[object]]


@dataclass
class World:
    authority: Authority
    clock: FrozenClock
    number: int = 0

    def subject(self) -> str:
        """Somebody of whom nothing is known yet."""
        self.number += 1
        return f"subject{self.number}"

    async def account(self) -> Subject:
        return (await self.authority.accounts.add(self.subject(), PASSWORD)).subject

    async def login(self, strategy: str = "hybrid", subject: str | None = None, **more: Any) -> Any:
        return await self.authority.login(subject or self.subject(), strategy=strategy, **more)

    async def principal(self, issued: Any) -> Any:
        return await self.authority.authenticate(issued.session_token or issued.access_token)

    async def head(self) -> int:
        return (await self.authority.store.feed.head()).position


def token_of(issued: Any) -> str:
    return issued.refresh_token or issued.session_token or issued.access_token


Scenario = Callable[[World], Awaitable[Act]]
CAUSES: dict[str, Scenario] = {}
OTHERS: dict[str, Scenario] = {}


def cause(scenario: Scenario) -> Scenario:
    CAUSES[scenario.__name__] = scenario
    return scenario


def other(scenario: Scenario) -> Scenario:
    OTHERS[scenario.__name__] = scenario
    return scenario


def _logout(strategy: str, devices: Any) -> Scenario:
    async def scenario(world: World) -> Act:
        issued = await world.login(strategy)
        await world.login(strategy, issued.subject)
        return lambda: world.authority.logout(token_of(issued), devices=devices)

    return scenario


def _renewal(strategy: str) -> Scenario:
    async def scenario(world: World) -> Act:
        principal = await world.principal(await world.login(strategy))
        return lambda: world.authority.renew(principal)

    return scenario


for each in Strategy:
    CAUSES[f"renewal of {each}"] = _renewal(each)
    for choice in ("this", "others", "all"):
        CAUSES[f"logout of {choice} by {each}"] = _logout(each, choice)


def _given_back(strategy: str, *, by: str = "first-party", twice: bool = False) -> Scenario:
    async def scenario(world: World) -> Act:
        issued = await world.login(strategy)
        client = await world.authority.clients.find(by) or (await world.authority.clients.add(by)).client
        if twice:
            await world.authority.token_revocation.revoke(token_of(issued), client=client)
        return lambda: world.authority.token_revocation.revoke(token_of(issued), client=client)

    return scenario


for each in Strategy:
    CAUSES[f"token of {each} given back"] = _given_back(each)
    OTHERS[f"token of {each} given back by another client"] = _given_back(each, by="thief")
    OTHERS[f"token of {each} given back twice"] = _given_back(each, twice=True)


def _order(scope: str, reach: str) -> Scenario:
    async def scenario(world: World) -> Act:
        issued = await world.login("jwt")
        principal = await world.principal(issued)
        target = {
            "token": principal.token_id,
            "session": issued.session_id,
            "subject": issued.subject,
            "client": "first-party",
            "key": world.authority.keys.signer().key_id,
            "everything": "",
        }[scope]
        return lambda: world.authority.revoke(scope, target or "", reach=reach)

    return scenario


for name in ("token", "session", "subject", "client", "key", "everything"):
    CAUSES[f"order to end a {name}"] = _order(name, "end")
    if name not in {"token", "key"}:
        CAUSES[f"order to re-read a {name}"] = _order(name, "claims")


@cause
async def password_changed(world: World) -> Act:
    issued = await world.login(subject=await world.account())
    return lambda: world.authority.accounts.change_password(
        issued.subject, PASSWORD, NEW, address="", spared=issued.session_id
    )


@cause
async def password_reset(world: World) -> Act:
    subject = await world.account()
    return lambda: world.authority.accounts.set_password(subject, NEW, actor="admin")


@cause
async def account_disabled(world: World) -> Act:
    subject = await world.account()
    return lambda: world.authority.accounts.disable(subject, actor="admin")


@cause
async def account_deleted(world: World) -> Act:
    subject = await world.account()
    return lambda: world.authority.accounts.delete(subject, actor="admin")


@cause
async def stranger_disabled(world: World) -> Act:
    return lambda: world.authority.accounts.disable(Subject(world.subject()), actor="admin")


@cause
async def roles_changed(world: World) -> Act:
    issued = await world.login(roles=["a"])
    return lambda: world.authority.set_roles(issued.subject, ["b"])


@cause
async def roles_changed_by_a_login(world: World) -> Act:
    issued = await world.login(roles=["a"])
    return lambda: world.login(subject=issued.subject, roles=["b"])


@cause
async def refresh_reuse_detected(world: World) -> Act:
    issued = await world.login()
    await world.authority.refresh(issued.refresh_token)
    world.clock.advance(30)
    return lambda: world.authority.refresh(issued.refresh_token)


@cause
async def client_deleted(world: World) -> Act:
    client_id = world.subject()
    await world.authority.clients.add(client_id)
    await world.login(client_id=client_id)
    return lambda: world.authority.clients.delete(client_id, actor="admin")


@cause
async def session_limit(world: World) -> Act:
    subject = world.subject()
    for _ in range(LIMIT):
        await world.login(subject=subject)
    return lambda: world.login(subject=subject)


@cause
async def own_session_ended(world: World) -> Act:
    issued = await world.login()
    principal = await world.principal(issued)
    return lambda: world.authority.end_session(principal, issued.session_id)


def _login(strategy: str, **more: Any) -> Scenario:
    async def scenario(world: World) -> Act:
        return lambda: world.login(strategy, **more)

    return scenario


def _check(strategy: str) -> Scenario:
    async def scenario(world: World) -> Act:
        issued = await world.login(strategy)
        token = issued.session_token or issued.access_token

        async def look() -> None:
            await world.authority.authenticate(token)
            await world.authority.introspect(token)
            principal = await world.authority.authenticate(token, audience="https://auth.example")
            await world.authority.mint(principal, "orders")
            await world.authority.list_sessions(issued.subject)
            world.authority.csrf_matches(issued.session_id, world.authority.csrf_token(issued.session_id))
            await world.authority.activity.write()

        return look

    return scenario


def _second_logout(devices: Any) -> Scenario:
    async def scenario(world: World) -> Act:
        issued = await world.login()
        await world.authority.logout(issued.refresh_token)
        return lambda: world.authority.logout(issued.access_token, devices=devices)

    return scenario


for each in Strategy:
    OTHERS[f"login {each}"] = _login(each)
    OTHERS[f"login {each} with first roles"] = _login(each, roles=["a"])
    OTHERS[f"checks of {each}"] = _check(each)
for choice in ("this", "others", "all"):
    OTHERS[f"second logout of {choice}"] = _second_logout(choice)
for wrong in (
    {"strategy": "none"},
    {"audience": ""},
    {"scopes": [""]},
    {"client_id": "nobody"},
    {"roles": [""]},
    {"roles": ["a"], "audience": ""},
):
    OTHERS[f"login with {wrong}"] = _login(wrong.pop("strategy", "hybrid"), **wrong)


@other
async def refreshes(world: World) -> Act:
    issued = await world.login()

    async def refresh() -> None:
        first = await world.authority.refresh(issued.refresh_token)
        await world.authority.refresh(issued.refresh_token)
        await world.authority.refresh(first.refresh_token)
        world.clock.advance(31)
        await world.authority.refresh(first.refresh_token)

    return refresh


@other
async def nonsense(world: World) -> Act:
    async def ask() -> None:
        for token in ("", "x", "kfs_" + "A" * 98, "kfr_" + "A" * 98, "a.b.c"):
            await world.authority.logout(token, devices="all")
            await world.authority.introspect(token)
            for call in (world.authority.authenticate(token), world.authority.refresh(token)):
                with suppress(KeyfobError):
                    await call
        for scope, target in (
            ("session", "x"),
            ("subject", ""),
            ("key", "x"),
            ("everything", "x"),
            ("?", ""),
        ):
            with suppress(KeyfobError):
                await world.authority.revoke(scope, target)

    return ask


@other
async def second_order(world: World) -> Act:
    issued = await world.login()
    await world.authority.revoke("session", issued.session_id)
    return lambda: world.authority.revoke("session", issued.session_id)


@other
async def foreign_session(world: World) -> Act:
    mine, theirs = await world.login(), await world.login()
    principal = await world.principal(mine)
    return lambda: world.authority.end_session(principal, theirs.session_id)


@other
async def same_roles(world: World) -> Act:
    issued = await world.login(roles=["a", "b"])
    return lambda: world.authority.set_roles(issued.subject, ["b", "a"])


@other
async def wrong_password(world: World) -> Act:
    subject = await world.account()
    return lambda: world.authority.accounts.change_password(subject, "wrong", NEW, address="")


@other
async def second_bar(world: World) -> Act:
    subject = await world.account()
    await world.authority.accounts.disable(subject, actor="admin")
    return lambda: world.authority.accounts.disable(subject, actor="admin")


@other
async def login_of_the_barred(world: World) -> Act:
    subject = await world.account()
    await world.authority.accounts.disable(subject, actor="admin")
    return lambda: world.login(subject=subject, roles=["boss"])


@other
async def bar_lifted(world: World) -> Act:
    subject = await world.account()
    await world.authority.accounts.disable(subject, actor="admin")
    return lambda: world.authority.accounts.enable(subject, actor="admin")


@other
async def keys_rotated_and_chores_done(world: World) -> Act:
    async def tidy() -> None:
        for purpose in KeyPurpose:
            await world.authority.keys.rotate(purpose)
        await world.authority.keys.reload()
        await world.authority._parts.housekeeping.clean()
        await world.authority.feed.beat()

    return tidy


@other
async def time(world: World) -> Act:
    await world.login()

    async def pass_by() -> None:
        world.clock.advance(timedelta(minutes=7))
        await world.authority.feed.beat()

    return pass_by


async def counted(world: World, scenario: Scenario) -> int:
    """How many entries the act of *scenario* leaves, once all is set up."""
    act = await scenario(world)
    before = await world.head()
    with suppress(KeyfobError):
        await act()
    return await world.head() - before


async def opened(at_limit: AtLimit = AtLimit.END_OLDEST) -> World:
    clock = FrozenClock()
    policy = SessionPolicy(sessions_per_subject=LIMIT, at_limit=at_limit)
    authority = await Authority.open(
        "memory://", issuer="https://auth.example", clock=clock, policy=policy, passwords=CHEAP
    )
    return World(authority, clock)


@pytest.mark.parametrize("name", sorted(CAUSES))
async def test_each_cause_leaves_one_entry(name: str) -> None:
    world = await opened()
    assert await counted(world, CAUSES[name]) == 1
    await world.authority.close()


@pytest.mark.parametrize("name", sorted(OTHERS))
async def test_nothing_else_leaves_one(name: str) -> None:
    world = await opened()
    assert await counted(world, OTHERS[name]) == 0
    await world.authority.close()


async def test_a_login_that_is_denied_at_the_limit_leaves_none() -> None:
    world = await opened(AtLimit.DENY)
    assert await counted(world, CAUSES["session_limit"]) == 0
    await world.authority.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(sorted(CAUSES) + sorted(OTHERS)), min_size=2, max_size=10))
def test_in_any_order_the_entries_are_the_causes(names: list[str]) -> None:
    async def run() -> None:
        world = await opened()
        for name in names:
            scenario = CAUSES.get(name) or OTHERS[name]
            assert await counted(world, scenario) == (1 if name in CAUSES else 0), name
        await world.authority.close()

    asyncio.run(run())
