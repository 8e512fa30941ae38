"""The mark of a SQLite store that is moved."""

from __future__ import annotations

import sqlite3

from keyfob.stores.moving import Mark, Role


def read_mark(connection: sqlite3.Connection) -> Mark | None:
    """Return the mark of the store."""
    row = connection.execute("SELECT role, copy_id, place, progress FROM move").fetchone()
    return None if row is None else Mark(role=Role(row[0]), copy_id=row[1], place=row[2], progress=row[3])
