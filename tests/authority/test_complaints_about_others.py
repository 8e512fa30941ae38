"""What users of other systems complain about, and must never meet here: the first thirteen complaints of the project's list, each by its number.

1 two tabs refresh at once and everybody is logged out · 2 the refresh response is lost · 3 concurrent refreshes fail · 4 a grace window that
gives the dead token · 5 a reuse limit bypassed by a race · 6 a late response overwrites the newer cookie · 7 sign-out leaves the JWT
working · 8 a revoked session comes back through a request under way · 9 "revoke all" misses some · 10 revoked tokens are good again after
a restart · 11 one path forgets to emit the event · 12 WebSockets outlive the revocation · 13 a demoted admin keeps power for hours
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from keyfob.base.errors import Cause, Denied
from keyfob.stores.opening import open_store

from .interleaving import DEADLINE, Paused, Scene
from .test_every_cause_emits_one_entry import CAUSES
from .test_every_cause_emits_one_entry import test_each_cause_leaves_one_entry as each_cause_leaves_one_entry

WINDOW = timedelta(seconds=30)
RACERS = 8


@pytest.fixture
async def houses(open_house: Any, shared_url: str) -> Any:
    """Two authorities on one database, as two processes would be."""
    return await open_house(shared_url), await open_house(shared_url)


@pytest.fixture
async def scene(open_house: Any, clock: Any, shared_url: str) -> Scene:
    real = await open_store(shared_url, clock=clock)
    sessions, accounts = Paused(real.sessions), Paused(real.accounts)
    other = await open_house(real)
    house = await open_house(replace(real, sessions=sessions, accounts=accounts))
    return Scene(house, other, sessions, accounts)


async def past_the_window(*houses: Any) -> None:
    houses[0].clock.advance(WINDOW + timedelta(seconds=1))
    for house in houses:
        await house.authority.feed.beat()


async def test_complaint_1_two_tabs_that_refresh_at_once_stay_signed_in(houses: Any) -> None:
    one, other = houses
    issued = await one.authority.login("alice", strategy="hybrid")
    await past_the_window(*houses)

    first, second = await asyncio.gather(
        one.authority.refresh(issued.refresh_token), other.authority.refresh(issued.refresh_token)
    )

    assert first.refresh_token == second.refresh_token != issued.refresh_token
    for tab in (first, second):
        assert await one.cause(tab.access_token) is None
    await past_the_window(*houses)
    assert (await other.authority.refresh(second.refresh_token)).session_id == issued.session_id


async def test_complaint_2_a_lost_response_can_be_asked_for_again(houses: Any) -> None:
    one, other = houses
    issued = await one.authority.login("alice", strategy="hybrid")
    await past_the_window(*houses)

    lost = await one.authority.refresh(issued.refresh_token)
    again = await other.authority.refresh(issued.refresh_token)

    assert again.refresh_token == lost.refresh_token
    assert await one.cause(again.access_token) is None


async def test_complaint_3_of_many_refreshes_at_once_each_gets_the_winners_token(houses: Any) -> None:
    issued = await houses[0].authority.login("alice", strategy="hybrid")
    await past_the_window(*houses)

    answers = await asyncio.gather(
        *(houses[number % 2].authority.refresh(issued.refresh_token) for number in range(RACERS))
    )

    assert len({answer.refresh_token for answer in answers}) == 1
    assert await houses[0].events("refresh_reused") == []


async def test_complaint_4_what_the_window_gives_is_alive(houses: Any) -> None:
    one, other = houses
    issued = await one.authority.login("alice", strategy="hybrid")
    await past_the_window(*houses)
    await one.authority.refresh(issued.refresh_token)

    replayed = await other.authority.refresh(issued.refresh_token)

    await past_the_window(*houses)
    assert (await one.authority.refresh(replayed.refresh_token)).refresh_token != replayed.refresh_token


async def test_complaint_5_thieves_that_race_for_an_old_token_all_lose(houses: Any) -> None:
    one, other = houses
    issued = await one.authority.login("alice", strategy="hybrid")
    token = issued.refresh_token
    for _ in range(2):
        await past_the_window(*houses)
        token = (await one.authority.refresh(token)).refresh_token
    await past_the_window(*houses)

    causes = await asyncio.gather(
        *(houses[number % 2].refresh_cause(issued.refresh_token) for number in range(RACERS))
    )

    assert set(causes) <= {Cause.REUSED, Cause.REVOKED}
    assert causes.count(Cause.REUSED) >= 1
    assert await one.refresh_cause(token) is Cause.REVOKED
    assert len(await one.events("refresh_reused")) == 1
    assert len([entry for entry in await other.entries() if entry.id == issued.session_id]) == 1


async def test_complaint_6_a_cookie_that_went_back_to_an_older_token_is_repaired(houses: Any) -> None:
    one, other = houses
    issued = await one.authority.login("alice", strategy="hybrid")
    await past_the_window(*houses)
    newer = await one.authority.refresh(issued.refresh_token)

    # The browser holds the older one again: the response with it came late.
    repaired = await other.authority.refresh(issued.refresh_token)

    assert repaired.refresh_token == newer.refresh_token
    assert await one.cause(repaired.access_token) is None


@pytest.mark.parametrize("strategy", ["session", "jwt", "hybrid"])
async def test_complaint_7_sign_out_ends_every_credential_at_once(houses: Any, strategy: str) -> None:
    one, other = houses
    issued = await one.authority.login("alice", strategy=strategy)
    token = issued.session_token or issued.access_token
    principal = await other.authority.authenticate(token)

    await one.authority.logout(issued.refresh_token or token)

    assert await one.cause(token) is Cause.REVOKED
    await other.authority.feed.catch_up((await one.authority.store.feed.head()).position)
    assert await other.cause(token) is Cause.REVOKED
    assert other.authority.feed.live.cause(principal) is Cause.REVOKED


@pytest.mark.parametrize("where", ["before", "after"])
async def test_complaint_8_a_request_under_way_revives_nothing(scene: Scene, where: str) -> None:
    issued = await scene.authority.login("alice", strategy="session")
    gate = scene.sessions.stop("find", where)

    await scene.during(
        scene.authority.authenticate(issued.session_token),
        gate,
        lambda: scene.other.authority.revoke("session", issued.session_id),
    )
    await scene.authority.feed.beat()  # a heartbeat later at most, whatever the store

    assert await scene.house.cause(issued.session_token) is Cause.REVOKED
    assert await scene.other.cause(issued.session_token) is Cause.REVOKED
    await scene.authority.activity.write()
    assert await scene.house.cause(issued.session_token) is Cause.REVOKED


@pytest.mark.parametrize("where", ["before", "after"])
async def test_complaint_9_revoke_all_misses_no_login_that_is_under_way(scene: Scene, where: str) -> None:
    known = [await scene.authority.login("alice", strategy="hybrid") for _ in range(3)]
    gate = scene.sessions.stop("add", where)

    late = await scene.during(
        scene.authority.login("alice", strategy="hybrid"),
        gate,
        lambda: scene.other.authority.revoke("subject", "alice"),
    )
    await scene.authority.feed.beat()

    for issued in known:
        assert await scene.house.cause(issued.access_token) is Cause.REVOKED
        assert await scene.house.refresh_cause(issued.refresh_token) is Cause.REVOKED
    if late is not Cause.REVOKED:
        assert await scene.house.cause(late.access_token) is Cause.REVOKED
        assert await scene.house.refresh_cause(late.refresh_token) is Cause.REVOKED
    assert list((await scene.other.authority.list_sessions("alice")).sessions) == []
    fresh = await scene.authority.login("alice", strategy="hybrid")
    assert await scene.house.cause(fresh.access_token) is None


async def test_complaint_10_what_was_revoked_stays_so_after_a_restart(
    open_house: Any, shared_url: str
) -> None:
    house = await open_house(shared_url)
    grants = [
        await house.authority.login("alice", strategy=strategy) for strategy in ("session", "jwt", "hybrid")
    ]
    kept = await house.authority.login("bob", strategy="hybrid")
    await house.authority.revoke("subject", "alice")
    await house.authority.close()

    again = await open_house(shared_url)

    assert set(await again.causes(*grants)) == {Cause.REVOKED}
    assert await again.cause(kept.access_token) is None


@pytest.mark.parametrize("name", sorted(CAUSES))
async def test_complaint_11_every_way_to_revoke_emits_its_entry(name: str) -> None:
    await each_cause_leaves_one_entry(name)


async def test_complaint_12_what_is_open_ends_with_the_session(houses: Any) -> None:
    one, other = houses
    issued = await one.authority.login("alice", strategy="session")
    principal = await one.authority.authenticate(issued.session_token)
    entered = asyncio.Event()

    async def websocket() -> Cause | None:
        try:
            async with one.authority.guard(principal):
                entered.set()
                await asyncio.Event().wait()
        except Denied as denied:
            return denied.cause
        return None

    task = asyncio.create_task(websocket())
    await asyncio.wait_for(entered.wait(), DEADLINE)

    await other.authority.revoke("session", issued.session_id)

    assert await asyncio.wait_for(task, DEADLINE) is Cause.REVOKED


@pytest.mark.parametrize("strategy", ["session", "hybrid", "jwt"])
async def test_complaint_13_a_demoted_admin_has_no_power_on_the_next_request(
    houses: Any, strategy: str
) -> None:
    one, other = houses
    issued = await one.authority.login("alice", strategy=strategy, roles=["admin"])
    token = issued.session_token or issued.access_token
    await other.authority.authenticate(token, roles={"admin"})

    await one.authority.set_roles("alice", [])

    await other.authority.feed.catch_up((await one.authority.store.feed.head()).position)
    for house in houses:
        assert await house.cause(token, roles={"admin"}) in {Cause.STALE_CLAIMS, Cause.INSUFFICIENT_ROLE}
    if issued.refresh_token:
        fresh = await one.authority.refresh(issued.refresh_token)
        assert await one.cause(fresh.access_token) is None
        assert await one.cause(fresh.access_token, roles={"admin"}) is Cause.INSUFFICIENT_ROLE
