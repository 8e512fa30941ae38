"""The one place of the PostgreSQL store in which an entry is appended, and what it ends.

Each step that appends goes in the order of `locks.py`: lock the rows that it may change, by id; lock the head; read everything anew, for a
statement that waited saw its old snapshot; decide; write. While the head is locked nobody else appends, so positions are in commit order,
and no cut-off can come between reading a session and raising its `as_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from keyfob.base.clock import from_micros, to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import Position, SessionId, Timeline
from keyfob.revocation.entry import CHAIN_START, Entry, Head, Reach, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.store import LEAP, RETENTION_MARGIN
from keyfob.sessions.session import Session
from keyfob.sessions.store import AlreadyEnded, Ended, EndOutcome
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.database import Transaction
from keyfob.stores.postgres.events import write_events
from keyfob.stores.postgres.listening import CHANNEL
from keyfob.stores.postgres.reading import child_ids, lock_sessions, read_ids, subject_ids, write_columns
from keyfob.stores.revoking import leaves_cut_off, new_timeline, next_entry
from keyfob.stores.rows import ENTRY_COLUMNS, entry_to
from keyfob.stores.standing import is_live, over_since


@dataclass(frozen=True, slots=True)
class LockedHead:
    """The row `meta`, which nobody else changes until the transaction ends."""

    head: Head
    at: datetime
    longest_credential: timedelta
    longest_session: timedelta


async def lock_head(connection: Connection) -> LockedHead:
    """Lock the head of the feed until the transaction ends, and return it."""
    row = await connection.fetchrow(
        "SELECT timeline, position, chain, at, longest_credential, longest_session FROM keyfob.meta FOR UPDATE"
    )
    assert row is not None
    return LockedHead(
        head=Head(timeline=Timeline(row[0]), position=Position(row[1]), chain=row[2]),
        at=from_micros(row[3]),
        longest_credential=timedelta(microseconds=row[4]),
        longest_session=timedelta(microseconds=row[5]),
    )


async def lock_scope(connection: Connection, revocation: Revocation | Entry) -> set[SessionId]:
    """Lock the rows that *revocation* may change; return their ids. For several at once: before any of them is carried out."""
    if revocation.reach is Reach.CLAIMS and revocation.scope is not Scope.SESSION:
        return set()
    ids = await _with_children(connection, revocation.spared) | await _listed(connection, revocation)
    await lock_sessions(connection, ids)
    return ids


async def end(transaction: Transaction, revocation: Revocation, now: datetime) -> EndOutcome:
    """Carry out *revocation*, as `SessionStore.end` says."""
    connection = transaction.connection
    ids = await lock_scope(connection, revocation)
    head = await lock_head(connection)
    known = await read_ids(connection, ids)
    if revocation.scope is Scope.SESSION:
        session = known.session(SessionId(revocation.id), now)
        over = None if session is None else over_since(session, now)
        if over is not None:
            return AlreadyEnded(over.position)
    entry = await append(transaction, revocation, now, head)
    live = [session for session in known.sessions(ids, now) if is_live(session, now)]
    return Ended(entry, await _take_effect(connection, entry, live, head.longest_session))


async def reappend(
    transaction: Transaction, entries: Sequence[Entry], instead_of: Head, event: Event, now: datetime
) -> Head | None:
    """Append *entries*, which continue *instead_of*, as they were, and end what is in their scope; None if the head is another."""
    connection = transaction.connection
    scopes = [await lock_scope(connection, entry) for entry in entries]
    head = await lock_head(connection)
    if head.head != instead_of:
        return None
    for entry, ids in zip(entries, scopes, strict=True):
        # Read before the entry is there, since that would show the rows as changed.
        live = [
            session
            for session in (await read_ids(connection, ids)).sessions(ids, now)
            if is_live(session, now)
        ]
        await _insert(transaction, entry)
        await _take_effect(connection, entry, live, head.longest_session)
    await write_events(connection, [event])
    return replace(instead_of, position=entries[-1].position, chain=entries[-1].chain)


async def begin_timeline(
    transaction: Transaction,
    revocations: Sequence[Revocation],
    instead_of: Head,
    past: Position,
    now: datetime,
) -> Head | None:
    """Begin a new timeline and carry out *revocations* in it; None if the head is not *instead_of*."""
    connection = transaction.connection
    for revocation in revocations:
        await lock_scope(connection, revocation)
    if (await lock_head(connection)).head != instead_of:
        return None
    await connection.execute(
        "UPDATE keyfob.meta SET timeline = $1, position = greatest(position, $2) + $3, chain = $4",
        new_timeline(),
        past,
        LEAP,
        CHAIN_START,
    )
    for revocation in revocations:
        await end(transaction, revocation, now)
    return (await lock_head(connection)).head


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
        revocation,
        position=head.head.position,
        chain=head.head.chain,
        last_at=head.at,
        now=now,
        longest=longest,
    )
    await _insert(transaction, entry)
    return entry


async def _insert(transaction: Transaction, entry: Entry) -> None:
    """Put *entry* behind the locked head. A moment never goes back."""
    # The notification is sent at the commit, and once, however many are asked for in one transaction.
    await transaction.connection.execute(
        f"WITH appended AS (INSERT INTO keyfob.entries ({ENTRY_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8))"  # noqa: S608 - constants
        f" UPDATE keyfob.meta SET position = $1, at = greatest(at, $2), chain = $8 RETURNING pg_notify('{CHANNEL}', '')",
        *entry_to(entry),
    )
    transaction.has_moved = True


async def _take_effect(
    connection: Connection, entry: Entry, live: Sequence[Session], longest_session: timedelta
) -> int:
    """Write what *entry* does to the *live* sessions of its scope, and its cut-off; return how many it ended."""
    if entry.reach is Reach.CLAIMS:
        return 0
    if leaves_cut_off(entry):
        await _cut_off(connection, entry, longest_session)
    ending = [session.session_id for session in live if not _is_spared(session, entry.spared)]
    kept = [session.session_id for session in live if _is_spared(session, entry.spared)]
    await write_columns(connection, kept, as_of=entry.position)
    await write_columns(connection, ending, ended_at=to_micros(entry.at), ended_position=entry.position)
    return len(ending)


def _is_spared(session: Session, spared: SessionId | None) -> bool:
    """Say whether *session* is *spared* or a child of it."""
    return spared is not None and spared in {session.session_id, session.parent_session_id}


async def _listed(connection: Connection, revocation: Revocation | Entry) -> set[SessionId]:
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
