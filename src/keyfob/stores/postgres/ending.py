"""How many revocations become one transaction: those of single sessions and tokens, which are most of them.

The head is locked once for all of them, from after the rows to the commit, so it is free again as soon as for one; and whoever listens is
woken once. Each has its own entry, and they are in the order in which they came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from keyfob.base.clock import to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import SessionId
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.store import AlreadyEnded, Ended, EndOutcome
from keyfob.stores.postgres.coalescing import Left
from keyfob.stores.postgres.database import Transaction
from keyfob.stores.postgres.events import write_events
from keyfob.stores.postgres.reading import Known, children_of, lock_free_sessions, read_ids, write_rows
from keyfob.stores.postgres.revoking import LockedHead, append_entries, lock_head
from keyfob.stores.revoking import next_entry
from keyfob.stores.standing import is_live, over_since

_TOGETHER = {Scope.SESSION, Scope.TOKEN}


@dataclass(frozen=True, slots=True)
class Ending:
    """A revocation, as `SessionStore.end` takes it."""

    revocation: Revocation
    now: datetime


def can_be_together(revocation: Revocation) -> bool:
    """Say whether *revocation* leaves no cut-off and spares nobody."""
    return revocation.scope in _TOGETHER and revocation.reach is Reach.END and revocation.spared is None


def place_of(ending: Ending) -> tuple[Scope, str]:
    """Return what *ending* is about: two about the same come in turn."""
    return ending.revocation.scope, ending.revocation.id


async def end_together(transaction: Transaction, endings: Sequence[Ending]) -> Sequence[EndOutcome | Left]:
    """Carry out *endings*, no two of one place, but for those for which somebody would have to be waited for."""
    connection = transaction.connection
    named = {SessionId(one.revocation.id) for one in endings if one.revocation.scope is Scope.SESSION}
    children = await children_of(connection, named)
    families = {id_: {id_} | children.get(id_, set()) for id_ in named}
    ids = set[SessionId]().union(*families.values())
    free = await lock_free_sessions(connection, ids)
    # A session without a row is among those that are not free: it is looked at alone, and gets its entry there.
    busy = {id_ for id_ in named if not families[id_] <= free}
    together = [one for one in endings if one.revocation.id not in busy]
    if not together:
        return [Left.ALONE] * len(endings)
    head = await lock_head(connection)
    batch = _Batch(await read_ids(connection, free), families, head)
    outcomes = iter([batch.end(one) for one in together])
    await append_entries(transaction, batch.entries)
    await write_events(connection, batch.events)
    await write_rows(
        connection,
        {
            id_: {"ended_at": to_micros(entry.at), "ended_position": entry.position}
            for id_, entry in batch.ended.items()
        },
    )
    return [Left.ALONE if one.revocation.id in busy else next(outcomes) for one in endings]


@dataclass(slots=True)
class _Batch:
    """What has been decided so far: it counts for whoever comes later in the batch."""

    known: Known
    families: Mapping[SessionId, set[SessionId]]
    head: LockedHead
    entries: list[Entry] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    ended: dict[SessionId, Entry] = field(default_factory=dict)

    def end(self, one: Ending) -> EndOutcome:
        """Decide on *one*."""
        if one.revocation.scope is not Scope.SESSION:
            return Ended(self._append(one), 0)
        session_id = SessionId(one.revocation.id)
        if session_id in self.ended:
            return AlreadyEnded(self.ended[session_id].position)
        session = self.known.session(session_id, one.now)
        over = None if session is None else over_since(session, one.now)
        if over is not None:
            return AlreadyEnded(over.position)
        ending = [
            row.session_id
            for row in self.known.sessions(self.families[session_id], one.now)
            if is_live(row, one.now) and row.session_id not in self.ended
        ]
        entry = self._append(one)
        self.ended |= dict.fromkeys(ending, entry)
        return Ended(entry, len(ending))

    def _append(self, one: Ending) -> Entry:
        head = self.head
        entry = next_entry(
            one.revocation,
            position=head.head.position,
            chain=head.head.chain,
            last_at=head.at,
            now=one.now,
            longest=head.longest_credential,
        )
        self.head = replace(
            head, head=replace(head.head, position=entry.position, chain=entry.chain), at=entry.at
        )
        self.entries.append(entry)
        self.events.append(one.revocation.event)
        return entry
