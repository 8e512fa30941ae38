"""The public keys that a verifier trusts.

Over TLS, `GET /feed/keys` is the anchor, at every connect. After that the feed brings them: each `keys` event and each snapshot is signed
by a feed key that is already trusted. What was trusted last stays so while the authority is away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType

from keyfob.base.identifiers import KeyId
from keyfob.jwt.jwk import PublicKey, parse_jwk_set
from keyfob.revocation.wire import KeySets, WireError

REFETCH_INTERVAL = 30.0  # seconds: unknown key ids cause at most one fetch in this time, however many come

_Keys = Mapping[KeyId, PublicKey]
_NONE: _Keys = MappingProxyType({})


class JwksSource:
    """Holds the key sets of the moment. One thread adopts, any may read; each set is replaced as a whole."""

    def __init__(self) -> None:
        self.access: _Keys = _NONE
        """Keys of access tokens."""
        self.feed: _Keys = _NONE
        """Keys of the feed."""
        self.key_sets: KeySets | None = None
        """Both as they came, once there are any."""
        self.is_wanting = False
        """Whether a token named a key that is not here: somebody should fetch, at most every `REFETCH_INTERVAL`."""
        self._removed: Callable[[], None] = lambda: None
        self._at: datetime | None = None

    @classmethod
    def of(cls, jwks: Mapping[str, object] | bytes) -> JwksSource:
        """Return a source of the given access keys, which never change.

        Raises:
            ValueError: not a JWK set, private or symmetric members in it, or no key that can be used.
        """
        source = cls()
        source.access = _by_id(parse_jwk_set(jwks))
        if not source.access:
            raise ValueError("the JWK set has no key that can be used")
        return source

    def anchor(self, key_sets: KeySets) -> None:
        """Trust *key_sets*, as they were read over TLS, and nothing else.

        Raises:
            WireError: no key sets, or empty ones.
        """
        self._adopt(key_sets)

    def adopt(self, key_sets: KeySets, at: datetime) -> None:
        """Take *key_sets* that a trusted feed key signed at the moment *at*; older ones than the last are passed over.

        Raises:
            WireError: no key sets, or empty ones.
        """
        if self._at is not None and at < self._at:
            return
        self._adopt(key_sets)
        self._at = at

    def when_removed(self, removed: Callable[[], None]) -> None:
        """Call *removed* after an access key was taken away: what was checked with it is to be checked again."""
        self._removed = removed

    def want(self) -> None:
        """Note that a token named an unknown key."""
        self.is_wanting = True

    def _adopt(self, key_sets: KeySets) -> None:
        try:
            access, feed = _by_id(parse_jwk_set(key_sets.access)), _by_id(parse_jwk_set(key_sets.feed))
        except ValueError as error:
            raise WireError(f"key sets that cannot be trusted: {error}") from None
        if not access or not feed:
            raise WireError("key sets without a key")
        before = self.access
        self.feed, self.key_sets = feed, key_sets
        if access == before:
            return
        self.access = access
        if any(access.get(key_id) != key for key_id, key in before.items()):
            self._removed()


def _by_id(keys: tuple[PublicKey, ...]) -> _Keys:
    return MappingProxyType({key.key_id: key for key in keys})
