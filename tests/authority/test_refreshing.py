"""Refreshing: every outcome, at the limits; theft; and what never moves."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from keyfob.authority.sign_in import Device
from keyfob.base.errors import Cause, ConfigurationError
from keyfob.revocation.entry import Reach, Scope
from keyfob.sessions.policy import SessionPolicy

MICROSECOND = timedelta(microseconds=1)
WINDOW = timedelta(seconds=30)


async def hybrid(house: Any) -> Any:
    return await house.authority.login("alice", strategy="hybrid")


async def rotated(house: Any) -> tuple[str, str]:
    """A refresh token and the one that follows it, which was made just now."""
    parent = (await hybrid(house)).refresh_token
    return parent, (await house.authority.refresh(parent)).refresh_token


@pytest.mark.meets("9470-6")
async def test_the_first_refresh_rotates(house: Any) -> None:
    issued = await hybrid(house)
    await house.advance(1)
    refreshed = await house.authority.refresh(issued.refresh_token)
    assert refreshed.refresh_token != issued.refresh_token
    assert refreshed.access_token != issued.access_token
    assert refreshed.session_token is None
    assert (refreshed.session_id, refreshed.expires_at) == (issued.session_id, issued.expires_at)
    assert (refreshed.expires_in, refreshed.strategy) == (600, issued.strategy)
    assert await house.causes(issued, refreshed) == [None, None]
    assert await house.head() == 0


@pytest.mark.parametrize(
    ("after", "rotates"),
    [(WINDOW - MICROSECOND, False), (WINDOW, True), (WINDOW + MICROSECOND, True)],
    ids=str,
)
async def test_the_current_token_rotates_when_the_window_is_over(
    house: Any, after: timedelta, rotates: bool
) -> None:
    _, current = await rotated(house)
    await house.advance(after)
    refreshed = await house.authority.refresh(current)
    assert (refreshed.refresh_token != current) is rotates
    assert await house.causes(refreshed) == [None]


@pytest.mark.parametrize(
    ("after", "expected"),
    [(WINDOW - MICROSECOND, None), (WINDOW, Cause.REUSED), (WINDOW + MICROSECOND, Cause.REUSED)],
    ids=str,
)
async def test_the_parent_is_replayed_within_the_window_and_stolen_after(
    house: Any, after: timedelta, expected: Cause | None
) -> None:
    parent, current = await rotated(house)
    await house.advance(after)
    assert await house.refresh_cause(parent) is expected
    assert await house.refresh_cause(current) is (Cause.REVOKED if expected else None)
    assert await house.head() == (1 if expected else 0)


async def test_a_repeated_refresh_gives_the_same_token_again(house: Any) -> None:
    parent, current = await rotated(house)
    answers = [await house.authority.refresh(token) for token in (parent, current, parent, parent, current)]
    assert {answer.refresh_token for answer in answers} == {current}
    assert len({answer.access_token for answer in answers}) == 5
    assert await house.causes(*answers) == [None] * 5


async def test_of_many_refreshes_at_once_all_get_the_same_token(house: Any) -> None:
    parent = (await hybrid(house)).refresh_token
    answers = await asyncio.gather(*(house.authority.refresh(parent) for _ in range(16)))
    assert len({answer.refresh_token for answer in answers}) == 1
    assert await house.head() == 0


@pytest.mark.meets("10.4.5", "OA-29")
@pytest.mark.parametrize("generations", [2, 3, 7])
async def test_an_earlier_generation_is_theft_whenever_it_comes(house: Any, generations: int) -> None:
    issued = await hybrid(house)
    token = issued.refresh_token
    for _ in range(generations):
        await house.advance(WINDOW)
        latest = await house.authority.refresh(token)
        token = latest.refresh_token
    await house.advance(7)
    assert await house.refresh_cause(issued.refresh_token) is Cause.REUSED
    [entry] = await house.entries()
    assert (entry.scope, entry.id, entry.reach) == (Scope.SESSION, issued.session_id, Reach.END)
    [event] = await house.events("refresh_reused")
    assert (event.subject, event.session_id) == ("alice", issued.session_id)
    assert event.facts["generation"] == 0
    assert event.facts["current_generation"] == generations
    assert event.facts["late_by_seconds"] == 7
    assert await house.causes(latest) == [Cause.REVOKED]
    for dead in (token, issued.refresh_token):
        assert await house.refresh_cause(dead) is Cause.REVOKED
    assert await house.head() == 1


async def test_theft_says_from_where(quick_house: Any) -> None:
    issued = await hybrid(quick_house)
    await quick_house.authority.refresh(issued.refresh_token)
    await quick_house.advance(WINDOW)
    with pytest.raises(Exception, match="reused"):
        await quick_house.authority.refresh(issued.refresh_token, device=Device(address="203.0.113.66"))
    [event] = await quick_house.events("refresh_reused")
    assert event.address == "203.0.113.66"


async def test_of_many_thefts_at_once_one_ends_the_session(house: Any) -> None:
    parent, _ = await rotated(house)
    await house.advance(WINDOW)
    causes = await asyncio.gather(*(house.refresh_cause(parent) for _ in range(8)))
    assert sorted(causes) == sorted([Cause.REUSED] + [Cause.REVOKED] * 7)
    assert await house.head() == 1


async def test_the_third_replay_in_consecutive_rotations_closes_the_window(house: Any) -> None:
    token = (await hybrid(house)).refresh_token
    for closed in (0, 0, 1):
        await house.advance(WINDOW)
        parent, token = token, (await house.authority.refresh(token)).refresh_token
        assert (await house.authority.refresh(parent)).refresh_token == token
        events = await house.events("refresh_window_closed")
        assert [event.subject for event in events] == ["alice"] * closed
    assert await house.head() == 0
    assert await house.refresh_cause(parent) is Cause.REUSED
    assert await house.refresh_cause(token) is Cause.REVOKED


async def test_several_replays_of_one_rotation_count_once(house: Any) -> None:
    parent, current = await rotated(house)
    for _ in range(5):
        assert (await house.authority.refresh(parent)).refresh_token == current
    assert await house.events("refresh_window_closed") == []


async def test_once_closed_the_window_is_zero_for_the_current_token_too(house: Any) -> None:
    token = (await hybrid(house)).refresh_token
    for _ in range(3):
        await house.advance(WINDOW)
        following = (await house.authority.refresh(token)).refresh_token
        assert (await house.authority.refresh(token)).refresh_token == following
        token = following
    # The holder of the current token goes on, with a rotation each time ...
    following = (await house.authority.refresh(token)).refresh_token
    assert following != token
    # ... and its parent is theft at once.
    assert await house.refresh_cause(token) is Cause.REUSED


async def test_a_rotation_that_nobody_replayed_breaks_the_row(house: Any) -> None:
    token = (await hybrid(house)).refresh_token
    for replay in (True, True, False, True, True, False):
        await house.advance(WINDOW)
        following = (await house.authority.refresh(token)).refresh_token
        if replay:
            assert (await house.authority.refresh(token)).refresh_token == following
        token = following
    assert await house.events("refresh_window_closed") == []


async def test_a_window_of_zero_forgives_nothing(open_house: Any, store_url: str) -> None:
    house = await open_house(store_url, policy=SessionPolicy(replay_window=timedelta(0)))
    parent, current = await rotated(house)
    following = (await house.authority.refresh(current)).refresh_token
    assert following != current
    assert await house.refresh_cause(current) is Cause.REUSED
    assert await house.refresh_cause(parent) is Cause.REVOKED


@pytest.mark.parametrize(
    ("window", "fits"),
    [(timedelta(seconds=300), True), (timedelta(seconds=300, microseconds=1), False), (-MICROSECOND, False)],
    ids=str,
)
def test_the_window_is_0_to_300_seconds(window: timedelta, fits: bool) -> None:
    if fits:
        SessionPolicy(replay_window=window)
        return
    with pytest.raises(ConfigurationError):
        SessionPolicy(replay_window=window)


@pytest.mark.meets("OA-28", "9700-4.14.2f")
@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (timedelta(days=14) - MICROSECOND, None),
        (timedelta(days=14), Cause.IDLE),
        (timedelta(days=14) + MICROSECOND, Cause.IDLE),
        (timedelta(days=30) - MICROSECOND, Cause.IDLE),
        (timedelta(days=30), Cause.EXPIRED),
    ],
    ids=str,
)
async def test_a_hybrid_session_idles_without_a_refresh(
    house: Any, after: timedelta, expected: Cause | None
) -> None:
    issued = await hybrid(house)
    await house.advance(after)
    assert await house.refresh_cause(issued.refresh_token) is expected
    assert await house.head() == 0


@pytest.mark.meets("10.4.8")
async def test_the_absolute_end_never_moves_and_no_access_token_outlives_it(house: Any) -> None:
    issued = await hybrid(house)
    token = issued.refresh_token
    for _ in range(5):
        await house.advance(timedelta(days=5))
        refreshed = await house.authority.refresh(token)
        token = refreshed.refresh_token
        assert refreshed.expires_at == issued.expires_at
        assert refreshed.expires_in == 600
    await house.advance(timedelta(days=5) - timedelta(seconds=90))
    refreshed = await house.authority.refresh(token)
    assert (refreshed.expires_at, refreshed.expires_in) == (issued.expires_at, 90)
    await house.advance(timedelta(seconds=90) - MICROSECOND)
    assert await house.causes(refreshed) == [None]
    assert (await house.authority.refresh(refreshed.refresh_token)).expires_in == 1
    await house.advance(MICROSECOND)
    assert await house.causes(refreshed) == [Cause.EXPIRED]
    assert await house.refresh_cause(refreshed.refresh_token) is Cause.EXPIRED


@pytest.mark.parametrize("strategy", ["session", "jwt"])
async def test_other_strategies_have_nothing_to_refresh(quick_house: Any, strategy: str) -> None:
    issued = await quick_house.authority.login("alice", strategy=strategy)
    assert await quick_house.refresh_cause(issued.session_token or issued.access_token) is Cause.MALFORMED
    assert await quick_house.causes(issued) == [None]


@pytest.mark.parametrize("token", ["", "kfr_", "kfr_" + "A" * 98, "a.b.c", "\ud800"], ids=ascii)
async def test_nonsense_refreshes_nothing(quick_house: Any, token: str) -> None:
    assert await quick_house.refresh_cause(token) is Cause.MALFORMED


@pytest.mark.meets("OA-30", "9700-4.14.2d")
async def test_no_character_of_a_refresh_token_can_be_changed(quick_house: Any) -> None:
    issued = await hybrid(quick_house)
    token = issued.refresh_token
    for place, character in enumerate(token):
        other = "A" if character != "A" else "B"
        changed = token[:place] + other + token[place + 1 :]
        assert await quick_house.refresh_cause(changed) is Cause.MALFORMED, place
    assert await quick_house.head() == 0
    assert await quick_house.refresh_cause(token) is None


async def test_a_token_of_another_store_with_the_same_keys_is_unknown(open_house: Any, tmp_path: Any) -> None:
    """A restored backup: the tag holds, and there is no such session."""
    house = await open_house(f"sqlite:///{tmp_path / 'one.db'}")
    await house.authority.close()
    (tmp_path / "two.db").write_bytes((tmp_path / "one.db").read_bytes())
    one = await open_house(f"sqlite:///{tmp_path / 'one.db'}")
    two = await open_house(f"sqlite:///{tmp_path / 'two.db'}")
    issued = await hybrid(one)
    session = await one.authority.login("alice")
    assert await two.refresh_cause(issued.refresh_token) is Cause.UNKNOWN_SESSION
    assert await two.cause(session.session_token) is Cause.UNKNOWN_SESSION
    assert await two.authority.introspect(issued.access_token) == {"active": False}
    assert await two.authority.logout(issued.refresh_token, devices="all") is None
    assert await two.head() == 0
