"""What an error of SQLite means for whoever runs the server."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from keyfob.base.errors import StoreUnavailable

_ADVICE = {
    sqlite3.SQLITE_BUSY: "is locked by another process for too long; end a backup or a shell that holds it",
    sqlite3.SQLITE_LOCKED: "is locked by another connection for too long; end a backup or a shell that holds it",
    sqlite3.SQLITE_FULL: "cannot grow: the disk or its quota is full; make room",
    sqlite3.SQLITE_READONLY: "is read-only here; give this user write access to the file and to its folder",
    sqlite3.SQLITE_PERM: "may not be opened; give this user access to the file and to its folder",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check that it and its folder are there and writable",
    sqlite3.SQLITE_CORRUPT: "is damaged; stop every process that uses it and restore a backup",
    sqlite3.SQLITE_NOTADB: "is damaged: no SQLite file any more; stop every process that uses it and restore a backup",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk fails; check it",
    sqlite3.SQLITE_NOMEM: "cannot be used: memory has run out",
}
_OTHER = "does not answer"
_PRIMARY = 0xFF  # the low byte of an extended result code is the primary one
_UNSAFE = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_CANTOPEN,
}


def primary_code(error: sqlite3.Error) -> int:
    """Return the primary result code of *error*; 0 if it comes from the driver itself."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & _PRIMARY


def is_busy(error: sqlite3.Error) -> bool:
    """Say whether *error* may be gone if one tries again."""
    return primary_code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def spoils_connection(error: sqlite3.Error) -> bool:
    """Say whether a connection should be given up after *error*."""
    return primary_code(error) in _UNSAFE


def is_fenced(error: sqlite3.Error) -> bool:
    """Say whether *error* is that of the triggers that hold writers off while the store is moved (moving.py)."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_CONSTRAINT_TRIGGER


def unavailable(error: sqlite3.Error, path: Path) -> StoreUnavailable:
    """Return what to raise for *error*: what is wrong with which file, and what to do. SQL and values stay out of it."""
    name: str = getattr(error, "sqlite_errorname", type(error).__name__)
    if is_fenced(error):
        return StoreUnavailable(f"the database {path} is being moved to another store; try again in a moment")
    return StoreUnavailable(f"the database {path} {_ADVICE.get(primary_code(error), _OTHER)} ({name})")
