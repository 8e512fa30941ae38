"""The store of the textbook servers: sessions, refresh tokens and blocked token ids, in SQLite; keys are digests or ids, never tokens."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

import msgspec

Kind = Literal["session", "refresh", "issued", "blocked"]

_TABLE = """
CREATE TABLE IF NOT EXISTS records (
    kind TEXT NOT NULL, key TEXT NOT NULL, subject TEXT NOT NULL, family TEXT NOT NULL,
    expires_at REAL NOT NULL, -- seconds since the epoch
    taken INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS records_by_subject ON records (kind, subject);
"""


class RecordsUnavailable(Exception):
    """The store does not answer."""


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A record that was taken. Of any number of takers exactly one is told that it is the `first`."""

    subject: str
    family: str
    first: bool


class Records(Protocol):
    """What the textbook servers ask of their store. Each call is one atomic step; what has expired is not there."""

    @property
    def counts(self) -> Mapping[str, int]:
        """How many `store_queries` and `network_calls` were made through this object."""
        ...

    async def add(self, kind: Kind, key: str, *, subject: str, family: str, expires_at: float) -> None:
        """Add a record."""
        ...

    async def find(self, kind: Kind, key: str, *, now: float) -> str | None:
        """Return the subject of a record; None if it is not there."""
        ...

    async def take(self, kind: Kind, key: str, *, now: float) -> Taken | None:
        """Mark a record as used, and say whether it was before; None if it is not there."""
        ...

    async def end(self, kind: Kind, key: str) -> None:
        """Delete a record."""
        ...

    async def end_family(self, kind: Kind, family: str) -> None:
        """Delete all records of a family."""
        ...

    async def end_subject(self, kind: Kind, subject: str) -> None:
        """Delete all records of a subject."""
        ...

    async def block_subject(self, subject: str) -> None:
        """Put every token id that was issued to a subject on the blocklist."""
        ...


class SqliteRecords:
    """Records in a SQLite file, read and written on the calling thread: the fastest store there is on one machine."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, timeout=10)
        self._database.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_TABLE}")
        self.counts = {"store_queries": 0, "network_calls": 0}

    async def add(self, kind: Kind, key: str, *, subject: str, family: str, expires_at: float) -> None:
        """See `Records`."""
        self._run(
            "INSERT INTO records (kind, key, subject, family, expires_at) VALUES (?, ?, ?, ?, ?)",
            kind, key, subject, family, expires_at,
        )  # fmt: skip

    async def find(self, kind: Kind, key: str, *, now: float) -> str | None:
        """See `Records`."""
        rows = self._run(
            "SELECT subject FROM records WHERE kind = ? AND key = ? AND expires_at > ?", kind, key, now
        )
        return str(rows[0][0]) if rows else None

    async def take(self, kind: Kind, key: str, *, now: float) -> Taken | None:
        """See `Records`."""
        rows = self._run(
            "UPDATE records SET taken = taken + 1 WHERE kind = ? AND key = ? AND expires_at > ? "
            "RETURNING subject, family, taken",
            kind, key, now,
        )  # fmt: skip
        if not rows:
            return None
        subject, family, taken = rows[0]
        return Taken(subject=str(subject), family=str(family), first=taken == 1)

    async def end(self, kind: Kind, key: str) -> None:
        """See `Records`."""
        self._run("DELETE FROM records WHERE kind = ? AND key = ?", kind, key)

    async def end_family(self, kind: Kind, family: str) -> None:
        """See `Records`."""
        self._run("DELETE FROM records WHERE kind = ? AND family = ?", kind, family)

    async def end_subject(self, kind: Kind, subject: str) -> None:
        """See `Records`."""
        self._run("DELETE FROM records WHERE kind = ? AND subject = ?", kind, subject)

    async def block_subject(self, subject: str) -> None:
        """See `Records`."""
        self._run(
            "INSERT OR IGNORE INTO records (kind, key, subject, family, expires_at) "
            "SELECT 'blocked', key, subject, family, expires_at FROM records WHERE kind = 'issued' AND subject = ?",
            subject,
        )

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _run(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        self.counts["store_queries"] += 1
        try:
            return self._database.execute(statement, values).fetchall()
        except (sqlite3.OperationalError, sqlite3.ProgrammingError) as error:
            raise RecordsUnavailable(str(error)) from None
