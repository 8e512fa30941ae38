"""Keys in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from keyfob.base.identifiers import KeyId
from keyfob.keys.store import Resealed, StoredKey
from keyfob.stores.memory.state import State


class MemoryKeyStore:
    """A `KeyStore` in memory."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def add(self, key: StoredKey, *, after: KeyId | None, beside: bytes | None = None) -> bool:
        """Add *key* if the newest of its purpose is *after*, sealed as *beside*. An id in use is never added again."""
        with self._state.step():
            keys = self._state.keys
            newest = None
            for present in keys:
                if present.key_id == key.key_id:
                    return False
                is_newer = newest is None or present.activates_at >= newest.activates_at
                newest = present if present.purpose is key.purpose and is_newer else newest
            if (newest.key_id if newest is not None else None) != after:
                return False
            if beside is not None and (newest is None or newest.sealed != beside):
                return False
            keys.append(key)
            return True

    async def all(self) -> Sequence[StoredKey]:
        """Return every key, oldest (by `created_at`) first."""
        with self._state.step():
            return sorted(self._state.keys, key=lambda key: key.created_at)

    async def set_revoked(self, key_id: KeyId, at: datetime) -> bool:
        """Mark a key compromised; False if it is unknown, or was marked before."""
        with self._state.step():
            for place, key in enumerate(self._state.keys):
                if key.key_id == key_id and key.revoked_at is None:
                    self._state.keys[place] = replace(key, revoked_at=at)
                    return True
            return False

    async def reseal(self, keys: Sequence[Resealed]) -> bool:
        """Put new sealed secrets in place if *keys* are all that there are, each sealed as it says."""
        with self._state.step():
            held = {key.key_id: key.sealed for key in self._state.keys}
            if held != {key.key_id: key.replaces for key in keys}:
                return False
            sealed = {key.key_id: key.sealed for key in keys}
            self._state.keys[:] = [replace(key, sealed=sealed[key.key_id]) for key in self._state.keys]
            return True

    async def delete(self, key_id: KeyId) -> bool:
        """Delete a key; say whether it was there."""
        with self._state.step():
            for key in self._state.keys:
                if key.key_id == key_id:
                    self._state.keys.remove(key)
                    return True
            return False
