"""The master key of a SQLite store, where it lies in a file, goes along when the store is copied."""

from __future__ import annotations

import contextlib

from keyfob.authority.master_key import key_file_of, master_key_beside, write_key
from keyfob.base.errors import ConfigurationError
from keyfob.stores.opening import sqlite_path


def copy_master_key(source: str, target: str) -> None:
    """Put the master key of the SQLite store at *source* beside the one at *target*. Repeated, it changes nothing.

    Where either is another store, or the source has no such file, the key is given by `KEYFOB_MASTER_KEY` before and after.

    Raises:
        ConfigurationError: the source is no existing file, another key lies beside the target, or a key file is of no use.
    """
    here, there = sqlite_path(source), sqlite_path(target)
    if here is not None and not here.is_file():
        raise ConfigurationError(f"there is no database {here}: nothing to copy")
    if here is None or there is None or not key_file_of(here).exists():
        return
    if not there.parent.is_dir():
        raise ConfigurationError(f"there is no folder {there.parent}: make it, or give another path")
    key, file = master_key_beside(here), key_file_of(there)
    try:
        with contextlib.suppress(FileExistsError):
            write_key(file, key)
    except OSError as error:
        raise ConfigurationError(f"the master key file {file} cannot be made: {error}") from None
    if master_key_beside(there) != key:
        raise ConfigurationError(f"another master key lies in {file}: give a store that is new")
