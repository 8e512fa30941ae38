"""Activity in PostgreSQL: that sessions were used, a thousand rows in a step."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from keyfob.base.clock import to_micros
from keyfob.base.identifiers import SessionId
from keyfob.sessions.store import Seen
from keyfob.stores.postgres.coalescing import Left
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.database import Transaction
from keyfob.stores.postgres.reading import Known, lock_free_sessions, lock_sessions, read_ids, write_rows
from keyfob.stores.rows import Value
from keyfob.stores.standing import is_live

PORTION = 1_000  # rows that one request locks: they are held for some ten milliseconds
TOGETHER = 4  # requests of a step

Uses = Sequence[Seen]
"""What one caller saw, at most `PORTION`."""


async def touch(transaction: Transaction, uses: Uses) -> int:
    """Write *uses*, waiting for whoever holds a row; return how many rows moved."""
    locked = await lock_sessions(transaction.connection, _ids([uses]))
    return (await _touch_locked(transaction.connection, [uses], locked))[0]


async def touch_together(transaction: Transaction, requests: Sequence[Uses]) -> Sequence[int | Left]:
    """Write each of *requests*, but for those with a row that somebody else holds; return how many rows each moved."""
    connection = transaction.connection
    free = await lock_free_sessions(connection, _ids(requests))
    known = await read_ids(connection, _ids(requests))
    held = {session_id for session_id in _ids(requests) - free if known.has(session_id)}
    mine = [uses for uses in requests if not held & _ids([uses])]
    moved = iter(await _touch_locked(connection, mine, free))
    return [Left.ALONE if held & _ids([uses]) else next(moved) for uses in requests]


async def _touch_locked(
    connection: Connection, requests: Sequence[Uses], locked: Collection[SessionId]
) -> list[int]:
    # Read after they were locked: a statement that waited for a row saw the others as they were before.
    known = await read_ids(connection, locked)
    changes: dict[SessionId, dict[str, Value]] = {}
    counts = [len(_move(known, uses, changes)) for uses in requests]
    await write_rows(connection, changes)
    return counts


def _move(known: Known, uses: Uses, changes: dict[SessionId, dict[str, Value]]) -> set[SessionId]:
    """Move what *uses* move, in *known* and *changes*; return the sessions that moved."""
    moved = set()
    for use in sorted(uses, key=lambda use: use.at):
        session = known.session(use.session_id, use.at)
        if session is not None and is_live(session, use.at) and session.last_seen_at < use.at:
            known.change(replace(session, last_seen_at=use.at))
            changes[use.session_id] = {"last_seen_at": to_micros(use.at)}
            moved.add(use.session_id)
    return moved


def _ids(requests: Collection[Uses]) -> set[SessionId]:
    return {use.session_id for uses in requests for use in uses}
