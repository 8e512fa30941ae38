"""All keys of a store go over to another master key in one step, whoever else changes them meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.base.identifiers import KeyId
from keyfob.jwt import jws
from keyfob.keys.key_ring import KeyRing
from keyfob.keys.phases import Phase
from keyfob.keys.policy import KeyPolicy
from keyfob.keys.rewrap import fits, rewrap
from keyfob.keys.sealing import Sealing
from keyfob.keys.store import KeyPurpose, KeyStore, Resealed, StoredKey
from keyfob.stores.memory import open_memory_store
from keyfob.testing.frozen_clock import FrozenClock

OLD, NEW, OTHER = (bytes([number]) * 32 for number in range(3))


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def store(clock: FrozenClock) -> KeyStore:
    return open_memory_store(clock).keys


async def opened(store: KeyStore, clock: FrozenClock, master_key: bytes) -> KeyRing:
    return await KeyRing.open(store, master_key=master_key, clock=clock)


async def test_everything_but_the_seal_stays(store: KeyStore, clock: FrozenClock) -> None:
    ring = await opened(store, clock, OLD)
    await ring.rotate(KeyPurpose.ACCESS)
    before = list(await store.all())
    assert await rewrap(store, master_key=OLD, new_master_key=NEW) == len(before) == 5
    after = list(await store.all())
    assert [replace(key, sealed=b"") for key in after] == [replace(key, sealed=b"") for key in before]
    assert not {key.sealed for key in after} & {key.sealed for key in before}
    again = await opened(store, clock, NEW)
    assert (again.jwks(), again.feed_jwks()) == (ring.jwks(), ring.feed_jwks())
    assert again.current_opaque() == ring.current_opaque()
    assert again.csrf_keys() == ring.csrf_keys()
    token = jws.sign(b"{}", ring.signer(), typ="at+jwt")
    assert jws.verify(token, again.public_keys(), typ="at+jwt") == b"{}"


async def test_the_old_master_key_is_refused_afterwards(store: KeyStore, clock: FrozenClock) -> None:
    await opened(store, clock, OLD)
    await rewrap(store, master_key=OLD, new_master_key=NEW)
    with pytest.raises(ConfigurationError, match="last rewrapped to"):
        await opened(store, clock, OLD)


async def test_twice_is_once(store: KeyStore, clock: FrozenClock) -> None:
    await opened(store, clock, OLD)
    assert await rewrap(store, master_key=OLD, new_master_key=NEW) == 4
    keys = list(await store.all())
    assert await rewrap(store, master_key=OLD, new_master_key=NEW) == 0
    assert list(await store.all()) == keys


async def test_a_master_key_that_fits_nothing_changes_nothing(store: KeyStore, clock: FrozenClock) -> None:
    await opened(store, clock, OLD)
    keys = list(await store.all())
    with pytest.raises(ConfigurationError, match="does not fit"):
        await rewrap(store, master_key=OTHER, new_master_key=NEW)
    assert list(await store.all()) == keys


async def test_a_store_without_all_its_keys_is_refused(store: KeyStore, clock: FrozenClock) -> None:
    with pytest.raises(ConfigurationError, match="keys list"):
        await rewrap(store, master_key=OLD, new_master_key=NEW)
    ring = await opened(store, clock, OLD)
    feed = next(key for key, _ in ring.listing() if key.purpose is KeyPurpose.FEED)
    await store.delete(feed.key_id)
    with pytest.raises(ConfigurationError, match="keys list"):
        await rewrap(store, master_key=OLD, new_master_key=NEW)


async def test_no_keys_fit_no_master_key() -> None:
    assert not fits([], Sealing(OLD))


async def test_of_two_with_one_new_key_one_wins_and_with_two_the_other_is_refused(
    store: KeyStore, clock: FrozenClock
) -> None:
    await opened(store, clock, OLD)
    same = await asyncio.gather(*(rewrap(store, master_key=OLD, new_master_key=NEW) for _ in range(4)))
    assert sorted(same) == [0, 0, 0, 4]
    others = await asyncio.gather(
        *(rewrap(store, master_key=NEW, new_master_key=key) for key in (OLD, OTHER)), return_exceptions=True
    )
    assert {type(one) for one in others} == {int, ConfigurationError}


class Meddling:
    """A store in which something happens between the reading and the sealing."""

    def __init__(self, store: KeyStore, meddle: object) -> None:
        self._store = store
        self._meddle = meddle
        self.attempts = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def reseal(self, keys: Sequence[Resealed]) -> bool:
        self.attempts += 1
        await self._meddle()  # type: ignore[operator]
        return await self._store.reseal(keys)


async def test_a_key_that_is_added_meanwhile_goes_over_too(store: KeyStore, clock: FrozenClock) -> None:
    ring = await opened(store, clock, OLD)

    async def rotate() -> None:
        await ring.rotate(KeyPurpose.ACCESS)

    meddling = Meddling(store, rotate)
    assert await rewrap(meddling, master_key=OLD, new_master_key=NEW) == 5  # type: ignore[arg-type]
    assert meddling.attempts == 2
    assert fits(await store.all(), Sealing(NEW))


async def test_keys_that_change_without_end_are_given_up(store: KeyStore, clock: FrozenClock) -> None:
    await opened(store, clock, OLD)

    async def seal_again() -> None:
        keys = await store.all()
        sealing = Sealing(OLD)
        again = []
        for key in keys:
            context = {"purpose": key.purpose, "algorithm": key.algorithm, "key_id": key.key_id}
            secret = sealing.open(key.sealed, **context)  # type: ignore[arg-type]
            sealed = sealing.seal(secret, **context)  # type: ignore[arg-type]
            again.append(Resealed(key_id=key.key_id, sealed=sealed, replaces=key.sealed))
        assert await store.reseal(again)

    meddling = Meddling(store, seal_again)
    with pytest.raises(StoreUnavailable, match="faster"):
        await rewrap(meddling, master_key=OLD, new_master_key=NEW)  # type: ignore[arg-type]
    assert fits(await store.all(), Sealing(OLD))


async def test_a_running_ring_goes_on_and_hears_of_revocations(store: KeyStore, clock: FrozenClock) -> None:
    ring = await opened(store, clock, OLD)
    await ring.rotate(KeyPurpose.ACCESS)
    await rewrap(store, master_key=OLD, new_master_key=NEW)
    await ring.reload()
    revoked = ring.signer().key_id
    clock.advance(KeyPolicy().publish_ahead)
    assert await store.set_revoked(revoked, clock.now())
    await ring.reload()
    assert ring.signer().key_id != revoked
    assert revoked not in ring.public_keys()


async def test_a_running_ring_adds_nothing_under_the_old_master_key(
    store: KeyStore, clock: FrozenClock
) -> None:
    ring = await opened(store, clock, OLD)
    signer = ring.signer().key_id
    await rewrap(store, master_key=OLD, new_master_key=NEW)
    for make_the_next in (lambda: ring.rotate(KeyPurpose.ACCESS), _a_month_later(ring, clock)):
        with pytest.raises(ConfigurationError, match="does not fit"):
            await make_the_next()
    assert len(await store.all()) == 4
    assert ring.signer().key_id == signer
    assert fits(await store.all(), Sealing(NEW))


def _a_month_later(ring: KeyRing, clock: FrozenClock):  # type: ignore[no-untyped-def]
    async def reload() -> None:
        clock.advance(KeyPolicy().rotate_every)
        await ring.reload()

    return reload


class Late:
    """A store in which a rewrap comes between the reading and the adding of a ring."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def add(self, key: StoredKey, *, after: KeyId | None, beside: bytes | None = None) -> bool:
        await rewrap(self._store, master_key=OLD, new_master_key=NEW)
        return await self._store.add(key, after=after, beside=beside)


async def test_a_rewrap_between_reading_and_adding_leaves_no_key_under_the_old_master_key(
    store: KeyStore, clock: FrozenClock
) -> None:
    await opened(store, clock, OLD)
    ring = await opened(Late(store), clock, OLD)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="does not fit"):
        await ring.rotate(KeyPurpose.FEED)
    assert fits(await store.all(), Sealing(NEW))
    again = await opened(store, clock, NEW)
    assert {phase for _, phase in again.listing()} == {Phase.ACTIVE}
