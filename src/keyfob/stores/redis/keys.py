"""Keys in Redis, sealed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from keyfob.base.identifiers import KeyId
from keyfob.keys.store import Resealed, StoredKey
from keyfob.stores.records import KeyRow, Kind, encode
from keyfob.stores.redis.places import SIGNING_KEYS
from keyfob.stores.redis.server import Server
from keyfob.stores.redis.settling import Step, settle
from keyfob.stores.redis.tables import read_record


class RedisKeyStore:
    """A `KeyStore` in Redis."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def add(self, key: StoredKey, *, after: KeyId | None, beside: bytes | None = None) -> bool:
        """Add *key* if the newest of its purpose is *after*, sealed as *beside*. An id in use is never added again."""

        async def decide(step: Step) -> bool:
            held = await self._read()
            step.expect_size(SIGNING_KEYS, len(held))
            keys = [read_record(raw, KeyRow).stored for raw in held.values()]
            same = [one for one in keys if one.purpose is key.purpose]
            newest = max(same, key=lambda one: (one.activates_at, one.created_at), default=None)
            if key.key_id.encode() in held or (newest.key_id if newest is not None else None) != after:
                return False
            if newest is not None:
                step.expect(SIGNING_KEYS, newest.key_id, held[newest.key_id.encode()])
            if beside is not None and (newest is None or newest.sealed != beside):
                return False
            step.put(SIGNING_KEYS, key.key_id, encode(KeyRow(stored=key)))
            return True

        return await settle(self._server, (SIGNING_KEYS,), decide) is not None

    async def all(self) -> Sequence[StoredKey]:
        """Return every key, oldest (by `created_at`) first."""
        keys = [read_record(raw, KeyRow).stored for raw in (await self._read()).values()]
        return sorted(keys, key=lambda key: key.created_at)

    async def set_revoked(self, key_id: KeyId, at: datetime) -> bool:
        """Mark a key compromised; False if it is unknown, or was marked before."""

        async def decide(step: Step) -> bool:
            raw = await self._server.read(b"HGET", SIGNING_KEYS, key_id)
            key = None if raw is None else read_record(raw, KeyRow).stored
            if key is None or key.revoked_at is not None:
                return False
            step.expect(SIGNING_KEYS, key_id, raw)
            step.put(SIGNING_KEYS, key_id, encode(KeyRow(stored=replace(key, revoked_at=at))))
            return True

        return await settle(self._server, (SIGNING_KEYS,), decide) is not None

    async def reseal(self, keys: Sequence[Resealed]) -> bool:
        """Put new sealed secrets in place if *keys* are all that there are, each sealed as it says."""

        async def decide(step: Step) -> bool:
            held = await self._read()
            present = [read_record(raw, KeyRow).stored for raw in held.values()]
            if {key.key_id: key.sealed for key in present} != {key.key_id: key.replaces for key in keys}:
                return False
            sealed = {key.key_id: key.sealed for key in keys}
            step.expect_size(SIGNING_KEYS, len(held))
            for key in present:
                step.expect(SIGNING_KEYS, key.key_id, held[key.key_id.encode()])
                changed = replace(key, sealed=sealed[key.key_id])
                step.put(SIGNING_KEYS, key.key_id, encode(KeyRow(stored=changed)))
            return True

        return await settle(self._server, (SIGNING_KEYS,), decide) is not None

    async def delete(self, key_id: KeyId) -> bool:
        """Delete a key; say whether it was there."""
        return bool(await self._server.change(SIGNING_KEYS, "HDEL", (key_id,), record=(Kind.KEYS, key_id)))

    async def _read(self) -> dict[bytes, bytes]:
        flat = await self._server.read(b"HGETALL", SIGNING_KEYS)
        return dict(zip(flat[::2], flat[1::2], strict=True))
