"""The keys of an authority: made, published, used, replaced and revoked.

Reads are synchronous and take no lock: they look at an immutable snapshot of the store, which `reload` swaps as a whole. Which key is the
active one follows the clock between two reloads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Self

from keyfob.base.clock import Clock
from keyfob.base.errors import ConfigurationError, NotFound, StoreUnavailable
from keyfob.base.identifiers import KeyId
from keyfob.base.opaque import OpaqueKeys
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey, PublicKey, jwk_set
from keyfob.keys.key_material import CsrfKey, LoadedKey, load, make
from keyfob.keys.phases import LIVING, Due, Phase, ahead, announced, due, next_change, phases
from keyfob.keys.policy import KeyPolicy
from keyfob.keys.sealing import Sealing
from keyfob.keys.store import KeyPurpose, KeyStore, StoredKey

_ATTEMPTS = 16  # times that another authority may be faster in adding a key
_FOREVER = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """What the keys of one snapshot stand for until the next change of a phase."""

    until: float  # seconds since the epoch
    signer: PrivateKey
    public: Mapping[KeyId, PublicKey]
    feed_signer: PrivateKey
    feed_public: Mapping[KeyId, PublicKey]
    opaque: OpaqueKeys
    opaque_by_id: Mapping[bytes, OpaqueKeys]
    csrf: tuple[bytes, ...]


@dataclass(slots=True)
class _Snapshot:
    """What the store held, with its latest view. A view is kept with the keys that it was made from, so a late one spoils nothing."""

    keys: tuple[LoadedKey, ...]
    view: _View | None = field(default=None)


class KeyRing:
    """The keys of one authority, by purpose. Made by `open`."""

    def __init__(
        self,
        store: KeyStore,
        *,
        sealing: Sealing,
        clock: Clock,
        algorithm: Algorithm,
        policy: KeyPolicy,
    ) -> None:
        self._store = store
        self._sealing = sealing
        self._clock = clock
        self._algorithm = algorithm
        self.policy = policy
        self._snapshot = _Snapshot(())
        self._asked = 0
        self._answered = 0

    @classmethod
    async def open(
        cls,
        store: KeyStore,
        *,
        master_key: bytes,
        clock: Clock,
        algorithm: str = Algorithm.ES256,
        policy: KeyPolicy | None = None,
    ) -> Self:
        """Read the keys of *store*, and make those that are missing or due; of any number that open at once, one makes them.

        *algorithm* is that of access keys. Where the active one has another, a key of the new algorithm is announced, and takes over when
        every verifier has it.

        Raises:
            ConfigurationError: the master key does not fit the store, or *algorithm* is none that signs access tokens.
            StoreUnavailable: the store does not answer.
        """
        if algorithm not in set(Algorithm):
            names = ", ".join(Algorithm)
            raise ConfigurationError(f"tokens.algorithm must be one of {names}, not {algorithm!r}")
        ring = cls(
            store,
            sealing=Sealing(master_key),
            clock=clock,
            algorithm=Algorithm(algorithm),
            policy=policy or KeyPolicy(),
        )
        await ring.reload()
        if ring.signer().algorithm is not ring._algorithm:
            await ring.rotate(KeyPurpose.ACCESS)
        return ring

    def signer(self) -> PrivateKey:
        """Return the key that signs access tokens now."""
        return self._view().signer

    def public_keys(self) -> Mapping[KeyId, PublicKey]:
        """Return the published access keys: announced, active and retiring. The mapping is read-only and stays the same until a change."""
        return self._view().public

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the JWK Set of the access keys."""
        return jwk_set(self._view().public.values())

    def feed_signer(self) -> PrivateKey:
        """Return the key that signs the feed now."""
        return self._view().feed_signer

    def feed_public_keys(self) -> Mapping[KeyId, PublicKey]:
        """Return the published feed keys; they never check an access token."""
        return self._view().feed_public

    def feed_jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the JWK Set of the feed keys."""
        return jwk_set(self._view().feed_public.values())

    def current_opaque(self) -> OpaqueKeys:
        """Return the pair of keys for opaque tokens of new logins."""
        return self._view().opaque

    def opaque_keys(self, key_id: bytes) -> OpaqueKeys | None:
        """Return the pair of this id (4 bytes) as long as a session made with it can live, and None after that or if it was revoked."""
        return self._view().opaque_by_id.get(key_id)

    def csrf_keys(self) -> tuple[bytes, ...]:
        """Return the keys of CSRF tokens that are good; new ones are made with the first."""
        return self._view().csrf

    def listing(self) -> tuple[tuple[StoredKey, Phase], ...]:
        """Return every key of the last reload with its phase now, by purpose and age: for people."""
        now = self._clock.now()
        found: list[tuple[StoredKey, Phase]] = []
        for purpose in KeyPurpose:
            stored = _of_purpose(self._stored(), purpose)
            standing = phases(stored, self.policy, now)
            found += [(key, standing[key.key_id]) for key in stored]
        return tuple(found)

    async def reload(self) -> None:
        """Read the store anew, make what is due, and put it in force here; every `policy.reload_every`, and whenever keys have changed.

        Of several at once, the one that was asked last stays in force. When it fails, what was in force stays.

        Raises:
            ConfigurationError: the store holds a key that the master key does not fit.
            StoreUnavailable: the store does not answer, or other authorities add keys without end.
        """
        self._asked += 1
        asked = self._asked
        for _ in range(_ATTEMPTS):
            keys = self._opened(await self._store.all())
            missing = self._missing([key.stored for key in keys])
            if not missing:
                break
            for purpose, needed in missing:
                await self._add(purpose, needed, [key.stored for key in keys])
        else:
            raise StoreUnavailable("the keys change faster than they can be read")
        if asked > self._answered:
            self._answered = asked
            self._snapshot = _Snapshot(keys)

    async def rotate(self, purpose: KeyPurpose) -> KeyId:
        """Make the next key of *purpose* and return its id; it takes over once every verifier has it (`policy.publish_ahead`).

        Where one is announced already, nothing is made, so that twice is the same as once.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        await self.reload()
        for _ in range(_ATTEMPTS):
            now = self._clock.now()
            stored = _of_purpose(self._stored(), purpose)
            coming = announced(stored, self.policy, now)
            if coming is not None:
                return coming.key_id
            await self._add(purpose, ahead(stored, self.policy, now), stored)
            await self.reload()
        raise StoreUnavailable("the keys change faster than they can be read")

    async def mark_revoked(self, key_id: KeyId) -> bool:
        """Take a compromised key out of use and out of the published set, in this process at once; say whether it was not yet.

        Where it was the active one, the announced one takes over, or a new one that is active at once. What makes verifiers deny is the
        entry of scope `key`, which goes first.

        Raises:
            NotFound: no key has this id.
            StoreUnavailable: the store does not answer.
        """
        changed = await self._store.set_revoked(key_id, self._clock.now())
        await self.reload()
        if all(key.key_id != key_id for key in self._stored()):
            raise NotFound("unknown_key", "no key has this id; 'keyfob keys list' shows them")
        return changed

    async def delete_retired(self) -> int:
        """Delete the keys that nothing can need any more, and return how many.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        await self.reload()
        retired = [key.key_id for key, phase in self.listing() if phase is Phase.RETIRED]
        deleted = [await self._store.delete(key_id) for key_id in retired]
        if retired:
            await self.reload()
        return sum(deleted)

    async def _add(self, purpose: KeyPurpose, needed: Due, stored: Sequence[StoredKey]) -> None:
        """Add the next key, unless somebody else was faster: then theirs is the one, and the next read shows it.

        The key before it is opened once more: after a rewrap this process goes on with what it has in memory, but must add nothing that
        those who have the new master key could not open.
        """
        before = next((key for key in stored if key.key_id == needed.after), None)
        if before is not None:
            load(before, self._sealing)
        key = make(purpose, self._algorithm, needed, sealing=self._sealing, now=self._clock.now())
        await self._store.add(key, after=needed.after, beside=None if before is None else before.sealed)

    def _missing(self, stored: Sequence[StoredKey]) -> list[tuple[KeyPurpose, Due]]:
        now = self._clock.now()
        return [
            (purpose, needed)
            for purpose in KeyPurpose
            if (needed := due(_of_purpose(stored, purpose), self.policy, now)) is not None
        ]

    def _opened(self, stored: Sequence[StoredKey]) -> tuple[LoadedKey, ...]:
        if len({key.key_id for key in stored}) != len(stored):
            raise ConfigurationError("the store holds one key id for two purposes; a key has one purpose")
        known = {_identity(key.stored): key.material for key in self._snapshot.keys}
        return tuple(
            LoadedKey(key, material) if (material := known.get(_identity(key))) else load(key, self._sealing)
            for key in stored
        )

    def _stored(self) -> list[StoredKey]:
        return [key.stored for key in self._snapshot.keys]

    def _view(self) -> _View:
        snapshot = self._snapshot
        view = snapshot.view
        now = self._clock.time()
        if view is None or now >= view.until:
            view = snapshot.view = _view_of(snapshot.keys, self.policy, datetime.fromtimestamp(now, UTC))
        return view


def _identity(key: StoredKey) -> tuple[KeyPurpose, str, KeyId]:
    """Return what the secret of a key stays the same for, whenever it was revoked and however it is sealed."""
    return key.purpose, key.algorithm, key.key_id


def _of_purpose(stored: Sequence[StoredKey], purpose: KeyPurpose) -> list[StoredKey]:
    return [key for key in stored if key.purpose is purpose]


def _view_of(keys: Sequence[LoadedKey], policy: KeyPolicy, now: datetime) -> _View:
    access = _signing_keys(_living(keys, KeyPurpose.ACCESS, policy, now))
    feed = _signing_keys(_living(keys, KeyPurpose.FEED, policy, now))
    opaque = [
        key.material
        for key in _living(keys, KeyPurpose.OPAQUE, policy, now)
        if isinstance(key.material, OpaqueKeys)
    ]
    changes_at = next_change([key.stored for key in keys], policy, now)
    return _View(
        until=_FOREVER if changes_at is None else changes_at.timestamp(),
        signer=access[0],
        public=MappingProxyType({key.key_id: key.public for key in access}),
        feed_signer=feed[0],
        feed_public=MappingProxyType({key.key_id: key.public for key in feed}),
        opaque=opaque[0],
        opaque_by_id=MappingProxyType({pair.key_id: pair for pair in opaque}),
        csrf=tuple(
            key.material.key
            for key in _living(keys, KeyPurpose.CSRF, policy, now)
            if isinstance(key.material, CsrfKey)
        ),
    )


def _living(
    keys: Sequence[LoadedKey], purpose: KeyPurpose, policy: KeyPolicy, now: datetime
) -> list[LoadedKey]:
    """Return the published keys of *purpose*: the active one first, then the others from new to old."""
    own = [key for key in keys if key.stored.purpose is purpose]
    standing = phases([key.stored for key in own], policy, now)
    living = [key for key in own if standing[key.stored.key_id] in LIVING]
    living.sort(key=lambda key: key.stored.activates_at, reverse=True)
    living.sort(key=lambda key: standing[key.stored.key_id] is not Phase.ACTIVE)
    return living


def _signing_keys(keys: Sequence[LoadedKey]) -> list[PrivateKey]:
    return [key.material for key in keys if isinstance(key.material, PrivateKey)]
