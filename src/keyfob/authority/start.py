"""Starting an authority: the store by its URL, the master key, the parts, and what runs by itself."""

from __future__ import annotations

from pathlib import Path

from keyfob.authority.head_file import head_file_in, head_file_of, make_state_folder
from keyfob.authority.master_key import (
    MASTER_KEY,
    master_key_beside,
    new_master_key,
    next_master_key_beside,
    read_master_key,
)
from keyfob.authority.options import Options
from keyfob.authority.parts import Parts, build
from keyfob.base.errors import ConfigurationError
from keyfob.base.events import Event
from keyfob.keys.rewrap import fits
from keyfob.keys.sealing import Sealing
from keyfob.stores.opening import open_joined_store, open_store, sqlite_path
from keyfob.stores.store import Store


async def start(store: str | Store, *, master_key: bytes | str | None, options: Options) -> Parts:
    """Open *store*, find its master key, build the parts and start what runs by itself.

    Whatever was opened is closed again where something fails.
    """
    key, coming = _master_keys(store, master_key)
    opened = await _opened(store, options) if isinstance(store, str) else store
    try:
        if coming is not None and fits(await opened.keys.all(), Sealing(coming)):
            key = coming
        head_file = _head_file(store, opened, options)
        parts = await build(opened, master_key=key, options=options, head_file=head_file)
    except BaseException:
        if isinstance(store, str):
            await opened.close()
        raise
    if head_file is None and isinstance(store, str) and store != "memory://":
        why = "there is no state_folder: an older copy of the store would not be noticed after a restart"
        parts.trail.tell(Event(at=options.clock.now(), code="head_not_kept", facts={"why": why}))
    parts.housekeeping.start()
    return parts


async def _opened(url: str, options: Options) -> Store:
    if options.accounts_store is None:
        return await open_store(url, clock=options.clock)
    return await open_joined_store(url, options.accounts_store, clock=options.clock)


def _head_file(store: str | Store, opened: Store, options: Options) -> Path | None:
    """Return where the head is kept: beside a SQLite database, else in the state folder."""
    database = sqlite_path(store) if isinstance(store, str) else None
    if database is not None:
        return head_file_of(database)
    if options.state_folder is None:
        return None
    make_state_folder(options.state_folder)
    return head_file_in(options.state_folder, salt=opened.salt, issuer=options.issuer)


def _master_keys(store: str | Store, given: bytes | str | None) -> tuple[bytes, bytes | None]:
    """Return the master key, and the new one that a rewrap under way, or one that was interrupted, has put beside the database."""
    database = sqlite_path(store) if given is None and isinstance(store, str) else None
    key = _master_key(store, given)
    return key, None if database is None else next_master_key_beside(database)


def _master_key(store: str | Store, given: bytes | str | None) -> bytes:
    if isinstance(given, str):
        return read_master_key(given, name="master_key")
    if given is not None:
        if len(given) != MASTER_KEY:
            raise ConfigurationError(f"master_key must be {MASTER_KEY} bytes, not {len(given)}")
        return given
    if isinstance(store, str):
        database = sqlite_path(store)
        if database is not None:
            return master_key_beside(database)
        if store == "memory://":
            return new_master_key()
    raise ConfigurationError("this store needs a master key; set KEYFOB_MASTER_KEY to 32 bytes in base64url")
