"""Where a key stands is a pure function of the keys, the policy and the time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.base.errors import ConfigurationError
from keyfob.base.identifiers import KeyId
from keyfob.keys.phases import LIVING, Due, Phase, ahead, announced, at_once, due, next_change, phases
from keyfob.keys.policy import MARGIN, KeyPolicy
from keyfob.keys.store import KeyPurpose, StoredKey
from keyfob.testing.frozen_clock import START

POLICY = KeyPolicy()
INSTANT = timedelta(microseconds=1)
DAY = timedelta(days=1)
OVERLAP = POLICY.token_lifetime + MARGIN


def key(
    name: str,
    activates: timedelta,
    *,
    revoked: timedelta | None = None,
    purpose: KeyPurpose = KeyPurpose.ACCESS,
) -> StoredKey:
    return StoredKey(
        purpose=purpose,
        key_id=KeyId(name),
        algorithm="ES256",
        sealed=b"",
        created_at=START + activates,
        activates_at=START + activates,
        revoked_at=None if revoked is None else START + revoked,
    )


def standing(keys: list[StoredKey], at: timedelta) -> dict[str, Phase]:
    return dict(phases(keys, POLICY, START + at))


def test_a_key_goes_through_the_phases_at_their_instants() -> None:
    keys = [key("a", 0 * DAY), key("b", 30 * DAY)]
    expected = [
        (30 * DAY - INSTANT, Phase.ACTIVE, Phase.ANNOUNCED),
        (30 * DAY, Phase.RETIRING, Phase.ACTIVE),
        (30 * DAY + OVERLAP - INSTANT, Phase.RETIRING, Phase.ACTIVE),
        (30 * DAY + OVERLAP, Phase.RETIRED, Phase.ACTIVE),
    ]
    for at, one, other in expected:
        assert standing(keys, at) == {"a": one, "b": other}
        assert standing(keys[::-1], at) == {"a": one, "b": other}


def test_opaque_keys_stay_for_the_longest_session_or_api_key() -> None:
    keys = [key("a", 0 * DAY, purpose=KeyPurpose.OPAQUE), key("b", 30 * DAY, purpose=KeyPurpose.OPAQUE)]
    ends = 30 * DAY + max(POLICY.session_lifetime, POLICY.api_key_lifetime) + MARGIN
    assert standing(keys, ends - INSTANT)["a"] is Phase.RETIRING
    assert standing(keys, ends)["a"] is Phase.RETIRED


def test_the_announced_key_takes_the_place_of_a_revoked_one_at_once() -> None:
    keys = [key("a", 0 * DAY, revoked=29 * DAY), key("b", 30 * DAY)]
    assert standing(keys, 29 * DAY) == {"a": Phase.REVOKED, "b": Phase.ACTIVE}
    assert due(keys, POLICY, START + 29 * DAY) is None


def test_a_key_that_was_replaced_is_never_active_again() -> None:
    keys = [key("a", 0 * DAY), key("b", 30 * DAY, revoked=30 * DAY + INSTANT)]
    now = 30 * DAY + 2 * INSTANT
    assert standing(keys, now) == {"a": Phase.RETIRING, "b": Phase.REVOKED}
    assert due(keys, POLICY, START + now) == Due(after=KeyId("b"), activates_at=START + now)


def test_a_key_revoked_while_announced_replaces_nobody() -> None:
    keys = [key("a", 0 * DAY), key("b", 30 * DAY, revoked=29 * DAY)]
    for now in (29 * DAY, 30 * DAY, 31 * DAY):
        assert standing(keys, now) == {"a": Phase.ACTIVE, "b": Phase.REVOKED}
    # The next one is newer than the revoked one, so that the store can tell that it is the newest.
    assert due(keys, POLICY, START + 29.5 * DAY) is None
    again = due(keys, POLICY, START + 30 * DAY - POLICY.publish_ahead)
    assert again == Due(after=KeyId("b"), activates_at=START + 30 * DAY + INSTANT)


def test_where_all_are_revoked_the_next_one_is_active_at_once() -> None:
    keys = [key("a", 0 * DAY, revoked=10 * DAY), key("b", 30 * DAY, revoked=10 * DAY)]
    now = START + 10 * DAY
    needed = due(keys, POLICY, now)
    assert needed == Due(after=KeyId("b"), activates_at=START + 30 * DAY + INSTANT)
    new = replace(key("c", 0 * DAY), activates_at=needed.activates_at)
    assert phases([*keys, new], POLICY, now)[KeyId("c")] is Phase.ACTIVE


def test_the_first_key_of_a_store_is_active_at_once() -> None:
    assert due([], POLICY, START) == Due(after=None, activates_at=START)
    assert at_once([], START) == Due(after=None, activates_at=START)


def test_the_next_key_is_made_a_cache_lifetime_before_it_is_used() -> None:
    keys = [key("a", 0 * DAY)]
    begins = 30 * DAY - POLICY.publish_ahead
    assert due(keys, POLICY, START + begins - INSTANT) is None
    assert due(keys, POLICY, START + begins) == Due(after=KeyId("a"), activates_at=START + 30 * DAY)
    # An authority that was away for months still publishes it first.
    late = START + 100 * DAY
    assert due(keys, POLICY, late) == Due(after=KeyId("a"), activates_at=late + POLICY.publish_ahead)


def test_nothing_is_due_while_one_is_announced() -> None:
    keys = [key("a", 0 * DAY), key("b", 30 * DAY)]
    assert due(keys, POLICY, START + 30 * DAY - INSTANT) is None
    assert announced(keys, POLICY, START) == keys[1]
    assert announced(keys[:1], POLICY, START) is None


def test_a_rotation_on_demand_is_published_first_too() -> None:
    keys = [key("a", 0 * DAY)]
    assert ahead(keys, POLICY, START) == Due(after=KeyId("a"), activates_at=START + POLICY.publish_ahead)


def test_the_next_change_is_the_next_moment_of_any_key() -> None:
    keys = [key("a", 0 * DAY), key("b", 30 * DAY)]
    moments = [START]
    while (moment := next_change(keys, POLICY, moments[-1])) is not None:
        moments.append(moment)
    assert moments == [START, START + OVERLAP, START + 30 * DAY, START + 30 * DAY + OVERLAP]


MINUTES = st.integers(0, 200_000).map(lambda minutes: timedelta(minutes=minutes))


@st.composite
def histories(draw: st.DrawFn) -> list[StoredKey]:
    moments = sorted(draw(st.sets(MINUTES, min_size=1, max_size=5)))
    return [
        key(str(number), moment, revoked=draw(st.one_of(st.none(), st.none(), MINUTES)))
        for number, moment in enumerate(moments)
    ]


@given(histories(), MINUTES)
def test_at_most_one_key_is_active_and_no_revoked_one_is_used(keys: list[StoredKey], now: timedelta) -> None:
    found = phases(keys, POLICY, START + now)
    assert set(found) == {each.key_id for each in keys}
    active = [each for each in keys if found[each.key_id] is Phase.ACTIVE]
    assert len(active) <= 1
    for each in keys:
        assert (found[each.key_id] is Phase.REVOKED) == (each.revoked_at is not None)
    needed = due(keys, POLICY, START + now)
    if not active:
        assert needed is not None
    if needed is not None:
        # Whatever is due, it can be told from all before it; and where nothing was active, it is.
        assert needed.activates_at > max(each.activates_at for each in keys)
        new = replace(key("new", now), activates_at=needed.activates_at)
        after = phases([*keys, new], POLICY, START + now)
        assert after[new.key_id] is (Phase.ACTIVE if not active else Phase.ANNOUNCED)
        assert due([*keys, new], POLICY, START + now) is None


@given(histories(), MINUTES, MINUTES)
def test_a_key_never_goes_back_to_an_earlier_phase(
    keys: list[StoredKey], one: timedelta, other: timedelta
) -> None:
    unrevoked = [replace(each, revoked_at=None) for each in keys]
    order = [Phase.ANNOUNCED, Phase.ACTIVE, Phase.RETIRING, Phase.RETIRED]
    before = phases(unrevoked, POLICY, START + min(one, other))
    after = phases(unrevoked, POLICY, START + max(one, other))
    for each in unrevoked:
        assert order.index(after[each.key_id]) >= order.index(before[each.key_id])


@given(histories(), MINUTES)
def test_nothing_changes_before_the_next_change(keys: list[StoredKey], now: timedelta) -> None:
    moment = next_change(keys, POLICY, START + now)
    if moment is not None:
        assert phases(keys, POLICY, moment - INSTANT) == phases(keys, POLICY, START + now)
    else:
        assert phases(keys, POLICY, START + now + 1000 * DAY) == phases(keys, POLICY, START + now)


@given(st.integers(0, 100_000), st.integers(1, 1440))
def test_whatever_a_key_signed_can_be_checked_until_it_ends(minute: int, lifetime: int) -> None:
    # One rotation after the other; a token of any moment, looked at in its last instant.
    keys = [key(str(number), number * POLICY.rotate_every) for number in range(5)]
    signed_at = START + timedelta(minutes=minute)
    signer = next(k for k, phase in phases(keys, POLICY, signed_at).items() if phase is Phase.ACTIVE)
    last = signed_at + min(timedelta(minutes=lifetime), POLICY.token_lifetime)
    assert phases(keys, POLICY, last)[signer] in LIVING


@pytest.mark.parametrize(
    "name", ["rotate_every", "jwks_max_age", "reload_every", "token_lifetime", "session_lifetime"]
)
def test_a_duration_of_the_policy_is_above_zero(name: str) -> None:
    for wrong in (timedelta(0), timedelta(seconds=-1)):
        with pytest.raises(ConfigurationError, match=name):
            KeyPolicy(**{name: wrong})


def test_a_key_is_used_for_longer_than_it_is_published_ahead() -> None:
    ahead_of = POLICY.publish_ahead
    with pytest.raises(ConfigurationError, match="rotate_every"):
        KeyPolicy(rotate_every=ahead_of)
    KeyPolicy(rotate_every=ahead_of + INSTANT)
