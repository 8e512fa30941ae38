"""What a restore puts in place. Pure, and the same for every store.

A back-up knows nothing of what was ended after it, nor which refresh tokens were superseded, nor which codes were used. So neither sessions nor
anything that is taken once ever come from it:

- Where the store that is restored into still knows its feed, its feed, keys, sessions and audit trail stay as they are, and only clients,
  subjects, accounts and consents come back. One `everything`/`claims` entry lets everybody read today's roles. Nobody is logged out.
- Else everything but the sessions, what is taken once and what was to be delivered comes back, in a new timeline, whose positions leap past
  any that is known, with `everything`/`end` and an entry for each key that may have signed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from keyfob.base.events import Event
from keyfob.base.identifiers import Position
from keyfob.keys.store import KeyPurpose
from keyfob.revocation.entry import CHAIN_START, Entry, Head, Reach, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.store import LEAP, RETENTION_MARGIN
from keyfob.stores.records import AnyRecord, CutOffRow, EntryRow, FeedRow, KeyRow, Kind
from keyfob.stores.revoking import new_timeline, next_entry

RECORDS: Final = frozenset({Kind.CLIENTS, Kind.SUBJECTS, Kind.ACCOUNTS, Kind.CONSENTS})
"""What comes back into a store that still knows its feed."""
ANEW: Final = frozenset(Kind) - {Kind.EVENTS, Kind.ASSERTIONS}
"""What is removed from a store that no longer does; of these, sessions and what belongs to the old timeline do not come back.

Assertions stay, and those of the back-up come to them: what was taken since the back-up must not be taken again.
"""

_LEFT_BEHIND = frozenset(
    {Kind.FEED, Kind.ENTRIES, Kind.CUT_OFFS, Kind.SESSIONS, Kind.VERIFIERS, Kind.CANARIES}
    | {Kind.ONE_TIMES, Kind.DELIVERIES, Kind.CURSORS}
)


@dataclass(slots=True)
class Survey:
    """What is known of a feed and of the keys that may have signed: of a back-up, and of the store that it is restored into."""

    feed: FeedRow | None
    key_ids: set[str]

    @classmethod
    def of(cls, pages: Iterable[Sequence[AnyRecord]]) -> Survey:
        """Look through *pages*."""
        survey = cls(None, set())
        for page in pages:
            for record in page:
                survey.see(record)
        return survey

    def see(self, record: AnyRecord) -> None:
        """Take note of *record*."""
        match record:
            case FeedRow():
                self.feed = record
            case KeyRow(stored=stored) if stored.purpose is KeyPurpose.ACCESS:
                self.key_ids.add(stored.key_id)
            case EntryRow(entry=entry) if entry.scope is Scope.KEY:
                self.key_ids.add(entry.id)


def head_of(feed: FeedRow) -> Head:
    """Return the head that *feed* states."""
    return Head(timeline=feed.timeline, position=feed.position, chain=feed.chain)


def records_again(
    pages: Iterable[Sequence[AnyRecord]], *, present: FeedRow, event: Event
) -> Iterator[Sequence[AnyRecord]]:
    """Give what comes back into a store whose feed stands at *present*, and the entry that lets everybody read it."""
    for page in pages:
        yield [record for record in page if record.kind in RECORDS]
    order = Revocation(scope=Scope.EVERYTHING, id="", reach=Reach.CLAIMS, event=event)
    feed, entries = _appended(present, [order], now=event.at)
    yield [feed, *entries]


def all_anew(
    pages: Iterable[Sequence[AnyRecord]],
    *,
    feed: FeedRow,
    past: Position,
    key_ids: Collection[str],
    event: Event,
    left: Collection[Kind],
) -> Iterator[Sequence[AnyRecord]]:
    """Give what comes back in a new timeline, 2^32 past *past*, in which all that was issued before is over.

    *feed* is the row of the back-up, with the longest lifetimes that are known. Records of the kinds *left* stay as they are in the store.
    """
    for page in pages:
        kept = (record for record in page if record.kind not in _LEFT_BEHIND and record.kind not in left)
        yield [_out_of_use(record, event.at) for record in kept]
    begun = replace(
        feed, timeline=new_timeline(), position=Position(max(past, feed.position) + LEAP), chain=CHAIN_START
    )
    orders = [Revocation(scope=Scope.EVERYTHING, id="", event=event)]
    orders += [Revocation(scope=Scope.KEY, id=key_id, event=event) for key_id in sorted(key_ids)]
    after, entries = _appended(begun, orders, now=event.at)
    yield [after, *entries, _cut_off(entries[0].entry, after)]


def _out_of_use(record: AnyRecord, now: datetime) -> AnyRecord:
    """Return *record*; a key that may have signed access tokens is revoked in the step that brings its entry, so that no login meets it."""
    if not isinstance(record, KeyRow) or record.stored.purpose is not KeyPurpose.ACCESS:
        return record
    if record.stored.revoked_at is not None:
        return record
    return KeyRow(stored=dataclasses.replace(record.stored, revoked_at=now))


def _appended(
    feed: FeedRow, orders: Iterable[Revocation], *, now: datetime
) -> tuple[FeedRow, list[EntryRow]]:
    entries: list[EntryRow] = []
    for order in orders:
        entry = next_entry(
            order,
            position=feed.position,
            chain=feed.chain,
            last_at=feed.at,
            now=now,
            longest=feed.longest_credential,
        )
        feed = replace(feed, position=entry.position, chain=entry.chain, at=entry.at)
        entries.append(EntryRow(entry=entry))
    return feed, entries


def _cut_off(entry: Entry, feed: FeedRow) -> CutOffRow:
    return CutOffRow(
        scope=entry.scope,
        id=entry.id,
        position=entry.position,
        at=entry.at,
        until=entry.at + feed.longest_session + RETENTION_MARGIN,
    )
