"""Opening and closing an authority, its options, and what it does by itself."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from keyfob.authority import housekeeping
from keyfob.authority.authority import Authority
from keyfob.authority.housekeeping import Housekeeping
from keyfob.authority.key_revocations import KeyRevocations
from keyfob.authority.opening import Opening
from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.base.identifiers import SessionId
from keyfob.keys.phases import Phase
from keyfob.revocation.entry import CHAIN_START, Entry, Reach, Scope
from keyfob.sessions.activity import MAX_PENDING, Activity
from keyfob.stores.memory import open_memory_store

from .conftest import ISSUER, House, OpenHouse


@pytest.mark.parametrize(
    "issuer", ["https://auth.example", "http://127.0.0.1:8080", "https://a.example/tenant"]
)
async def test_an_issuer_is_a_url(open_house: OpenHouse, issuer: str) -> None:
    assert (await open_house(issuer=issuer)).authority.issuer == issuer


@pytest.mark.parametrize(
    "issuer",
    [
        "",
        "auth.example",
        "ftp://auth.example",
        "https://",
        "https://auth.example/",
        "https://auth.example?x=1",
        "https://auth.example#x",
        "https://auth.example:99999",
        "https://[",
        "https://auth.example\n",
        " https://auth.example",
        "https://auth.ex\tample",
        "https://auth.example/a b",
        "https://auth.example/\ud800",
        "https://é.example",
        'https://auth.example/"',
        "https://auth.example\\x",
        "https://alice:secret@auth.example",
        "HTTPS://auth.example",
    ],
)
async def test_what_is_no_issuer_is_refused(issuer: str) -> None:
    with pytest.raises(ConfigurationError, match="issuer"):
        await Authority.open("memory://", issuer=issuer)


@pytest.mark.parametrize("lifetime", [timedelta(0), timedelta(hours=24, seconds=1)])
async def test_an_access_token_lives_a_second_to_a_day(lifetime: timedelta) -> None:
    with pytest.raises(ConfigurationError, match="access_lifetime"):
        await Authority.open("memory://", issuer=ISSUER, access_lifetime=lifetime)


async def test_closing_twice_is_closing_once() -> None:
    authority = await Authority.open("memory://", issuer=ISSUER)
    await authority.close()
    await authority.close()


async def test_an_opening_that_failed_closes_nothing() -> None:
    async def fail() -> Authority:
        raise StoreUnavailable("away")

    opening = Opening(fail)
    with pytest.raises(StoreUnavailable):
        async with opening:
            pytest.fail("it was opened")
    await opening.__aexit__(None, None, None)


async def test_what_was_noted_is_written_at_the_end(open_house: OpenHouse) -> None:
    house = await open_house()
    issued = await house.authority.login("alice")
    await house.advance(timedelta(minutes=2))
    assert await house.cause(issued.session_token) is None
    await house.authority._parts.housekeeping.stop()
    found = await house.authority.store.sessions.find(issued.session_id)
    assert found is not None
    assert found.session.last_seen_at == house.clock.now()


async def test_what_is_over_is_deleted_and_what_lives_is_not(open_house: OpenHouse) -> None:
    house = await open_house()
    short = await house.authority.login("alice", strategy="jwt")
    long = await house.authority.login("alice", strategy="hybrid")
    await house.advance(timedelta(minutes=11))
    assert await house.authority._parts.housekeeping.clean() == 1
    assert await house.authority.store.sessions.find(short.session_id) is None
    assert await house.authority.store.sessions.find(long.session_id) is not None


class Failing:
    """A chore that fails, once with our error and once with another."""

    def __init__(self) -> None:
        self.calls = 0
        self.called = asyncio.Event()

    async def write(self) -> int:
        self.calls += 1
        self.called.set()
        if self.calls == 1:
            raise StoreUnavailable("away")
        raise ZeroDivisionError

    reload = delete_retired = write


async def test_a_chore_that_fails_is_logged_and_done_again(
    open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("keyfob.authority.housekeeping.ACTIVITY_INTERVAL", 0.001)
    house = await open_house()
    chore: Any = Failing()
    authority = house.authority
    chores = Housekeeping(
        authority.store,
        chore,
        authority.keys,
        authority.reports,
        authority.backchannel,
        clock=house.clock,
    )
    with caplog.at_level(logging.WARNING):
        chores.start()
        chores.start()
        for _ in range(3):
            chore.called.clear()
            await asyncio.wait_for(chore.called.wait(), 5)
        await chores.stop()
    assert "away" in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_keys_that_nothing_can_need_any_more_are_deleted_once_an_hour(
    open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert housekeeping.RETIRED_INTERVAL == 3600.0
    monkeypatch.setattr("keyfob.authority.housekeeping.RETIRED_INTERVAL", 0.001)
    house = await open_house()
    await house.authority._parts.housekeeping.stop()
    keys, store = house.authority.keys, house.authority.store.keys
    first = keys.signer().key_id
    house.clock.advance(keys.policy.rotate_every)
    await keys.reload()
    house.clock.advance(keys.policy.rotate_every)
    await keys.reload()
    assert first in {key.key_id for key in await store.all()}
    retired = {key.key_id for key, phase in keys.listing() if phase is Phase.RETIRED}
    assert first in retired
    deleted = asyncio.Event()
    delete_retired = keys.delete_retired

    async def telling() -> int:
        count = await delete_retired()
        deleted.set()
        return count

    monkeypatch.setattr(keys, "delete_retired", telling)
    house.authority._parts.housekeeping.start()
    await asyncio.wait_for(deleted.wait(), 10)
    await house.authority._parts.housekeeping.stop()
    left = {key.key_id for key in await store.all()}
    assert not retired & left
    assert keys.signer().key_id in left


async def test_a_revoked_key_that_nobody_has_is_no_fault(
    open_house: OpenHouse, caplog: pytest.LogCaptureFixture
) -> None:
    house = await open_house()
    moment = house.clock.now()
    entry = Entry(
        position=1, at=moment, scope=Scope.KEY, id="gone", reach=Reach.END, until=None, chain=CHAIN_START
    )
    taking = KeyRevocations(house.authority.keys)
    with caplog.at_level(logging.INFO, "keyfob.keys"):
        taking.take([entry])
        await asyncio.gather(*taking._tasks)
    assert "gone" in caplog.text


class Away:
    """A store of sessions that is away until told otherwise."""

    def __init__(self) -> None:
        self.is_away = True
        self.seen: list[Any] = []

    async def touch(self, seen: Any) -> int:
        if self.is_away:
            raise StoreUnavailable("away")
        self.seen += seen
        return len(seen)


async def test_activity_that_the_store_did_not_take_stays_noted(open_house: OpenHouse) -> None:
    store: Any = Away()
    activity = Activity(store)
    house = await open_house()
    activity.note(SessionId("a" * 32), house.clock.now())
    with pytest.raises(StoreUnavailable):
        await activity.write()
    later = house.clock.advance(1)
    activity.note(SessionId("a" * 32), later)
    store.is_away = False
    assert await activity.write() == 1
    assert store.seen[0].at == later
    assert await activity.write() == 0


async def test_noted_activity_is_bounded(open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyfob.sessions.activity.MAX_PENDING", 2)
    assert MAX_PENDING > 2
    store: Any = Away()
    store.is_away = False
    house: House = await open_house()
    activity = Activity(store)
    for name in "abca":
        activity.note(SessionId(name * 32), house.clock.now())
    assert await activity.write() == 2


async def test_a_store_that_was_given_open_stays_open_where_opening_fails(clock: Any) -> None:
    store = open_memory_store(clock)
    first = await Authority.open(store, issuer=ISSUER, master_key=bytes(32), clock=clock)
    with pytest.raises(ConfigurationError, match="master key"):
        await Authority.open(store, issuer=ISSUER, master_key=bytes(31) + b"x", clock=clock)
    issued = await first.login("alice")
    assert (await first.authenticate(str(issued.session_token))).subject == "alice"
    await first.close()
