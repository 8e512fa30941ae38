"""What a `KeyStore` must do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from keyfob.base.identifiers import KeyId
from keyfob.keys.store import KeyPurpose, Resealed, StoredKey
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import Store, StoreContract


def a_key(clock: FrozenClock, name: str, purpose: KeyPurpose = KeyPurpose.ACCESS) -> StoredKey:
    """Return a key that is used from now on."""
    return StoredKey(
        purpose=purpose,
        key_id=KeyId(name),
        algorithm="ES256",
        sealed=bytes(range(256)),
        created_at=clock.now(),
        activates_at=clock.now(),
    )


class KeyStoreContract(StoreContract):
    """`add` with its one winner, `all`, `set_revoked`, `reseal`, `delete`."""

    async def test_a_key_is_kept_as_it_was_added(self, store: Store, clock: FrozenClock) -> None:
        assert list(await store.keys.all()) == []
        key = replace(a_key(clock, "a"), revoked_at=clock.now() + timedelta(microseconds=1))
        assert await store.keys.add(key, after=None)
        assert list(await store.keys.all()) == [key]

    async def test_the_first_of_a_purpose_comes_after_none(self, store: Store, clock: FrozenClock) -> None:
        assert not await store.keys.add(a_key(clock, "a"), after=KeyId("b"))
        assert await store.keys.add(a_key(clock, "a"), after=None)
        assert not await store.keys.add(a_key(clock, "b"), after=None)
        assert [key.key_id for key in await store.keys.all()] == ["a"]

    async def test_purposes_do_not_meet(self, store: Store, clock: FrozenClock) -> None:
        for purpose in KeyPurpose:
            assert await store.keys.add(a_key(clock, purpose.value, purpose), after=None)
        assert not await store.keys.add(a_key(clock, "b", KeyPurpose.FEED), after=KeyId("access"))
        assert await store.keys.add(a_key(clock, "b", KeyPurpose.FEED), after=KeyId("feed"))

    async def test_the_newest_is_the_one_used_last(self, store: Store, clock: FrozenClock) -> None:
        later = replace(a_key(clock, "later"), activates_at=clock.now() + timedelta(days=14))
        assert await store.keys.add(later, after=None)
        clock.advance(1)
        sooner = a_key(clock, "sooner")
        assert await store.keys.add(sooner, after=KeyId("later"))
        assert not await store.keys.add(a_key(clock, "x"), after=KeyId("sooner"))
        same = replace(a_key(clock, "same"), activates_at=later.activates_at)
        assert await store.keys.add(same, after=KeyId("later"))
        assert not await store.keys.add(a_key(clock, "x"), after=KeyId("later"))
        assert await store.keys.add(a_key(clock, "x"), after=KeyId("same"))

    async def test_an_id_in_use_is_not_added_again(self, store: Store, clock: FrozenClock) -> None:
        assert await store.keys.add(a_key(clock, "a"), after=None)
        assert not await store.keys.add(a_key(clock, "a"), after=KeyId("a"))
        assert not await store.keys.add(a_key(clock, "a", KeyPurpose.FEED), after=None)

    async def test_all_are_oldest_first(self, store: Store, clock: FrozenClock) -> None:
        names = [None, "c", "a", "b"]
        for after, name in pairwise(names):
            clock.advance(1)
            assert await store.keys.add(a_key(clock, str(name)), after=KeyId(after) if after else None)
        assert [key.key_id for key in await store.keys.all()] == names[1:]

    async def test_a_key_is_revoked_once(self, store: Store, clock: FrozenClock) -> None:
        await store.keys.add(a_key(clock, "a"), after=None)
        at = clock.advance(1)
        assert await store.keys.set_revoked(KeyId("a"), at)
        assert not await store.keys.set_revoked(KeyId("a"), clock.advance(1))
        assert not await store.keys.set_revoked(KeyId("b"), at)
        assert [key.revoked_at for key in await store.keys.all()] == [at]

    async def test_a_revoked_key_is_still_the_newest(self, store: Store, clock: FrozenClock) -> None:
        await store.keys.add(a_key(clock, "a"), after=None)
        await store.keys.set_revoked(KeyId("a"), clock.now())
        assert not await store.keys.add(a_key(clock, "b"), after=None)
        assert await store.keys.add(a_key(clock, "b"), after=KeyId("a"))

    async def test_a_key_is_not_added_beside_one_that_was_sealed_anew(
        self, store: Store, clock: FrozenClock
    ) -> None:
        first, second = a_key(clock, "a"), a_key(clock, "b")
        assert not await store.keys.add(first, after=None, beside=first.sealed)
        assert await store.keys.add(first, after=None)
        assert not await store.keys.add(second, after=first.key_id, beside=b"another")
        assert not await store.keys.add(second, after=KeyId("c"), beside=first.sealed)
        assert await store.keys.add(second, after=first.key_id, beside=first.sealed)

    async def test_keys_are_sealed_anew_all_or_none(self, store: Store, clock: FrozenClock) -> None:
        first, second = a_key(clock, "a"), replace(a_key(clock, "b", KeyPurpose.CSRF), sealed=b"b")
        for key in (first, second):
            assert await store.keys.add(key, after=None)
        one = Resealed(key_id=first.key_id, sealed=b"new a", replaces=first.sealed)
        two = Resealed(key_id=second.key_id, sealed=b"new b", replaces=b"b")
        unknown = Resealed(key_id=KeyId("c"), sealed=b"new c", replaces=b"c")
        assert not await store.keys.reseal([])
        assert not await store.keys.reseal([one])
        assert not await store.keys.reseal([one, replace(two, replaces=b"c")])
        assert not await store.keys.reseal([one, two, unknown])
        assert list(await store.keys.all()) == [first, second]
        assert await store.keys.reseal([two, one])
        changed = [replace(first, sealed=b"new a"), replace(second, sealed=b"new b")]
        assert list(await store.keys.all()) == changed
        assert not await store.keys.reseal([one, two])
        assert list(await store.keys.all()) == changed

    async def test_of_many_that_seal_anew_at_once_one_wins(self, store: Store, clock: FrozenClock) -> None:
        key = a_key(clock, "a")
        assert await store.keys.add(key, after=None)
        racers = [
            Resealed(key_id=key.key_id, sealed=bytes([number]), replaces=key.sealed) for number in range(8)
        ]
        won = await asyncio.gather(*(store.keys.reseal([racer]) for racer in racers))
        assert won.count(True) == 1
        assert [held.sealed for held in await store.keys.all()] == [racers[won.index(True)].sealed]

    async def test_no_keys_are_sealed_anew_in_an_empty_store(self, store: Store) -> None:
        assert await store.keys.reseal([])

    async def test_a_key_is_deleted_once(self, store: Store, clock: FrozenClock) -> None:
        await store.keys.add(a_key(clock, "a"), after=None)
        assert not await store.keys.delete(KeyId("b"))
        assert await store.keys.delete(KeyId("a"))
        assert not await store.keys.delete(KeyId("a"))
        assert list(await store.keys.all()) == []

    @pytest.mark.parametrize("name", ["Ünïcode", "a b", "'; DROP TABLE keys; --"])
    async def test_any_text_is_an_id(self, store: Store, clock: FrozenClock, name: str) -> None:
        assert await store.keys.add(a_key(clock, name), after=None)
        assert [key.key_id for key in await store.keys.all()] == [name]
