"""Two authorities on one SQLite file: each is told of what the other revokes, and nothing is answered from a cache that does not know."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from keyfob.base.errors import Cause
from keyfob.base.identifiers import Strategy

DEADLINE = 10.0  # seconds; the store tells within 50 milliseconds


@pytest.fixture
async def houses(open_house: Any, shared_url: str) -> Any:
    return await open_house(shared_url), await open_house(shared_url)


async def told(house: Any, principal: Any) -> Cause:
    """Wait until this process has heard of what covers *principal*, by itself."""
    heard: asyncio.Future[Cause] = asyncio.get_running_loop().create_future()
    live = house.authority.feed.live
    watch = live.watch(principal, lambda cause: None if heard.done() else heard.set_result(cause))
    try:
        return await asyncio.wait_for(heard, DEADLINE)
    finally:
        live.unwatch(watch)


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("scope", ["session", "subject", "client", "everything"])
async def test_a_cached_credential_is_refused_once_the_other_authority_has_ended_it(
    houses: Any, strategy: Strategy, scope: str
) -> None:
    one, other = houses
    issued = await other.authority.login("alice", strategy=strategy)
    token = issued.session_token or issued.access_token
    principal = await one.authority.authenticate(token)
    assert one.authority.authenticate_cached(token) == principal
    targets = {"session": issued.session_id, "subject": "alice", "client": "first-party", "everything": ""}
    await other.authority.revoke(scope, targets[scope])
    assert await told(one, principal) is Cause.REVOKED
    assert one.authority.authenticate_cached(token) is None
    assert await one.cause(token) is Cause.REVOKED


async def test_roles_that_the_other_authority_changed_are_re_read(houses: Any) -> None:
    one, other = houses
    issued = await other.authority.login("alice", roles=["boss"])
    principal = await one.authority.authenticate(issued.session_token, roles={"boss"})
    await other.authority.set_roles("alice", [])
    assert await told(one, principal) is Cause.STALE_CLAIMS
    assert await one.cause(issued.session_token, roles={"boss"}) is Cause.INSUFFICIENT_ROLE


async def test_a_key_that_the_other_authority_revoked_signs_nothing_here(houses: Any) -> None:
    one, other = houses
    issued = await one.authority.login("alice", strategy="hybrid")
    principal = await one.authority.authenticate(issued.access_token)
    await other.authority.revoke("key", one.authority.keys.signer().key_id)
    assert await told(one, principal) is Cause.REVOKED
    assert await one.cause(issued.access_token) in {Cause.REVOKED, Cause.UNKNOWN_KEY}
    marking = [task for task in asyncio.all_tasks() if "KeyRevocations" in repr(task.get_coro())]
    await asyncio.wait_for(asyncio.gather(*marking), DEADLINE)
    again = await one.authority.refresh(issued.refresh_token)
    assert await one.cause(again.access_token) is None
    assert await other.cause(again.access_token) is None


async def test_a_process_that_lost_sight_of_the_feed_answers_nothing_from_memory(houses: Any) -> None:
    one, other = houses
    tokens = []
    for strategy in Strategy:
        issued = await other.authority.login("alice", strategy=strategy)
        tokens.append(issued.session_token or issued.access_token)
        await one.authority.authenticate(tokens[-1])
        assert one.authority.authenticate_cached(tokens[-1]) is not None
    await one.authority.feed.close()  # nobody tells it anything from now on
    await other.authority.revoke("subject", "alice")
    one.clock.advance(5)
    assert one.authority.authenticate_cached(tokens[0]) is not None
    one.clock.advance(0.001)
    for token in tokens:
        assert one.authority.authenticate_cached(token) is None
        assert await one.cause(token) is Cause.REVOKED


async def test_credentials_of_either_are_good_at_both(houses: Any) -> None:
    one, other = houses
    for strategy in Strategy:
        issued = await one.authority.login("alice", strategy=strategy)
        assert await other.causes(issued) == [None]
        if issued.refresh_token:
            refreshed = await other.authority.refresh(issued.refresh_token)
            assert await one.causes(refreshed) == [None]
            assert (
                await one.authority.refresh(issued.refresh_token)
            ).refresh_token == refreshed.refresh_token
        csrf = one.authority.csrf_token(issued.session_id)
        assert other.authority.csrf_matches(issued.session_id, csrf)
