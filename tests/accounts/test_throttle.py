"""Who must wait, and who can never be made to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.accounts.rules import FAMILIARITY, LONGEST_DELAY, THROTTLE_MEMORY, delay_after
from keyfob.accounts.throttle import Throttle, network_of
from keyfob.base.errors import RateLimited
from keyfob.stores.memory import open_memory_store
from keyfob.stores.opening import open_store
from keyfob.testing.frozen_clock import FrozenClock

OWNER, STRANGER, THIRD = "192.0.2.7", "203.0.113.9", "198.51.100.4"


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture(params=["memory", "sqlite"])
async def throttle(
    request: pytest.FixtureRequest, clock: FrozenClock, tmp_path: Path
) -> AsyncIterator[Throttle]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/keyfob.db"
    store = await open_store(url, clock=clock)
    yield Throttle(store.throttle, clock=clock)
    await store.close()


async def fail(throttle: Throttle, name: str, address: str, *, times: int) -> None:
    for _ in range(times):
        await throttle.admit(name, address)


async def wait_of(throttle: Throttle, name: str, address: str) -> float:
    with pytest.raises(RateLimited) as refusal:
        await throttle.admit(name, address)
    return refusal.value.retry_after


async def test_five_attempts_are_free_and_the_sixth_waits(throttle: Throttle, clock: FrozenClock) -> None:
    await fail(throttle, "alice", STRANGER, times=5)
    assert await wait_of(throttle, "alice", STRANGER) == 1.0
    clock.advance(0.999)
    assert await wait_of(throttle, "alice", STRANGER) == 1.0
    clock.advance(0.001)
    await throttle.admit("alice", STRANGER)


async def test_the_delay_doubles_to_five_minutes_and_no_further(
    throttle: Throttle, clock: FrozenClock
) -> None:
    await fail(throttle, "alice", STRANGER, times=5)
    delays = []
    for _ in range(12):
        delays.append(await wait_of(throttle, "alice", STRANGER))
        clock.advance(delays[-1])
        await throttle.admit("alice", STRANGER)
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


async def test_attempts_that_must_wait_do_not_count(throttle: Throttle, clock: FrozenClock) -> None:
    await fail(throttle, "alice", STRANGER, times=5)
    for _ in range(50):
        assert await wait_of(throttle, "alice", STRANGER) == 1.0
    clock.advance(1)
    await throttle.admit("alice", STRANGER)


async def test_a_guesser_at_many_accounts_is_slowed_by_the_address(throttle: Throttle) -> None:
    for number in range(5):
        await throttle.admit(f"user{number}", STRANGER)
    await wait_of(throttle, "user5", STRANGER)
    await throttle.admit("user5", THIRD)


async def test_guessers_from_many_addresses_are_slowed_by_the_account(throttle: Throttle) -> None:
    for number in range(5):
        await throttle.admit("alice", f"203.0.113.{number}")
    await wait_of(throttle, "alice", "203.0.113.99")
    await throttle.admit("bob", "203.0.113.99")


async def test_no_number_of_strangers_keeps_the_owner_out_where_the_owner_has_been(
    throttle: Throttle, clock: FrozenClock
) -> None:
    await throttle.settle(await throttle.admit("alice", OWNER))
    for _ in range(10):
        await fail(throttle, "alice", STRANGER, times=1)
        clock.advance(LONGEST_DELAY)
    await wait_of_somebody_new(throttle)
    admission = await throttle.admit("alice", OWNER)
    await throttle.settle(admission)
    # And still after the count is forgotten, for as long as the address is remembered.
    clock.advance(FAMILIARITY - timedelta(seconds=1))
    await fail(throttle, "alice", STRANGER, times=5)
    await throttle.admit("alice", OWNER)
    clock.advance(1)
    await wait_of_somebody_new(throttle)


async def wait_of_somebody_new(throttle: Throttle) -> None:
    for number in range(20):
        try:
            await throttle.admit("alice", f"198.51.100.{number}")
        except RateLimited:
            return
    pytest.fail("strangers are not slowed")


async def test_a_familiar_address_has_a_counter_of_its_own_and_not_a_free_pass(throttle: Throttle) -> None:
    await throttle.settle(await throttle.admit("alice", OWNER))
    await fail(throttle, "alice", OWNER, times=5)
    await wait_of(throttle, "alice", OWNER)
    await throttle.admit("alice", STRANGER)


async def test_ones_own_logins_do_not_wipe_out_ones_guesses_at_others(
    throttle: Throttle, clock: FrozenClock
) -> None:
    await throttle.settle(await throttle.admit("mallory", STRANGER))  # familiar from now on
    guesses = 0
    for number in range(20):
        try:
            await throttle.admit(f"victim{number}", STRANGER)
            guesses += 1
        except RateLimited:
            break
        await throttle.settle(await throttle.admit("mallory", STRANGER))
    assert guesses == 5


async def test_a_success_forgets_what_counted_against_it(throttle: Throttle) -> None:
    for _ in range(10):
        await fail(throttle, "alice", OWNER, times=3)
        await throttle.settle(await throttle.admit("alice", OWNER))


async def test_counts_are_forgotten_a_day_after_the_last_attempt(
    throttle: Throttle, clock: FrozenClock
) -> None:
    await fail(throttle, "alice", STRANGER, times=5)
    clock.advance(THROTTLE_MEMORY)
    await fail(throttle, "alice", STRANGER, times=5)
    await wait_of(throttle, "alice", STRANGER)


async def test_an_unknown_address_counts_for_the_account_alone(throttle: Throttle) -> None:
    await throttle.settle(await throttle.admit("alice", ""))
    await fail(throttle, "alice", "", times=5)
    await wait_of(throttle, "alice", "")
    await throttle.admit("bob", "")


async def test_any_number_of_attempts_at_once_get_no_more_than_one_after_another(throttle: Throttle) -> None:
    outcomes = await asyncio.gather(
        *(throttle.admit("alice", f"203.0.113.{number}") for number in range(100)), return_exceptions=True
    )
    assert sum(not isinstance(outcome, RateLimited) for outcome in outcomes) == 5


async def test_what_a_store_is_given_says_neither_name_nor_address(clock: FrozenClock) -> None:
    throttle = Throttle(open_memory_store(clock).throttle, clock=clock)
    admission = await throttle.admit("hunter2", STRANGER)
    for key in (*admission.keys, admission.familiar or ""):
        assert "hunter2" not in key
        assert STRANGER not in key
        assert len(key) < 64


async def test_names_and_addresses_are_never_taken_for_each_other(throttle: Throttle) -> None:
    seen = set()
    for name, address in (("a", "b"), ("ab", ""), ("", "ab"), ("b", "a"), ("a\x00", "b")):
        admission = await throttle.admit(name, address)
        seen.add(admission.familiar or admission.keys)
    assert len(seen) == 5


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_what_is_forgotten_is_deleted_within_the_limit_and_nothing_else(
    kind: str, clock: FrozenClock, tmp_path: Path
) -> None:
    url = "memory://" if kind == "memory" else f"sqlite:///{tmp_path}/keyfob.db"
    store = await open_store(url, clock=clock)
    throttle = store.throttle
    await throttle.attempt(["a", "b"], now=clock.now())
    await throttle.remember("c", now=clock.now())
    clock.advance(FAMILIARITY - timedelta(seconds=1))
    await throttle.attempt(["d"], now=clock.now())
    await throttle.remember("e", now=clock.now())
    assert await throttle.delete_expired(clock.now(), 1) == 1
    assert await throttle.delete_expired(clock.now(), 10) == 1
    assert await throttle.is_remembered("c", now=clock.now())
    clock.advance(1)
    assert not await throttle.is_remembered("c", now=clock.now())
    assert await throttle.delete_expired(clock.now(), 10) == 1
    assert await throttle.is_remembered("e", now=clock.now())
    # An earlier moment never shortens what is remembered.
    await throttle.remember("e", now=clock.now() - timedelta(days=80))
    clock.advance(FAMILIARITY - timedelta(seconds=2))
    assert await throttle.is_remembered("e", now=clock.now())
    await store.close()


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix:", "unix:"),
        ("999.1.1.1", "999.1.1.1"),
    ],
)
def test_an_address_stands_for_what_one_subscriber_has(address: str, network: str) -> None:
    assert network_of(address) == network


@given(st.text(max_size=50))
def test_any_text_is_an_address(address: str) -> None:
    network_of(address)


@given(st.integers(0, 10_000))
def test_the_delay_never_falls_and_stays_within_its_bounds(attempts: int) -> None:
    assert timedelta(0) <= delay_after(attempts) <= delay_after(attempts + 1) <= LONGEST_DELAY
