"""Getting a PostgreSQL store for oneself for a moment, behind every transaction that is under way."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum, auto

from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.locks import LockClass
from keyfob.stores.postgres.marks import meta_of

WAITS = (*(timedelta(milliseconds=100),) * 5, *(timedelta(seconds=1.5),) * 6)
"""How long each try may make others queue behind it.

The later ones are longer than `deadlock_timeout` (1 s), when PostgreSQL makes an autovacuum give way, and shorter than what others wait.
"""

# In the order in which the verbs of the store come to them, so that whoever is at one of them does not need one that is locked already.
_TABLES = (
    "accounts",
    "subjects",
    "clients",
    "consents",
    "keys",
    "attempts",
    "familiar",
    "assertions",
    "one_times",
    "cursors",
    "deliveries",
    "verifiers",
    "sessions",
    "session_data",
    "{meta}",
    "entries",
    "cut_offs",
    "canaries",
    "events",
)


class Hold(Enum):
    """Who is held off: whoever writes or locks rows; or whoever reads a session or the feed, too; or whoever reads anything."""

    WRITERS = auto()
    FOLLOWERS = auto()
    EVERYBODY = auto()


async def hold_off(connection: Connection, hold: Hold, wait: timedelta) -> None:
    """Wait up to *wait* for each lock; then nobody of *hold* is in the store until the transaction ends.

    Raises:
        Exception: one of `faults.FAULTS`.
    """
    await connection.execute(
        "SELECT set_config('lock_timeout', $1, true)", f"{wait // timedelta(milliseconds=1)}ms"
    )
    # Partitions, too, are neither made nor dropped meanwhile.
    await connection.execute("SELECT pg_advisory_xact_lock($1, 0)", LockClass.PARTITIONS.value)
    meta = await meta_of(connection)
    tables = ", ".join(f"keyfob.{table}" for table in _TABLES).replace("keyfob.{meta}", meta)
    mode = "ACCESS EXCLUSIVE" if hold is Hold.EVERYBODY else "EXCLUSIVE"
    await connection.execute(f"LOCK TABLE {tables} IN {mode} MODE")
    if hold is Hold.FOLLOWERS:
        await connection.execute(f"LOCK TABLE {meta} IN ACCESS EXCLUSIVE MODE")
