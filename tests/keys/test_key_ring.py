"""The keys of an authority come and go by themselves, once, however many authorities run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from keyfob.base.errors import ConfigurationError, NotFound, StoreUnavailable
from keyfob.base.identifiers import KeyId, SessionId
from keyfob.base.opaque import OpaqueKind, OpaqueToken
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import parse_jwk_set
from keyfob.keys.key_material import load, make
from keyfob.keys.key_ring import KeyRing
from keyfob.keys.phases import Due, Phase
from keyfob.keys.policy import MARGIN, KeyPolicy
from keyfob.keys.sealing import Sealing
from keyfob.keys.store import KeyPurpose, KeyStore, StoredKey
from keyfob.stores.memory import open_memory_store
from keyfob.testing.frozen_clock import FrozenClock

MASTER = bytes(range(32))
POLICY = KeyPolicy()
DAY = timedelta(days=1)


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def store(clock: FrozenClock) -> KeyStore:
    return open_memory_store(clock).keys


async def opened(store: KeyStore, clock: FrozenClock, **options: object) -> KeyRing:
    return await KeyRing.open(store, **{"master_key": MASTER, "clock": clock, **options})  # type: ignore[arg-type]


async def phases_of(ring: KeyRing, purpose: KeyPurpose) -> list[Phase]:
    return [phase for key, phase in ring.listing() if key.purpose is purpose]


async def test_a_new_store_gets_a_key_for_each_purpose_active_at_once(
    store: KeyStore, clock: FrozenClock
) -> None:
    ring = await opened(store, clock)
    assert [(key.purpose, phase) for key, phase in ring.listing()] == [
        (purpose, Phase.ACTIVE) for purpose in KeyPurpose
    ]
    assert ring.signer().algorithm is Algorithm.ES256
    assert ring.feed_signer().algorithm is Algorithm.EDDSA
    again = await opened(store, clock)
    assert await store.all() == list(await store.all())
    assert len(await store.all()) == len(KeyPurpose)
    assert again.jwks() == ring.jwks()
    assert again.current_opaque() == ring.current_opaque()
    assert again.csrf_keys() == ring.csrf_keys()


@pytest.mark.parametrize("algorithm", list(Algorithm))
async def test_access_tokens_are_signed_with_the_algorithm_that_was_chosen(
    store: KeyStore, clock: FrozenClock, algorithm: Algorithm
) -> None:
    ring = await opened(store, clock, algorithm=algorithm.value)
    token = jws.sign(b"{}", ring.signer(), typ="at+jwt")
    assert ring.signer().algorithm is algorithm
    for keys in (ring.public_keys(), {key.key_id: key for key in parse_jwk_set(ring.jwks())}):
        assert jws.verify(token, keys, typ="at+jwt") == b"{}"


@pytest.mark.parametrize("algorithm", ["HS256", "none", "es256", "", "Ed25519"])
async def test_another_algorithm_is_refused(store: KeyStore, clock: FrozenClock, algorithm: str) -> None:
    with pytest.raises(ConfigurationError, match=r"tokens\.algorithm"):
        await opened(store, clock, algorithm=algorithm)
    assert await store.all() == []


async def test_no_private_part_is_published_or_stored_in_the_clear(
    store: KeyStore, clock: FrozenClock
) -> None:
    ring = await opened(store, clock)
    for jwks in (ring.jwks(), ring.feed_jwks()):
        assert {name for key in jwks["keys"] for name in key} <= {"kty", "crv", "x", "y", "use", "alg", "kid"}
    secrets = [
        ring.signer().to_bytes(),
        ring.feed_signer().to_bytes(),
        ring.current_opaque().tag_key,
        ring.current_opaque().rotation_key,
        *ring.csrf_keys(),
    ]
    for stored in await store.all():
        assert not any(secret in stored.sealed for secret in secrets)
        assert not any(secret.hex() in repr(stored) for secret in secrets)


async def test_each_purpose_has_its_own_secret(store: KeyStore, clock: FrozenClock) -> None:
    ring = await opened(store, clock)
    pair = ring.current_opaque()
    assert len({pair.tag_key, pair.rotation_key, *ring.csrf_keys()}) == 3
    assert not set(ring.public_keys()) & set(ring.feed_public_keys())
    token = jws.sign(b"{}", ring.feed_signer(), typ="at+jwt")
    with pytest.raises(Exception, match="unknown_key"):
        jws.verify(token, ring.public_keys(), typ="at+jwt")


async def test_an_opaque_token_is_read_with_the_keys_of_the_ring(store: KeyStore, clock: FrozenClock) -> None:
    ring = await opened(store, clock)
    pair = ring.current_opaque()
    assert len(pair.key_id) == 4
    token = OpaqueToken.mint(OpaqueKind.SESSION, SessionId("ab" * 16), pair)
    assert OpaqueToken.parse(token.text(), ring.opaque_keys).digest == token.digest
    assert ring.opaque_keys(b"\0\0\0\0") is None


class Interleaved:
    """A store in which each read waits for another one, so that all decide on the same state."""

    def __init__(self, store: KeyStore, parties: int) -> None:
        self._store = store
        self._barrier = asyncio.Barrier(parties)
        self._together = parties
        self.added: list[bool] = []

    async def all(self) -> Sequence[StoredKey]:
        found = await self._store.all()
        if self._together:
            self._together -= 1
            await asyncio.wait_for(self._barrier.wait(), 10)
        return found

    async def add(self, key: StoredKey, *, after: KeyId | None, beside: bytes | None = None) -> bool:
        self.added.append(await self._store.add(key, after=after, beside=beside))
        await asyncio.sleep(0)
        return self.added[-1]

    async def set_revoked(self, key_id: KeyId, at: datetime) -> bool:
        return await self._store.set_revoked(key_id, at)

    async def delete(self, key_id: KeyId) -> bool:
        return await self._store.delete(key_id)


@pytest.mark.parametrize("authorities", [2, 5])
async def test_authorities_that_open_a_new_store_at_once_end_with_the_same_keys(
    store: KeyStore, clock: FrozenClock, authorities: int
) -> None:
    interleaved = Interleaved(store, authorities)
    rings = await asyncio.gather(*(opened(interleaved, clock) for _ in range(authorities)))
    assert sum(interleaved.added) == len(KeyPurpose)
    assert len(interleaved.added) > len(KeyPurpose)
    assert len(await store.all()) == len(KeyPurpose)
    for ring in rings:
        assert ring.jwks() == rings[0].jwks()
        assert ring.feed_jwks() == rings[0].feed_jwks()
        assert ring.current_opaque() == rings[0].current_opaque()
        assert ring.csrf_keys() == rings[0].csrf_keys()


async def test_authorities_that_rotate_at_once_make_one_key(store: KeyStore, clock: FrozenClock) -> None:
    await opened(store, clock)
    clock.advance(POLICY.rotate_every - POLICY.publish_ahead)
    interleaved = Interleaved(store, 3)
    rings = await asyncio.gather(*(opened(interleaved, clock) for _ in range(3)))
    assert sum(interleaved.added) == len(KeyPurpose)
    assert len({str(ring.jwks()) for ring in rings}) == 1


async def test_a_key_is_published_before_it_is_used_and_stays_after(
    store: KeyStore, clock: FrozenClock
) -> None:
    ring = await opened(store, clock)
    first = ring.signer().key_id
    before_due = POLICY.rotate_every - POLICY.publish_ahead - timedelta(microseconds=1)
    clock.advance(before_due)
    await ring.reload()
    assert set(ring.public_keys()) == {first}
    clock.advance(timedelta(microseconds=1))
    await ring.reload()
    (second,) = set(ring.public_keys()) - {first}
    assert ring.signer().key_id == first
    assert {key["kid"] for key in ring.jwks()["keys"]} == {first, second}
    # Without any reload the ring follows the clock.
    clock.advance(POLICY.publish_ahead - timedelta(seconds=1))
    assert ring.signer().key_id == first
    clock.advance(timedelta(seconds=1))
    assert ring.signer().key_id == second
    assert set(ring.public_keys()) == {first, second}
    clock.advance(POLICY.token_lifetime + MARGIN - timedelta(seconds=1))
    assert set(ring.public_keys()) == {first, second}
    clock.advance(timedelta(seconds=1))
    assert set(ring.public_keys()) == {second}


async def test_a_verifier_with_a_cached_set_is_never_without_the_key(
    store: KeyStore, clock: FrozenClock
) -> None:
    ring = await opened(store, clock)
    fetched_at, cached = clock.now(), ring.public_keys()
    for _ in range(24 * 40):
        clock.advance(timedelta(hours=1))
        await ring.reload()
        # Just before the set is fetched again, it is as old as it may be.
        assert clock.now() - fetched_at == POLICY.jwks_max_age
        assert ring.signer().key_id in cached
        fetched_at, cached = clock.now(), ring.public_keys()
    assert len([key for key, _ in ring.listing() if key.purpose is KeyPurpose.ACCESS]) == 2


async def test_opaque_and_csrf_keys_stay_for_the_longest_session(store: KeyStore, clock: FrozenClock) -> None:
    ring = await opened(store, clock)
    pair, csrf = ring.current_opaque(), ring.csrf_keys()
    clock.advance(POLICY.rotate_every - POLICY.publish_ahead)
    await ring.reload()
    assert ring.current_opaque() == pair
    assert ring.csrf_keys()[0] == csrf[0]
    assert len(ring.csrf_keys()) == 2
    clock.advance(POLICY.publish_ahead)
    assert ring.current_opaque() != pair
    assert ring.csrf_keys()[0] != csrf[0]
    clock.advance(POLICY.session_lifetime + MARGIN - timedelta(seconds=1))
    assert ring.opaque_keys(pair.key_id) == pair
    assert csrf[0] in ring.csrf_keys()
    clock.advance(timedelta(seconds=1))
    assert csrf[0] not in ring.csrf_keys()
    # API keys live longer than sessions.
    clock.advance(POLICY.api_key_lifetime - POLICY.session_lifetime - timedelta(seconds=1))
    assert ring.opaque_keys(pair.key_id) == pair
    clock.advance(timedelta(seconds=1))
    assert ring.opaque_keys(pair.key_id) is None


async def test_a_revoked_key_is_out_of_use_at_once_and_replaced(store: KeyStore, clock: FrozenClock) -> None:
    ring, other = await opened(store, clock), await opened(store, clock)
    stolen = ring.signer().key_id
    assert await ring.mark_revoked(stolen)
    assert ring.signer().key_id != stolen
    assert stolen not in ring.public_keys()
    assert all(key["kid"] != stolen for key in ring.jwks()["keys"])
    assert not await ring.mark_revoked(stolen)
    await other.reload()
    assert other.signer().key_id == ring.signer().key_id
    assert Phase.REVOKED in await phases_of(other, KeyPurpose.ACCESS)


async def test_revoking_the_active_key_brings_the_announced_one_forward(
    store: KeyStore, clock: FrozenClock
) -> None:
    ring = await opened(store, clock)
    coming = await ring.rotate(KeyPurpose.ACCESS)
    await ring.mark_revoked(ring.signer().key_id)
    assert ring.signer().key_id == coming
    await ring.mark_revoked(coming)
    assert ring.signer().key_id != coming
    assert len(ring.public_keys()) == 1


@pytest.mark.parametrize("purpose", [KeyPurpose.FEED, KeyPurpose.OPAQUE, KeyPurpose.CSRF])
async def test_a_key_of_any_purpose_can_be_revoked(
    store: KeyStore, clock: FrozenClock, purpose: KeyPurpose
) -> None:
    ring = await opened(store, clock)
    before = (ring.feed_signer().key_id, ring.current_opaque(), ring.csrf_keys())
    (stolen,) = (key.key_id for key, _ in ring.listing() if key.purpose is purpose)
    assert await ring.mark_revoked(stolen)
    after = (ring.feed_signer().key_id, ring.current_opaque(), ring.csrf_keys())
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 1
    if purpose is KeyPurpose.OPAQUE:
        assert ring.opaque_keys(before[1].key_id) is None


async def test_revoking_a_key_that_is_not_there_says_so(store: KeyStore, clock: FrozenClock) -> None:
    ring = await opened(store, clock)
    with pytest.raises(NotFound):
        await ring.mark_revoked(KeyId("nobody's"))


async def test_rotating_twice_is_the_same_as_once(store: KeyStore, clock: FrozenClock) -> None:
    ring = await opened(store, clock)
    coming = await ring.rotate(KeyPurpose.OPAQUE)
    assert await ring.rotate(KeyPurpose.OPAQUE) == coming
    assert await phases_of(ring, KeyPurpose.OPAQUE) == [Phase.ACTIVE, Phase.ANNOUNCED]
    clock.advance(POLICY.publish_ahead)
    assert ring.current_opaque().key_id.hex() == coming


async def test_rotating_at_once_makes_one_key(store: KeyStore, clock: FrozenClock) -> None:
    rings = [await opened(store, clock) for _ in range(2)]
    made = await asyncio.gather(*(ring.rotate(KeyPurpose.ACCESS) for ring in rings))
    assert made[0] == made[1]


async def test_a_new_algorithm_takes_over_without_a_gap(store: KeyStore, clock: FrozenClock) -> None:
    await opened(store, clock, algorithm="ES256")
    ring = await opened(store, clock, algorithm="EdDSA")
    assert ring.signer().algorithm is Algorithm.ES256
    assert len(ring.public_keys()) == 2
    assert len((await opened(store, clock, algorithm="EdDSA")).public_keys()) == 2
    clock.advance(POLICY.publish_ahead)
    assert ring.signer().algorithm is Algorithm.EDDSA
    assert {key.algorithm for key in ring.public_keys().values()} == {Algorithm.ES256, Algorithm.EDDSA}


async def test_another_master_key_is_refused_and_changes_nothing(store: KeyStore, clock: FrozenClock) -> None:
    ring = await opened(store, clock)
    before = await store.all()
    clock.advance(100 * DAY)
    with pytest.raises(ConfigurationError, match="KEYFOB_MASTER_KEY"):
        await opened(store, clock, master_key=os.urandom(32))
    assert await store.all() == before
    with pytest.raises(ConfigurationError, match="32 bytes"):
        await opened(store, clock, master_key=b"short")
    assert ring.signer()


class Tampered:
    """A store whose rows somebody changed."""

    def __init__(self, store: KeyStore, **changes: object) -> None:
        self._store = store
        self._changes = changes

    async def all(self) -> Sequence[StoredKey]:
        return [replace(key, **self._changes) for key in await self._store.all()]  # type: ignore[arg-type]

    async def add(self, key: StoredKey, *, after: KeyId | None, beside: bytes | None = None) -> bool:
        return await self._store.add(key, after=after, beside=beside)

    async def set_revoked(self, key_id: KeyId, at: datetime) -> bool:
        return await self._store.set_revoked(key_id, at)

    async def delete(self, key_id: KeyId) -> bool:
        return await self._store.delete(key_id)


@pytest.mark.parametrize(
    "changes",
    [
        {"purpose": KeyPurpose.ACCESS},
        {"algorithm": "RS256"},
        {"key_id": "same"},
        {"sealed": b""},
        {"sealed": b"\x02" + bytes(40)},
    ],
)
async def test_a_key_that_was_given_another_purpose_is_refused(
    store: KeyStore, clock: FrozenClock, changes: dict[str, object]
) -> None:
    await opened(store, clock)
    with pytest.raises(ConfigurationError):
        await opened(Tampered(store, **changes), clock)


class WithOneMore:
    """A store with one more row."""

    def __init__(self, store: KeyStore, row: StoredKey) -> None:
        self._store = store
        self._row = row

    async def all(self) -> Sequence[StoredKey]:
        return [*await self._store.all(), self._row]

    async def add(self, key: StoredKey, *, after: KeyId | None, beside: bytes | None = None) -> bool:
        return await self._store.add(key, after=after, beside=beside)

    async def set_revoked(self, key_id: KeyId, at: datetime) -> bool:
        return await self._store.set_revoked(key_id, at)

    async def delete(self, key_id: KeyId) -> bool:
        return await self._store.delete(key_id)


async def test_one_key_id_for_two_purposes_is_refused(store: KeyStore, clock: FrozenClock) -> None:
    await opened(store, clock)
    opaque = next(key for key in await store.all() if key.purpose is KeyPurpose.OPAQUE)
    sealed = Sealing(MASTER).seal(
        os.urandom(32), purpose=KeyPurpose.CSRF, algorithm=opaque.algorithm, key_id=opaque.key_id
    )
    row = replace(opaque, purpose=KeyPurpose.CSRF, sealed=sealed)
    with pytest.raises(ConfigurationError, match="two purposes"):
        await opened(WithOneMore(store, row), clock)


@pytest.mark.parametrize(
    ("purpose", "algorithm", "secret", "key_id"),
    [
        (KeyPurpose.ACCESS, "ML-DSA-44", b"x", "k"),
        (KeyPurpose.ACCESS, "ES256", b"no key", "k"),
        (KeyPurpose.OPAQUE, "HMAC-SHA-512", bytes(32), "00000000"),
        (KeyPurpose.OPAQUE, "HMAC-SHA-256", bytes(16), "00000000"),
        (KeyPurpose.OPAQUE, "HMAC-SHA-256", bytes(32), "0000"),
        (KeyPurpose.OPAQUE, "HMAC-SHA-256", bytes(32), "notahex!"),
        (KeyPurpose.CSRF, "HMAC-SHA-256", bytes(31), "00000000"),
    ],
)
def test_a_key_of_a_newer_version_is_refused_with_a_clear_error(
    clock: FrozenClock, purpose: KeyPurpose, algorithm: str, secret: bytes, key_id: str
) -> None:
    sealing = Sealing(MASTER)
    stored = StoredKey(
        purpose=purpose,
        key_id=KeyId(key_id),
        algorithm=algorithm,
        sealed=sealing.seal(secret, purpose=purpose, algorithm=algorithm, key_id=KeyId(key_id)),
        created_at=clock.now(),
        activates_at=clock.now(),
    )
    with pytest.raises(ConfigurationError, match="newer"):
        load(stored, sealing)


def test_a_made_key_shows_nothing(clock: FrozenClock) -> None:
    sealing = Sealing(MASTER)
    for purpose in KeyPurpose:
        due = Due(after=None, activates_at=clock.now())
        loaded = load(make(purpose, Algorithm.ES256, due, sealing=sealing, now=clock.now()), sealing)
        assert "material" not in repr(loaded)


async def test_a_retired_key_is_deleted_and_no_other(store: KeyStore, clock: FrozenClock) -> None:
    ring = await opened(store, clock)
    first = ring.signer().key_id
    assert await ring.delete_retired() == 0
    await ring.rotate(KeyPurpose.ACCESS)
    clock.advance(POLICY.publish_ahead + POLICY.token_lifetime + MARGIN - timedelta(seconds=1))
    assert await ring.delete_retired() == 0
    clock.advance(timedelta(seconds=1))
    assert await ring.delete_retired() == 1
    assert first not in {key.key_id for key in await store.all()}
    assert len(await store.all()) == len(KeyPurpose)


class Busy:
    """A store in which somebody else is always faster."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store

    async def all(self) -> Sequence[StoredKey]:
        return await self._store.all()

    async def add(self, key: StoredKey, *, after: KeyId | None, beside: bytes | None = None) -> bool:
        return False

    async def set_revoked(self, key_id: KeyId, at: datetime) -> bool:
        return await self._store.set_revoked(key_id, at)

    async def delete(self, key_id: KeyId) -> bool:
        return await self._store.delete(key_id)


