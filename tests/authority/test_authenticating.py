"""Checking credentials at the authority: limits, order of causes, and the cache that must not show."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from keyfob.base.errors import Cause, StoreUnavailable
from keyfob.base.identifiers import Strategy
from keyfob.sessions.policy import Lifetimes, SessionPolicy

MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
ISSUER = "https://auth.example"


async def credential(house: Any, strategy: Strategy | str, **options: Any) -> str:
    issued = await house.authority.login("alice", strategy=strategy, **options)
    return issued.session_token or issued.access_token


@pytest.mark.parametrize("warm", [True, False], ids=["cached", "read"])
@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (timedelta(seconds=599), None),
        (timedelta(seconds=600), Cause.EXPIRED),
        (timedelta(seconds=601), Cause.EXPIRED),
    ],
    ids=str,
)
async def test_an_access_token_ends_at_exactly_exp(
    quick_house: Any, at: timedelta, expected: Cause | None, warm: bool
) -> None:
    token = await credential(quick_house, "hybrid")
    if warm:
        assert await quick_house.cause(token) is None
    await quick_house.advance(at)
    assert await quick_house.cause(token) is expected


@pytest.mark.parametrize("warm", [True, False], ids=["cached", "read"])
@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (timedelta(minutes=30) - MICROSECOND, None),
        (timedelta(minutes=30), Cause.IDLE),
        (timedelta(minutes=30) + MICROSECOND, Cause.IDLE),
        (timedelta(hours=12) - MICROSECOND, Cause.IDLE),
        (timedelta(hours=12), Cause.EXPIRED),
    ],
    ids=str,
)
async def test_a_session_idles_at_exactly_its_limit(
    house: Any, at: timedelta, expected: Cause | None, warm: bool
) -> None:
    token = await credential(house, "session")
    if warm:
        assert await house.cause(token) is None
    await house.advance(at)
    assert await house.cause(token) is expected


async def test_a_session_in_use_lives_to_its_absolute_end_and_not_longer(house: Any) -> None:
    token = await credential(house, "session")
    for _ in range(12 * 3 - 1):
        await house.advance(timedelta(minutes=20))
        assert await house.cause(token) is None
        await house.authority.activity.write()
    await house.advance(timedelta(minutes=20) - MICROSECOND)
    assert await house.cause(token) is None
    await house.advance(MICROSECOND)
    assert await house.cause(token) is Cause.EXPIRED


async def test_use_from_the_cache_counts_as_use_too(open_house: Any) -> None:
    minutes = timedelta(minutes=1)
    policy = SessionPolicy(
        lifetimes={
            **SessionPolicy().lifetimes,
            Strategy.SESSION: Lifetimes(idle=4 * minutes, absolute=timedelta(hours=12)),
        }
    )
    house = await open_house(policy=policy)
    token = await credential(house, "session")
    for _ in range(30):
        await house.advance(3 * minutes)
        assert await house.cause(token) is None
        await house.authority.activity.write()
    await house.advance(4 * minutes)
    assert await house.cause(token) is Cause.IDLE


async def test_activity_that_was_not_written_yet_does_not_idle_a_session_out(quick_house: Any) -> None:
    token = await credential(quick_house, "session")
    await quick_house.cause(token)
    await quick_house.advance(timedelta(minutes=4))
    assert quick_house.authority.authenticate_cached(token) is not None
    assert await quick_house.authority.activity.write() == 1
    assert await quick_house.authority.activity.write() == 0


async def test_a_session_without_an_idle_limit_is_noted_as_used_and_never_idles(open_house: Any) -> None:
    policy = SessionPolicy(
        lifetimes={
            **SessionPolicy().lifetimes,
            Strategy.SESSION: Lifetimes(idle=None, absolute=timedelta(hours=12)),
        }
    )
    house = await open_house(policy=policy)
    token = await credential(house, "session")
    assert await house.cause(token) is None
    await house.advance(60)
    assert house.authority.authenticate_cached(token) is not None
    assert await house.authority.activity.write() == 1
    await house.advance(timedelta(hours=12) - timedelta(seconds=60) - MICROSECOND)
    assert await house.cause(token) is None
    assert "idle_exp" not in await house.authority.introspect(token)
    await house.advance(MICROSECOND)
    assert await house.cause(token) is Cause.EXPIRED


async def test_the_stricter_idle_limit_counts_also_for_a_session_that_is_cached_and_used(
    open_house: Any, sqlite_url: str
) -> None:
    minutes = timedelta(minutes=1)

    def idle(limit: timedelta) -> SessionPolicy:
        others = SessionPolicy().lifetimes
        return SessionPolicy(
            lifetimes={**others, Strategy.SESSION: Lifetimes(idle=limit, absolute=timedelta(hours=12))}
        )

    strict = await open_house(sqlite_url, policy=idle(2 * minutes))
    lax = await open_house(sqlite_url, policy=idle(30 * minutes))
    token = await credential(strict, "session")
    await lax.advance(1 * minutes)
    assert await lax.cause(token) is None
    await lax.authority.activity.write()
    await lax.advance(2 * minutes - MICROSECOND)
    assert await lax.cause(token) is None
    token = await credential(strict, "session")
    await lax.advance(1 * minutes)
    assert await lax.cause(token) is None
    await lax.authority.activity.write()
    await lax.advance(2 * minutes)
    assert await lax.cause(token) is Cause.IDLE


async def test_an_ended_session_is_revoked_until_its_absolute_end_and_unknown_after(house: Any) -> None:
    token = await credential(house, "session")
    await house.authority.logout(token)
    await house.advance(timedelta(hours=12) - MICROSECOND)
    assert await house.cause(token) is Cause.REVOKED
    await house.advance(MICROSECOND)
    assert await house.cause(token) is Cause.UNKNOWN_SESSION
    await house.authority._parts.housekeeping.clean()
    assert await house.cause(token) is Cause.UNKNOWN_SESSION


async def test_a_session_that_ran_out_is_expired_until_its_row_is_gone(house: Any) -> None:
    token = await credential(house, "session")
    await house.advance(timedelta(hours=12))
    assert await house.cause(token) is Cause.EXPIRED
    await house.authority._parts.housekeeping.clean()
    assert await house.cause(token) is Cause.UNKNOWN_SESSION


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_roles_and_scopes_mean_all_of_them(quick_house: Any, strategy: Strategy) -> None:
    token = await credential(quick_house, strategy, roles=["a", "b"], scopes=["x", "y"])
    for _ in range(2):
        assert await quick_house.cause(token, roles={"a", "b"}, scopes=["x", "y"]) is None
        assert await quick_house.cause(token, roles={"a", "c"}) is Cause.INSUFFICIENT_ROLE
        assert await quick_house.cause(token, scopes={"x", "z"}) is Cause.INSUFFICIENT_SCOPE
        assert await quick_house.cause(token, scopes={"z"}, roles={"c"}) is Cause.INSUFFICIENT_ROLE
    with pytest.raises(TypeError):
        await quick_house.authority.authenticate(token, roles="a")


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (5 * SECOND - MICROSECOND, None),
        (5 * SECOND, None),
        (5 * SECOND + MICROSECOND, Cause.REAUTHENTICATION_REQUIRED),
    ],
    ids=str,
)
async def test_max_auth_age_holds_at_exactly_its_limit(
    quick_house: Any, strategy: Strategy, at: timedelta, expected: Cause | None
) -> None:
    token = await credential(quick_house, strategy)
    await quick_house.advance(at)
    for _ in range(2):
        assert await quick_house.cause(token, max_auth_age=5 * SECOND) is expected


async def test_a_refresh_is_no_login(quick_house: Any) -> None:
    issued = await quick_house.authority.login("alice", strategy="hybrid")
    await quick_house.advance(60)
    refreshed = await quick_house.authority.refresh(issued.refresh_token)
    assert (
        await quick_house.cause(refreshed.access_token, max_auth_age=59 * SECOND)
        is Cause.REAUTHENTICATION_REQUIRED
    )


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_the_audience_is_compared_exactly(quick_house: Any, strategy: Strategy) -> None:
    token = await credential(quick_house, strategy, audience=["orders", "stock"])
    for _ in range(2):
        assert await quick_house.cause(token) is None
        assert await quick_house.cause(token, audience="orders") is None
        assert await quick_house.cause(token, audience="stock") is None
        for other in (ISSUER, "Orders", "order", "orders ", "", "orders stock"):
            assert await quick_house.cause(token, audience=other) is Cause.WRONG_AUDIENCE


async def test_a_wrong_audience_is_named_before_that_a_token_expired_or_was_revoked(quick_house: Any) -> None:
    token = await credential(quick_house, "jwt", audience="orders")
    await quick_house.authority.logout(token)
    assert await quick_house.cause(token, audience="stock") is Cause.WRONG_AUDIENCE
    assert await quick_house.cause(token, audience="orders") is Cause.REVOKED
    await quick_house.advance(timedelta(minutes=10))
    assert await quick_house.cause(token, audience="stock") is Cause.WRONG_AUDIENCE
    assert await quick_house.cause(token, audience="orders") is Cause.EXPIRED


async def test_another_issuer_of_the_same_keys_is_refused(open_house: Any, sqlite_url: str) -> None:
    one = await open_house(sqlite_url)
    other = await open_house(sqlite_url, issuer="https://other.example")
    assert await other.cause(await credential(one, "jwt")) is Cause.WRONG_ISSUER


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "kfs_",
        "kfs",
        "kfr_" + "A" * 98,
        "kfa_" + "A" * 98,
        "kfs_" + "A" * 98,
        "kfk_" + "A" * 98,
        "é",
        "\ud800",
        "a.b.c",
    ],
)
async def test_nonsense_is_malformed_or_of_the_wrong_type(quick_house: Any, text: str) -> None:
    expected = Cause.WRONG_TYPE if text.startswith(("kfr_", "kfa_")) else Cause.MALFORMED
    assert await quick_house.cause(text) is expected


async def test_a_refresh_token_is_no_credential_for_requests(house: Any) -> None:
    issued = await house.authority.login("alice", strategy="hybrid")
    assert await house.cause(issued.refresh_token) is Cause.WRONG_TYPE
    assert await house.cause("kfs" + issued.refresh_token[3:]) is Cause.MALFORMED
    assert await house.refresh_cause("kfr" + issued.refresh_token[3:]) is None


async def test_no_character_of_a_session_token_can_be_changed(quick_house: Any) -> None:
    token = await credential(quick_house, "session")
    assert await quick_house.cause(token) is None
    for place, character in enumerate(token):
        for other in {"A" if character != "A" else "B", "_" if character != "_" else "-"}:
            changed = token[:place] + other + token[place + 1 :]
            assert await quick_house.cause(changed) in {Cause.MALFORMED, Cause.WRONG_TYPE}, place
        assert await quick_house.cause(token[:place] + token[place + 1 :]) is Cause.MALFORMED


async def test_a_closed_store_is_neither_yes_nor_no(open_house: Any, store_url: str) -> None:
    house = await open_house(store_url)
    token = await credential(house, "session")
    refresh_token = (await house.authority.login("alice", strategy="hybrid")).refresh_token
    await house.authority.store.close()
    for call in (
        house.authority.authenticate(token),
        house.authority.refresh(refresh_token),
        house.authority.logout(token),
        house.authority.introspect(token),
        house.authority.login("alice"),
        house.authority.revoke("subject", "alice"),
    ):
        with pytest.raises(StoreUnavailable):
            await call
