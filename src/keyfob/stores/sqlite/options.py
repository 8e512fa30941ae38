"""What may be chosen for a SQLite store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class Synchronous(StrEnum):
    """When a commit counts as durable.

    `FULL`: when the disk says so; it survives a loss of power. `NORMAL`: it survives a crash of the process, not a loss of power.
    """

    FULL = "full"
    NORMAL = "normal"


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteOptions:
    """`busy_timeout`: how long a write waits for other processes, in whole milliseconds; a read, on the caller's thread, a fifth of it."""

    synchronous: Synchronous = Synchronous.FULL
    busy_timeout: timedelta = timedelta(seconds=5)

    @property
    def busy_milliseconds(self) -> int:
        """Return `busy_timeout` in milliseconds."""
        return self.busy_timeout // timedelta(milliseconds=1)
