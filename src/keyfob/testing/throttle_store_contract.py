"""What a `ThrottleStore` must do."""

from __future__ import annotations

from datetime import timedelta

from keyfob.accounts.rules import FAMILIARITY, FREE_ATTEMPTS, THROTTLE_MEMORY, delay_after
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import TICK, Store, StoreContract


async def use_up(store: Store, clock: FrozenClock, *keys: str) -> None:
    """Make all attempts that are free."""
    for _ in range(FREE_ATTEMPTS):
        assert await store.throttle.attempt(keys, now=clock.now()) == 0


class ThrottleStoreContract(StoreContract):
    """`attempt`, `forget`, what is familiar, cleaning up."""

    async def test_the_sixth_attempt_waits(self, store: Store, clock: FrozenClock) -> None:
        await use_up(store, clock, "a")
        assert await store.throttle.attempt(["a"], now=clock.now()) == 1.0
        clock.advance(0.25)
        assert await store.throttle.attempt(["a"], now=clock.now()) == 0.75

    async def test_the_delay_doubles_to_its_bound(self, store: Store, clock: FrozenClock) -> None:
        await use_up(store, clock, "a")
        for attempts in range(FREE_ATTEMPTS, FREE_ATTEMPTS + 12):
            delay = delay_after(attempts)
            assert await store.throttle.attempt(["a"], now=clock.now()) == delay.total_seconds()
            clock.advance(delay - TICK)
            assert 0 < await store.throttle.attempt(["a"], now=clock.now()) < 0.001
            clock.advance(TICK)
            assert await store.throttle.attempt(["a"], now=clock.now()) == 0
        assert delay == timedelta(minutes=5)

    async def test_what_must_wait_is_not_counted(self, store: Store, clock: FrozenClock) -> None:
        await use_up(store, clock, "a")
        for _ in range(20):
            assert await store.throttle.attempt(["a", "b"], now=clock.now()) == 1.0
        for _ in range(FREE_ATTEMPTS):
            assert await store.throttle.attempt(["b"], now=clock.now()) == 0
        clock.advance(1)
        assert await store.throttle.attempt(["a"], now=clock.now()) == 0

    async def test_the_longest_wait_counts(self, store: Store, clock: FrozenClock) -> None:
        await use_up(store, clock, "a")
        clock.advance(0.5)
        await use_up(store, clock, "b")
        assert await store.throttle.attempt(["a", "b", "c"], now=clock.now()) == 1.0
        assert await store.throttle.attempt(["a"], now=clock.now()) == 0.5

    async def test_a_key_given_twice_counts_once(self, store: Store, clock: FrozenClock) -> None:
        for _ in range(FREE_ATTEMPTS):
            assert await store.throttle.attempt(["a", "a"], now=clock.now()) == 0
        assert await store.throttle.attempt(["a"], now=clock.now()) == 1.0

    async def test_no_keys_never_wait(self, store: Store, clock: FrozenClock) -> None:
        for _ in range(10):
            assert await store.throttle.attempt([], now=clock.now()) == 0
        await store.throttle.forget([])

    async def test_success_forgets(self, store: Store, clock: FrozenClock) -> None:
        await use_up(store, clock, "a", "b")
        await store.throttle.forget(["a", "unknown"])
        assert await store.throttle.attempt(["b"], now=clock.now()) == 1.0
        await use_up(store, clock, "a")
        assert await store.throttle.attempt(["a"], now=clock.now()) == 1.0

    async def test_a_day_forgets(self, store: Store, clock: FrozenClock) -> None:
        await use_up(store, clock, "a", "b")
        clock.advance(THROTTLE_MEMORY - TICK)
        assert await store.throttle.attempt(["a"], now=clock.now()) == 0
        assert await store.throttle.attempt(["a"], now=clock.now()) == 2.0
        clock.advance(TICK)
        await use_up(store, clock, "b")
        assert await store.throttle.attempt(["b"], now=clock.now()) == 1.0

    async def test_a_clock_that_went_back_delays_no_longer_than_the_delay(
        self, store: Store, clock: FrozenClock
    ) -> None:
        await use_up(store, clock, "a")
        clock.set(clock.now() - timedelta(hours=1))
        assert await store.throttle.attempt(["a"], now=clock.now()) == 1.0
        clock.advance(1)
        assert await store.throttle.attempt(["a"], now=clock.now()) == 0
        assert await store.throttle.attempt(["a"], now=clock.now()) == 2.0

    async def test_what_is_familiar_is_remembered_for_a_time(self, store: Store, clock: FrozenClock) -> None:
        start = clock.now()
        assert not await store.throttle.is_remembered("a", now=start)
        await store.throttle.remember("a", now=start)
        assert await store.throttle.is_remembered("a", now=start)
        assert not await store.throttle.is_remembered("b", now=start)
        assert await store.throttle.is_remembered("a", now=start + FAMILIARITY - TICK)
        assert not await store.throttle.is_remembered("a", now=start + FAMILIARITY)

    async def test_remembering_again_prolongs_and_never_shortens(
        self, store: Store, clock: FrozenClock
    ) -> None:
        start = clock.now()
        for moment in (start, start + TICK, start - TICK):
            await store.throttle.remember("a", now=moment)
        assert await store.throttle.is_remembered("a", now=start + FAMILIARITY)
        assert not await store.throttle.is_remembered("a", now=start + FAMILIARITY + TICK)

    async def test_what_is_familiar_and_what_is_counted_do_not_meet(
        self, store: Store, clock: FrozenClock
    ) -> None:
        await store.throttle.remember("a", now=clock.now())
        await use_up(store, clock, "a")
        await store.throttle.forget(["a"])
        assert await store.throttle.is_remembered("a", now=clock.now())

    async def test_what_is_no_longer_familiar_is_deleted(self, store: Store, clock: FrozenClock) -> None:
        start = clock.now()
        for key in ("a", "b", "c"):
            await store.throttle.remember(key, now=start)
        await store.throttle.remember("later", now=start + TICK)
        await store.throttle.attempt(["counted"], now=start)
        end = start + FAMILIARITY
        assert await store.throttle.delete_expired(end - TICK, 10) == 1  # the count alone
        assert await store.throttle.delete_expired(end, 2) == 2
        assert await store.throttle.delete_expired(end, 10) == 1
        assert await store.throttle.is_remembered("later", now=end)
        assert await store.throttle.delete_expired(end + TICK, 10) == 1

    async def test_old_counts_are_deleted_up_to_the_limit(self, store: Store, clock: FrozenClock) -> None:
        await store.throttle.attempt(["a", "b", "c"], now=clock.now())
        at = clock.now() + THROTTLE_MEMORY
        clock.advance(1)
        await use_up(store, clock, "d")
        assert await store.throttle.delete_expired(at - TICK, 10) == 0
        assert await store.throttle.delete_expired(at, 0) == 0
        assert await store.throttle.delete_expired(at, 2) == 2
        assert await store.throttle.delete_expired(at, 10) == 1
        assert await store.throttle.attempt(["d"], now=clock.now()) == 1.0
