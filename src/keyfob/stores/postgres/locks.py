"""Which advisory locks there are, and the order in which everything is locked.

1. advisory locks, by number;  2. rows of accounts and the like;  3. rows of sessions, by id;  4. the row `meta`.

Whoever obeys it cannot wait for somebody who waits for him. A statement that waited for a row lock sees its old snapshot of everything
else: so what is decided on is always read by a later statement than the one that locked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import IntEnum

from keyfob.stores.postgres.connecting import Connection


class LockClass(IntEnum):
    """The first of the two numbers of each of our advisory locks: "KF" and what it is for."""

    MIGRATION = 0x4B46_0001
    PARTITIONS = 0x4B46_0002
    KEYS = 0x4B46_0003
    SUBJECT = 0x4B46_0004
    ATTEMPT = 0x4B46_0005
    REPORTS = 0x4B46_0006
    CLEANING = 0x4B46_0007
    COPYING = 0x4B46_0008


async def lock_names(connection: Connection, kind: LockClass, names: Iterable[str]) -> None:
    """Take a lock for each of *names* until the transaction ends. Two names may share one."""
    numbers = sorted({_number(name) for name in names})
    await connection.execute(
        "SELECT pg_advisory_xact_lock($1, n) FROM unnest($2::int[]) AS n", kind.value, numbers
    )


async def lock_free_names(connection: Connection, kind: LockClass, names: Iterable[str]) -> set[str]:
    """Take the locks of *names* that nobody else holds until the transaction ends; return those names."""
    numbers = {name: _number(name) for name in names}
    rows = await connection.fetch(
        "SELECT n FROM unnest($2::int[]) AS n WHERE pg_try_advisory_xact_lock($1, n)",
        kind.value,
        list(set(numbers.values())),
    )
    taken = {row[0] for row in rows}
    return {name for name, number in numbers.items() if number in taken}


def _number(name: str) -> int:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big", signed=True)
