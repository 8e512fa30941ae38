"""The mark of a SQLite store that is moved, and what it means for whoever uses it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from keyfob.stores.moving import Mark, Role


def read_mark(connection: sqlite3.Connection) -> Mark | None:
    """Return the mark of the store."""
    row = connection.execute("SELECT role, copy_id, place, progress FROM move").fetchone()
    return None if row is None else Mark(role=Role(row[0]), copy_id=row[1], place=row[2], progress=row[3])


def refusal(mark: Mark | None, path: Path) -> str | None:
    """Return why a store with *mark* cannot be used; None if it can."""
    if mark is None or mark.role in {Role.SOURCE, Role.FENCED}:
        return None
    if mark.role is Role.MOVED:
        return f"the database {path} has moved to {mark.place}; give --store (KEYFOB_STORE) that URL"
    return f"the database {path} is being filled from {mark.place}; finish with: keyfob store copy --switch"
