"""Entries of scope `key`: whoever reads one takes the key out of use.

The entry comes first, since it alone makes every verifier deny; marking the key in the store is a second step. Every authority that
reads the entry takes it, at once and again when it starts, so that a crash between the two leaves no key in use for long.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from keyfob.base.errors import KeyfobError
from keyfob.base.identifiers import KeyId
from keyfob.keys.key_ring import KeyRing
from keyfob.revocation.entry import Entry, Scope

_log = logging.getLogger("keyfob.keys")


class KeyRevocations:
    """Marks keys revoked in the background, as their entries are read."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, entries: Sequence[Entry]) -> None:
        """Take the keys of *entries* of scope `key` out of use. Returns at once; an entry may come twice."""
        for entry in entries:
            if entry.scope is Scope.KEY:
                task = asyncio.get_running_loop().create_task(self._mark(KeyId(entry.id)))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Return when the keys of all entries that were taken so far are out of use: a key that is revoked signs nothing more."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def _mark(self, key_id: KeyId) -> None:
        try:
            await self._keys.mark_revoked(key_id)
        except KeyfobError as error:  # gone long ago, or the store is away: the entry denies all the same
            _log.info("key %s: %s", key_id, error)
