"""A thief of a signing key writes any `as_of` (design.md, precondition 1)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from keyfob.base.errors import Cause
from keyfob.base.identifiers import FIRST_PARTY, Position, Subject
from keyfob.tokens.grant import Grant


def forged(house: Any, *, as_of: int) -> str:
    authority = house.authority
    now = house.clock.now()
    grant = Grant(
        subject=Subject("alice"),
        client_id=FIRST_PARTY,
        strategy=None,
        audience=(authority.issuer,),
        ends_at=now + timedelta(minutes=10),
    )
    timeline = authority.feed.live.head.timeline
    return authority.issuing.issue(grant, as_of=Position(as_of), timeline=timeline, now=now).text


async def test_a_position_that_never_was_is_refused_once_that_is_known_even_if_cached(house: Any) -> None:
    token = forged(house, as_of=await house.head() + 5)
    # The token may be of another authority that knows more: for now it is good.
    assert await house.cause(token) is None
    await house.advance(5)
    assert await house.cause(token) is None
    await house.advance(1)
    assert await house.cause(token) is Cause.REVOKED
    assert house.authority.feed.live.forged_as_of > 0


async def test_a_position_that_is_reached_in_time_is_good(house: Any) -> None:
    token = forged(house, as_of=await house.head() + 1)
    assert await house.cause(token) is None
    await house.authority.revoke("subject", "bob")
    await house.advance(6)
    assert await house.cause(token) is None


async def test_a_revoked_key_denies_whatever_position_its_tokens_claim(house: Any) -> None:
    key_id = house.authority.keys.signer().key_id
    token = forged(house, as_of=10**9)
    await house.authority.revoke("key", key_id)
    assert await house.cause(token) in {Cause.REVOKED, Cause.UNKNOWN_KEY}
