"""Two authorities on one SQLite file: each is told of what the other revokes, and nothing is answered from a cache that does not know."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

import pytest

from keyfob.authority.api_keys import ApiKeyOrder
from keyfob.base.errors import Cause, Denied, StoreMoved
from keyfob.base.identifiers import Strategy
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey, jwk_set
from keyfob.stores.moving import Mark, Role
from keyfob.stores.opening import open_movable

ISSUER = "https://auth.example"
DEADLINE = 10.0  # seconds; the store tells within 50 milliseconds


async def cause_of(call: Awaitable[object]) -> Cause | None:
    try:
        await call
    except Denied as denied:
        return denied.cause
    return None


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


async def test_an_assertion_is_taken_by_one_of_two_authorities(houses: Any) -> None:
    key = PrivateKey.generate(Algorithm.EDDSA)
    await houses[0].authority.clients.add("robot", public_keys=json.dumps(jwk_set([key.public])).encode())
    for number in range(10):
        now = int(houses[0].clock.time())
        claims = {"iss": "robot", "sub": "robot", "aud": ISSUER, "exp": now + 60, "jti": f"{number}"}
        text = jws.sign(json.dumps(claims).encode(), key, typ="client-authentication+jwt")
        outcomes = await asyncio.gather(
            *(
                cause_of(house.authority.clients.authenticate_assertion(text, issuer=ISSUER))
                for house in houses * 3
            )
        )
        assert (outcomes.count(None), outcomes.count(Cause.BAD_CREDENTIALS)) == (1, 5)


async def test_a_key_that_the_other_authority_ended_is_refused(houses: Any) -> None:
    one, other = houses
    order = ApiKeyOrder(name="deploy", audience=["orders"])
    made = await one.authority.api_keys.add_for_subject("alice", order, actor="root")
    principal = await other.authority.authenticate(made.text)
    await one.authority.api_keys.revoke(made.api_key.key_id, actor="root")
    assert await told(other, principal) is Cause.REVOKED
    assert other.authority.authenticate_cached(made.text) is None
    assert await other.cause(made.text) is Cause.REVOKED


async def test_of_two_authorities_that_rotate_a_secret_at_once_neither_loses_one(houses: Any) -> None:
    first = (await houses[0].authority.clients.add("billing")).secret
    given = await asyncio.gather(
        *(house.authority.clients.rotate_secret("billing", actor="root") for house in houses)
    )
    for secret in (one.secret for one in given):
        assert (await houses[0].authority.clients.authenticate("billing", secret)).client_id == "billing"
    assert await cause_of(houses[1].authority.clients.authenticate("billing", first)) is Cause.BAD_CREDENTIALS


async def test_a_process_whose_store_has_moved_answers_nothing_from_memory(
    open_house: Any, shared_url: str
) -> None:
    """Whoever has it now may end what is remembered here."""
    house = await open_house(shared_url)
    issued = await house.authority.login("alice")
    await house.authority.authenticate(issued.session_token)
    assert house.authority.authenticate_cached(issued.session_token) is not None
    store = await open_movable(shared_url)
    assert await store.set_mark(Mark(role=Role.MOVED, copy_id="c", place="elsewhere"), replaces=None)
    await store.close()
    async with asyncio.timeout(DEADLINE):  # nobody asks it: it finds out by itself
        while house.authority.authenticate_cached(issued.session_token) is not None:
            await asyncio.sleep(0)
    with pytest.raises(StoreMoved, match="has moved to elsewhere"):
        await house.authority.authenticate(issued.session_token)
