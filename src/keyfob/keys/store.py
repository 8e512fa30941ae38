"""What the key ring needs of a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from keyfob.base.identifiers import KeyId


class KeyPurpose(StrEnum):
    """What one key is for, and nothing else."""

    ACCESS = "access"  # signs access tokens
    FEED = "feed"  # signs the feed
    OPAQUE = "opaque"  # tags opaque tokens and derives their successors, by two keys derived from it
    CSRF = "csrf"  # binds CSRF tokens to sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A key as a store keeps it: the secret part only sealed under the master key.

    `activates_at` is when it is first used; `revoked_at` when somebody declared it compromised.
    """

    purpose: KeyPurpose
    key_id: KeyId
    algorithm: str
    sealed: bytes
    created_at: datetime
    activates_at: datetime
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resealed:
    """The secret of a stored key, sealed anew: *sealed* takes the place of *replaces*."""

    key_id: KeyId
    sealed: bytes
    replaces: bytes


class KeyStore(Protocol):
    """Keeps keys. Each method is one atomic step. Raises `StoreUnavailable`."""

    async def add(self, key: StoredKey, *, after: KeyId | None, beside: bytes | None = None) -> bool:
        """Add *key* if the newest key of its purpose (by `activates_at`) is *after* (None: there is none); say whether it was added.

        So of several authorities that make a key at once, one wins, and the others read its key. With *beside*, that newest key must also
        be sealed as *beside* is: so none is added under a master key that has been replaced meanwhile.
        """
        ...

    async def all(self) -> Sequence[StoredKey]:
        """Return every key, oldest first."""
        ...

    async def set_revoked(self, key_id: KeyId, at: datetime) -> bool:
        """Mark a key compromised; say whether it was not before."""
        ...

    async def reseal(self, keys: Sequence[Resealed]) -> bool:
        """Put the new sealed secrets of *keys* in place, all of them or none; say whether it was done.

        It is done only if *keys* are all the keys that there are, each sealed as its `replaces` says. So of several callers at once one
        wins, and no key that was added meanwhile stays behind.
        """
        ...

    async def delete(self, key_id: KeyId) -> bool:
        """Delete a key that nothing can need any more; say whether it was there."""
        ...