async def test_a_store_that_never_takes_a_key_is_unavailable(store: KeyStore, clock: FrozenClock) -> None:
    with pytest.raises(StoreUnavailable):
        await opened(Busy(store), clock)
    await opened(store, clock)
    ring = await opened(Busy(store), clock)
    with pytest.raises(StoreUnavailable):
        await ring.rotate(KeyPurpose.ACCESS)


class Held:
    """A store whose first read can be held back: it answers with what it saw then."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self.hold = False
        self.reading = asyncio.Event()
        self.go_on = asyncio.Event()

    async def all(self) -> Sequence[StoredKey]:
        found = await self._store.all()
        if self.hold:
            self.hold = False
            self.reading.set()
            await asyncio.wait_for(self.go_on.wait(), 10)
        return found

    async def add(self, key: StoredKey, *, after: KeyId | None, beside: bytes | None = None) -> bool:
        return await self._store.add(key, after=after, beside=beside)

    async def set_revoked(self, key_id: KeyId, at: datetime) -> bool:
        return await self._store.set_revoked(key_id, at)

    async def delete(self, key_id: KeyId) -> bool:
        return await self._store.delete(key_id)


async def test_a_slow_reload_does_not_bring_a_revoked_key_back(store: KeyStore, clock: FrozenClock) -> None:
    held = Held(store)
    ring = await opened(held, clock)
    stolen = ring.signer().key_id
    held.hold = True
    slow = asyncio.create_task(ring.reload())
    await asyncio.wait_for(held.reading.wait(), 10)
    await ring.mark_revoked(stolen)
    held.go_on.set()
    await slow
    assert stolen not in ring.public_keys()
    assert ring.signer().key_id != stolen


async def test_a_reload_that_fails_leaves_in_force_what_was(store: KeyStore, clock: FrozenClock) -> None:
    ring = await opened(store, clock)
    before = ring.jwks()
    stranger = Sealing(os.urandom(32))
    newest = next(key for key in await store.all() if key.purpose is KeyPurpose.ACCESS)
    due = Due(after=newest.key_id, activates_at=clock.now() + DAY)
    foreign = make(KeyPurpose.ACCESS, Algorithm.ES256, due, sealing=stranger, now=clock.now())
    assert await store.add(foreign, after=newest.key_id)
    with pytest.raises(ConfigurationError, match="does not fit"):
        await ring.reload()
    assert ring.jwks() == before


async def test_the_published_mapping_stays_the_same_until_a_change_and_cannot_be_changed(
    store: KeyStore, clock: FrozenClock
) -> None:
    ring = await opened(store, clock)
    keys = ring.public_keys()
    assert ring.public_keys() is keys
    with pytest.raises(TypeError):
        keys[KeyId("x")] = ring.signer().public  # type: ignore[index]
