"""What is revoked stays revoked: entries outlive whatever the authority may grant, and keys the sessions that they tag."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from keyfob.base.errors import Cause, ConfigurationError
from keyfob.base.identifiers import Strategy
from keyfob.sessions.policy import Lifetimes, SessionPolicy

OTHERS = SessionPolicy().lifetimes


def policy(strategy: Strategy, *, absolute: timedelta, idle: timedelta | None = None) -> SessionPolicy:
    return SessionPolicy(lifetimes={**OTHERS, strategy: Lifetimes(idle=idle, absolute=absolute)})


async def swept(house: Any) -> None:
    """Drop whatever has run out, in the store and in memory."""
    await house.authority._parts.housekeeping.clean()
    await house.authority.feed.beat()


async def test_a_long_jwt_is_revoked_until_its_end(open_house: Any, store_url: str) -> None:
    house = await open_house(store_url, policy=policy(Strategy.JWT, absolute=timedelta(hours=8)))
    issued = await house.authority.login("alice", strategy="jwt")
    assert issued.expires_in == 8 * 3600
    await house.authority.logout(issued.access_token)
    for _ in range(8 * 6 - 1):
        await house.advance(timedelta(minutes=10))
        await swept(house)
        assert await house.cause(issued.access_token) is Cause.REVOKED
    await house.advance(timedelta(minutes=10))
    assert await house.cause(issued.access_token) is Cause.EXPIRED


async def test_a_long_token_of_a_client_is_revoked_until_its_end(open_house: Any, store_url: str) -> None:
    house = await open_house(store_url)
    await house.authority.clients.add("batch", access_lifetime=timedelta(hours=2))
    issued = await house.authority.login("alice", client_id="batch")
    assert issued.expires_in == 2 * 3600
    await house.authority.logout(issued.refresh_token)
    for _ in range(11):
        await house.advance(timedelta(minutes=10))
        await swept(house)
        assert await house.cause(issued.access_token) is Cause.REVOKED


async def test_a_minted_token_is_revoked_until_its_end(open_house: Any, store_url: str) -> None:
    house = await open_house(store_url)
    issued = await house.authority.login("alice")
    principal = await house.authority.authenticate(issued.session_token)
    minted = await house.authority.mint(principal, "orders", lifetime=timedelta(hours=6))
    await house.authority.logout(issued.session_token)
    await house.advance(timedelta(minutes=9, seconds=59))
    assert await house.cause(minted.text) is Cause.REVOKED
    for _ in range(6):
        await house.advance(timedelta(minutes=10))
        await swept(house)
        assert await house.cause(minted.text) in {Cause.REVOKED, Cause.EXPIRED}


async def test_a_jwt_session_of_more_than_a_day_is_refused_at_the_start(open_house: Any) -> None:
    await open_house(policy=policy(Strategy.JWT, absolute=timedelta(hours=24)))
    with pytest.raises(ConfigurationError, match="24 hours"):
        policy(Strategy.JWT, absolute=timedelta(hours=24, microseconds=1))


async def test_a_session_keeps_its_keys_until_its_end_however_long_it_lives(
    open_house: Any, store_url: str
) -> None:
    days = timedelta(days=1)
    house = await open_house(store_url, policy=policy(Strategy.HYBRID, absolute=90 * days))
    await house.advance(29 * days)
    issued = await house.authority.login("alice", strategy="hybrid")
    token = issued.refresh_token
    for _ in range(8):
        await house.advance(11 * days)
        await house.authority.keys.reload()
        token = (await house.authority.refresh(token)).refresh_token


async def test_an_access_token_does_not_outlive_a_short_idle_limit(open_house: Any) -> None:
    short = Lifetimes(idle=timedelta(minutes=2), absolute=timedelta(hours=1))
    lifetimes = {**SessionPolicy().lifetimes, Strategy.HYBRID: short}
    house = await open_house(policy=SessionPolicy(lifetimes=lifetimes))
    issued = await house.authority.login("alice", strategy="hybrid")
    assert issued.expires_in == 120
    house.clock.advance(60)
    assert (await house.authority.refresh(issued.refresh_token)).expires_in == 120
