"""A store goes over to another master key.

Where the master key lies in `<database>.key`, a crash at any moment leaves one that fits:

1. One rewrap at a time, by a lock that ends with its process.
2. What an earlier one left: `<database>.key.new` takes the file's place if the keys are sealed under it, and goes if they are not.
3. The new key is written to `<database>.key.new`, durably.
4. All keys are sealed anew in one transaction, durably, whatever the store's URL says of durability. Whoever opens the store from here on
   takes the file that fits.
5. `<database>.key.new` is renamed to `<database>.key`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from keyfob.authority.master_key import (
    key_file_of,
    master_key_beside,
    next_key_file_of,
    next_master_key_beside,
    sync_folder,
    write_key,
)
from keyfob.authority.master_key import (
    new_master_key as make_master_key,
)
from keyfob.base.clock import Clock
from keyfob.base.errors import ConfigurationError
from keyfob.base.events import Event
from keyfob.keys.rewrap import fits, rewrap
from keyfob.keys.sealing import Sealing
from keyfob.stores.opening import open_store, sqlite_path
from keyfob.stores.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrapped:
    """How many keys are under the new master key since this call (0: all were before it), and the file that holds it, if one does."""

    keys: int
    key_file: Path | None


async def rewrap_store(
    url: str, *, master_key: bytes | None, new_master_key: bytes | None, clock: Clock, actor: str
) -> Rewrapped:
    """Seal all keys of the store at *url* under *new_master_key*.

    *master_key* None means the file beside a SQLite database, whose place the new one takes; only there one is made where none is given.

    Raises:
        ConfigurationError: the keys open under neither master key, a purpose has none yet, another rewrap is under way, there is no such database, or nothing
            says which master key is the new one.
        StoreUnavailable: the store does not answer.
    """
    database = sqlite_path(url)
    if url.startswith("memory:"):
        raise ConfigurationError(
            "a store in memory ends with its process and has no keys to rewrap; give --store"
        )
    if database is not None and not database.exists():
        raise ConfigurationError(f"there is no database {database}; give another with --store")
    durably = url.partition("?")[0] if database is not None else url
    if master_key is not None or database is None:
        return await _rewrap_given(durably, master_key, new_master_key, clock=clock, actor=actor)
    with _alone(database):
        async with _opened(durably, clock) as store:
            swap = _Swap(store, database, clock=clock, actor=actor)
            return Rewrapped(keys=await swap.go_over(new_master_key), key_file=key_file_of(database))


async def _rewrap_given(
    url: str, master_key: bytes | None, new_master_key: bytes | None, *, clock: Clock, actor: str
) -> Rewrapped:
    if master_key is None or new_master_key is None:
        missing = "KEYFOB_MASTER_KEY" if master_key is None else "KEYFOB_NEW_MASTER_KEY"
        raise ConfigurationError(
            f"{missing} is not set; rewrapping needs the master key of now and the new one, each 32 bytes in base64url"
        )
    async with _opened(url, clock) as store:
        keys = await rewrap(store.keys, master_key=master_key, new_master_key=new_master_key)
        if keys:
            await store.audit.add(_event(keys, clock, actor))
        return Rewrapped(keys=keys, key_file=None)


class _Swap:
    """The steps 2 to 5 of the module, for one database."""

    def __init__(self, store: Store, database: Path, *, clock: Clock, actor: str) -> None:
        self._store = store
        self._database = database
        self._clock = clock
        self._actor = actor

    async def go_over(self, given: bytes | None) -> int:
        """Go over to the key that was *given*, or to a new one, or only finish what an earlier call began; return the count of keys."""
        finished = await self._tidy()
        current = master_key_beside(self._database)
        if given == current or (given is None and finished):
            return finished
        new = given or make_master_key()
        write_key(next_key_file_of(self._database), new)
        keys = await rewrap(self._store.keys, master_key=current, new_master_key=new)
        await self._put_in_place(keys)
        return keys

    async def _tidy(self) -> int:
        coming = next_master_key_beside(self._database)
        if coming is None:
            return 0
        keys = await self._store.keys.all()
        if fits(keys, Sealing(coming)):
            await self._put_in_place(len(keys))
            return len(keys)
        # Deleted only where the other file is certain to be the one that is needed.
        if keys and not fits(keys, Sealing(master_key_beside(self._database))):
            raise ConfigurationError(
                f"neither {key_file_of(self._database)} nor {next_key_file_of(self._database)} fits the keys of the store; "
                "put back the file that they are sealed under"
            )
        next_key_file_of(self._database).unlink()
        return 0

    async def _put_in_place(self, keys: int) -> None:
        next_key_file_of(self._database).replace(key_file_of(self._database))
        sync_folder(self._database.parent)
        await self._store.audit.add(_event(keys, self._clock, self._actor))


def _event(keys: int, clock: Clock, actor: str) -> Event:
    return Event(at=clock.now(), code="keys_rewrapped", actor=actor, facts={"keys": keys})


@asynccontextmanager
async def _opened(url: str, clock: Clock) -> AsyncIterator[Store]:
    store = await open_store(url, clock=clock)
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Hold the lock on the folder of *database*; it needs no file of its own, and the system lets go of it when the process ends."""
    import fcntl  # here, so that the rest runs on systems that have no such lock

    folder = os.open(database.parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(
                f"another rewrap is under way in {database.parent}; see how it ends, then try again"
            ) from None
        yield
    finally:
        os.close(folder)
