"""Every stored key sealed anew under another master key."""

from __future__ import annotations

from collections.abc import Sequence

from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.keys.sealing import Sealing
from keyfob.keys.store import KeyPurpose, KeyStore, Resealed, StoredKey

_ATTEMPTS = 16  # times that somebody else may change the keys meanwhile


async def rewrap(store: KeyStore, *, master_key: bytes, new_master_key: bytes) -> int:
    """Seal every key under *new_master_key* instead of *master_key*, all in one step; return how many there were.

    Where all are under the new one already, nothing is changed and 0 returned, so that twice is the same as once. Of several at once
    one wins; the others find its work done, or, with another new master key, are refused.

    Raises:
        ConfigurationError: a key opens under neither, or a purpose has no key yet; nothing was changed.
        StoreUnavailable: the store does not answer, or the keys change without end.
    """
    old, new = Sealing(master_key), Sealing(new_master_key)
    for _ in range(_ATTEMPTS):
        keys = await store.all()
        _require_every_purpose(keys)
        if fits(keys, new):
            return 0
        if await store.reseal([_resealed(key, old, new) for key in keys]):
            return len(keys)
    raise StoreUnavailable("the keys change faster than they can be sealed")


def fits(keys: Sequence[StoredKey], sealing: Sealing) -> bool:
    """Say whether there are *keys*, and every one of them opens under *sealing*."""
    try:
        for key in keys:
            _open(key, sealing)
    except ConfigurationError:
        return False
    return bool(keys)


def _require_every_purpose(keys: Sequence[StoredKey]) -> None:
    # The first key of a purpose is added beside none, so one that a server is just making could be sealed under the old master key.
    if {key.purpose for key in keys} != set(KeyPurpose):
        raise ConfigurationError(
            "the store has not all of its keys yet; 'keyfob keys list' makes them, then run this again"
        )


def _resealed(key: StoredKey, old: Sealing, new: Sealing) -> Resealed:
    sealed = new.seal(_open(key, old), purpose=key.purpose, algorithm=key.algorithm, key_id=key.key_id)
    return Resealed(key_id=key.key_id, sealed=sealed, replaces=key.sealed)


def _open(key: StoredKey, sealing: Sealing) -> bytes:
    return sealing.open(key.sealed, purpose=key.purpose, algorithm=key.algorithm, key_id=key.key_id)
