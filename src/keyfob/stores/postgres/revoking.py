"""The one place of the PostgreSQL store in which an entry is appended, and what it ends.

Each step that appends goes in the order of `locks.py`: lock the rows that it may change, by id; lock the head; read everything anew, for a
statement that waited saw its old snapshot; decide; write. While the head is locked nobody else appends, so positions are in commit order,
and no cut-off can come between reading a session and raising its `as_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from keyfob.base.clock import from_micros, to_micros
from keyfob.base.identifiers import Position, SessionId
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.store import RETENTION_MARGIN
from keyfob.sessions.session import Session
from keyfob.sessions.store import AlreadyEnded, Ended, EndOutcome
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.database import Transaction
from keyfob.stores.postgres.events import write_events
from keyfob.stores.postgres.listening import CHANNEL
from keyfob.stores.postgres.reading import child_ids, lock_sessions, read_ids, subject_ids, write_columns
from keyfob.stores.revoking import leaves_cut_off, next_entry
from keyfob.stores.rows import ENTRY_COLUMNS, entry_to
from keyfob.stores.standing import is_live, over_since

# $9 is the number of the last entry: it becomes the head.
_APPEND = f"""
    WITH appended AS (
        INSERT INTO keyfob.entries ({ENTRY_COLUMNS})
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bytea[])
    )
    UPDATE keyfob.meta SET position = ($1::bigint[])[$9], at = ($2::bigint[])[$9], chain = ($8::bytea[])[$9]
    RETURNING pg_notify('{CHANNEL}', '')
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class LockedHead:
    """The row `meta`, which nobody else changes until the transaction ends."""

    position: Position
    chain: bytes
    at: datetime
    longest_credential: timedelta
    longest_session: timedelta


async def lock_head(connection: Connection) -> LockedHead:
    """Lock the head of the feed until the transaction ends, and return it."""
    row = await connection.fetchrow(
        "SELECT position, chain, at, longest_credential, longest_session FROM keyfob.meta FOR UPDATE"
    )
    assert row is not None
    return LockedHead(
        position=Position(row[0]),
        chain=row[1],
        at=from_micros(row[2]),
        longest_credential=timedelta(microseconds=row[3]),
        longest_session=timedelta(microseconds=row[4]),
    )


async def end(transaction: Transaction, revocation: Revocation, now: datetime) -> EndOutcome:
    """Carry out *revocation*, as `SessionStore.end` says."""
    connection = transaction.connection
    spared = await _with_children(connection, revocation.spared)
    ids = spared | await _listed(connection, revocation)
    await lock_sessions(connection, ids)
    head = await lock_head(connection)
    known = await read_ids(connection, ids)
    if revocation.scope is Scope.SESSION:
        session = known.session(SessionId(revocation.id), now)
        over = None if session is None else over_since(session, now)
        if over is not None:
            return AlreadyEnded(over.position)
    entry = await append(transaction, revocation, now, head)
    if revocation.reach is Reach.CLAIMS:
        return Ended(entry, 0)
    if leaves_cut_off(revocation):
        await _cut_off(connection, entry, head.longest_session)
    live = [session for session in known.sessions(ids, now) if is_live(session, now)]
    ending = [session.session_id for session in live if not is_spared(session, revocation.spared)]
    kept = [session.session_id for session in live if is_spared(session, revocation.spared)]
    await write_columns(connection, kept, as_of=entry.position)
    await write_columns(connection, ending, ended_at=to_micros(entry.at), ended_position=entry.position)
    return Ended(entry, len(ending))


async def append(transaction: Transaction, revocation: Revocation, now: datetime, head: LockedHead) -> Entry:
    """Append the entry of *revocation* behind *head*, and write its event."""
    entry = await append_entry(transaction, revocation, now, head=head, longest=head.longest_credential)
    await write_events(transaction.connection, [revocation.event])
    return entry


async def append_entry(
    transaction: Transaction, revocation: Revocation, now: datetime, *, head: LockedHead, longest: timedelta
) -> Entry:
    """Append the entry alone; *longest* is the longest lifetime of what it can cover."""
    entry = next_entry(
        revocation, position=head.position, chain=head.chain, last_at=head.at, now=now, longest=longest
    )
    await append_entries(transaction, [entry])
    return entry


async def append_entries(transaction: Transaction, entries: Sequence[Entry]) -> None:
    """Append *entries*, which continue the locked head; none is nothing to do."""
    if not entries:
        return
    # The notification is sent at the commit, and once, however many are asked for in one transaction.
    columns = zip(*map(entry_to, entries), strict=True)
    await transaction.connection.execute(_APPEND, *(list(column) for column in columns), len(entries))
    transaction.has_moved = True


def is_spared(session: Session, spared: SessionId | None) -> bool:
    """Say whether *session* is *spared* or a child of it."""
    return spared is not None and spared in {session.session_id, session.parent_session_id}


async def _listed(connection: Connection, revocation: Revocation) -> set[SessionId]:
    """Return the rows in scope that are worth listing; those of a client or of everything are left to the cut-off."""
    if revocation.scope is Scope.SESSION:
        return await _with_children(connection, SessionId(revocation.id))
    if revocation.scope is Scope.SUBJECT and revocation.reach is Reach.END:
        return await subject_ids(connection, revocation.id)
    return set()


async def _with_children(connection: Connection, session_id: SessionId | None) -> set[SessionId]:
    if session_id is None:
        return set()
    return {session_id} | await child_ids(connection, session_id)


async def _cut_off(connection: Connection, entry: Entry, longest_session: timedelta) -> None:
    await connection.execute(
        "INSERT INTO keyfob.cut_offs (scope, id, position, at, until) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (scope, id) DO UPDATE SET position = excluded.position, at = excluded.at, until = excluded.until",
        entry.scope.value,
        entry.id,
        entry.position,
        to_micros(entry.at),
        to_micros(entry.at + longest_session + RETENTION_MARGIN),
    )
