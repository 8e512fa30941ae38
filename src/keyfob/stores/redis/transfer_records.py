"""From what lies in Redis to records."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from keyfob.base.clock import from_micros
from keyfob.base.identifiers import Position, Timeline
from keyfob.grants.rules import kept_until
from keyfob.revocation.entry import Scope
from keyfob.stores.records import (
    AccountRow,
    AnyRecord,
    AssertionRow,
    AttemptsRow,
    CanaryRow,
    ClientRow,
    ConsentRow,
    CursorRow,
    CutOffRow,
    DeliveryRow,
    EntryRow,
    EventRow,
    FamiliarRow,
    FeedRow,
    KeyRow,
    Kind,
    OneTimeRow,
    SessionRow,
    SubjectRow,
    VerifierRow,
    cut_off_place,
)
from keyfob.stores.redis import places
from keyfob.stores.redis.packing import read_cut_off, read_event, read_session, read_stream_entry
from keyfob.stores.redis.pieces import rows_in
from keyfob.stores.redis.reports import read_canary
from keyfob.stores.redis.sessions import read_kept
from keyfob.stores.redis.tables import read_record

_SAME = (
    (Kind.KEYS, places.SIGNING_KEYS, KeyRow),
    (Kind.CLIENTS, places.CLIENTS, ClientRow),
    (Kind.SUBJECTS, places.SUBJECTS, SubjectRow),
    (Kind.ACCOUNTS, places.ACCOUNTS, AccountRow),
    (Kind.VERIFIERS, places.VERIFIERS, VerifierRow),
    (Kind.CONSENTS, places.CONSENTS, ConsentRow),
    (Kind.CURSORS, places.CURSORS, CursorRow),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """Everything of one moment, as the server gave it: tables by their keys, sessions by theirs."""

    hashes: dict[bytes, dict[bytes, bytes]]
    streams: dict[bytes, list[Any]]
    sorted: dict[bytes, dict[bytes, bytes]]
    sessions: dict[bytes, dict[bytes, bytes]]

    @classmethod
    def of(cls, replies: Sequence[Any], keys: Sequence[bytes]) -> Dump:
        """Return the answers to the commands of `transfer`, in their order."""
        rest = iter(replies)
        hashes = {key: _pairs(next(rest)) for key in places.HASHES}
        streams = {key: next(rest) for key in places.STREAMS}
        sorted_ = {key: _pairs(next(rest)) for key in places.SORTED}
        rows = {key: _pairs(next(rest)) for key in keys}
        data = {places.data_beside(key): _pairs(next(rest)) for key in keys}
        return cls(hashes=hashes, streams=streams, sorted=sorted_, sessions={**rows, **data})


def read_records(dump: Dump, now: datetime | None) -> dict[Kind, list[AnyRecord]]:
    """Return all records, sorted by key; without what is over at *now*."""
    records: dict[Kind, list[AnyRecord]] = {
        kind: [read_record(raw, type_) for raw in dump.hashes[key].values()]  # type: ignore[misc]  # `_SAME` pairs kinds with records
        for kind, key, type_ in _SAME
    }
    records[Kind.FEED] = [read_feed_row(dump.hashes[places.META])]
    records[Kind.ENTRIES] = [
        EntryRow(entry=entry)
        for entry in map(read_stream_entry, dump.streams[places.ENTRIES])
        if entry.until is None or now is None or entry.until > now
    ]
    records[Kind.EVENTS] = [read_event_row(item) for item in dump.streams[places.EVENTS]]
    records[Kind.CUT_OFFS] = [
        row
        for row in map(read_cut_off_row, *_columns(dump.hashes[places.CUT_OFFS]))
        if now is None or row.until > now
    ]
    records[Kind.SESSIONS] = [row for row in _sessions(dump) if now is None or row.session.expires_at > now]
    records[Kind.ATTEMPTS] = _attempts(dump)
    records[Kind.FAMILIAR] = [
        FamiliarRow(place=place.decode(), since=_moment(since))
        for place, since in dump.sorted[places.FAMILIAR].items()
    ]
    records[Kind.ASSERTIONS] = [
        AssertionRow(digest=digest, until=_moment(until))
        for digest, until in dump.sorted[places.ASSERTIONS].items()
    ]
    records[Kind.ONE_TIMES] = [
        row
        for row in (read_record(raw, OneTimeRow) for raw in dump.hashes[places.ONE_TIMES].values())
        if now is None or kept_until(row.record) > now
    ]
    records[Kind.DELIVERIES] = [
        row for row in _deliveries(dump) if now is None or row.delivery.expires_at > now
    ]
    records[Kind.CANARIES] = [
        CanaryRow(number=canary.number, position=canary.position, at=canary.at)
        for canary in map(read_canary, *_columns(dump.hashes[places.CANARIES]))
    ]
    return {kind: sorted(of_kind, key=lambda record: record.key) for kind, of_kind in records.items()}


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _columns(table: dict[bytes, bytes]) -> tuple[list[bytes], list[bytes]]:
    return list(table), list(table.values())


def read_feed_row(meta: dict[bytes, bytes]) -> FeedRow:
    """Return the row of the feed from the fields of its state."""
    return FeedRow(
        salt=meta[b"salt"],
        timeline=Timeline(meta[b"timeline"].decode()),
        position=Position(int(meta[b"position"])),
        chain=meta[b"chain"],
        at=from_micros(int(meta[b"at"])),
        longest_credential=timedelta(microseconds=int(meta[b"credential"])),
        longest_session=timedelta(microseconds=int(meta[b"session"])),
    )


def read_event_row(item: Any) -> EventRow:
    """Return the line of the trail that lies in its stream."""
    number, fields = item
    return EventRow(number=int(number.partition(b"-")[0]), event=read_event(fields[1], fields[7]))


def read_cut_off_row(place: bytes, packed: bytes) -> CutOffRow:
    """Return the cut-off that lies under *place*."""
    scope, id_ = cut_off_place(place.decode())
    over, until = read_cut_off(packed)
    return CutOffRow(scope=Scope(scope), id=id_, position=over.position, at=over.at, until=until)


def _sessions(dump: Dump) -> list[SessionRow]:
    rows = []
    for key, pieces in dump.sessions.items():
        if key == places.data_beside(key):
            continue
        data = dump.sessions[places.data_beside(key)]
        for field, row in rows_in(pieces).items():
            kept = read_kept(data.get(field, b""))
            rows.append(SessionRow(session=read_session(field, row), data=kept.data, version=kept.version))
    return rows


def _attempts(dump: Dump) -> list[AnyRecord]:
    at = dump.sorted[places.ATTEMPTS_AT]
    return [
        AttemptsRow(place=place.decode(), count=int(count), last_at=_moment(at[place]))
        for place, count in dump.hashes[places.ATTEMPTS].items()
    ]


def _deliveries(dump: Dump) -> list[DeliveryRow]:
    due = dump.sorted[places.DUE]
    return [read_delivery_row(kept, due[id_]) for id_, kept in dump.hashes[places.DELIVERIES].items()]


def read_delivery_row(kept: bytes, due: bytes) -> DeliveryRow:
    """Return the delivery as it stands: how often it was leased lies before it, when it is due beside it."""
    leases, _, packed = kept.partition(b":")
    delivery = read_record(packed, DeliveryRow).delivery
    return DeliveryRow(delivery=dataclasses.replace(delivery, due_at=_moment(due), attempts=int(leases)))


def _moment(score: bytes) -> datetime:
    return from_micros(int(float(score)))
