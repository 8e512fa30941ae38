"""From records to commands that put them in place, or remove them. What of the store they depend on is `Known`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

from keyfob.base.clock import to_micros
from keyfob.base.identifiers import SessionId
from keyfob.grants.rules import kept_until
from keyfob.revocation.canary import Canary
from keyfob.revocation.entry import Entry
from keyfob.stores.grant_keys import one_time_key
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
    encode,
)
from keyfob.stores.redis import places
from keyfob.stores.redis.packing import event_fields, pack_cut_off, session_row
from keyfob.stores.redis.pieces import cut, names_of
from keyfob.stores.redis.reports import pack_canary
from keyfob.stores.redis.tables import read_record
from keyfob.stores.redis.transfer_records import Dump
from keyfob.stores.rows import span_micros
from keyfob.stores.standing import Over

Command = tuple[object, ...]

_SLACK: Final = 3_600_000  # milliseconds: as in add.lua
_TABLES: Final = {
    Kind.KEYS: places.SIGNING_KEYS,
    Kind.CLIENTS: places.CLIENTS,
    Kind.SUBJECTS: places.SUBJECTS,
    Kind.VERIFIERS: places.VERIFIERS,
    Kind.CURSORS: places.CURSORS,
}
_STREAMS: Final = {Kind.ENTRIES: places.ENTRIES, Kind.EVENTS: places.EVENTS}


@dataclass(slots=True)
class Known:
    """What stands in the store and matters for what is put beside it: who holds which name or alias, the streams, how many events were written.

    It is changed as commands are made, so that they fit each other. Of *appended* streams nothing is known: what comes lies behind their ends.
    """

    names: dict[str, str]
    accounts: dict[str, str]
    aliases: dict[str, str]
    streams: dict[bytes, dict[int, Sequence[object]]]
    written_events: int
    dirty: set[bytes] = field(default_factory=set)
    appended: frozenset[bytes] = frozenset()

    @classmethod
    def of(cls, dump: Dump) -> Known:
        """Return what *dump* tells."""
        accounts = [read_record(raw, AccountRow) for raw in dump.hashes[places.ACCOUNTS].values()]
        return cls(
            names={account.name: account.subject for account in accounts},
            accounts={account.subject: account.name for account in accounts},
            aliases={key.decode(): name.decode() for name, key in dump.hashes[places.ALIASES].items()},
            streams={
                key: {int(number.partition(b"-")[0]): fields for number, fields in items}
                for key, items in dump.streams.items()
            },
            written_events=int(dump.hashes[places.META].get(b"events", b"0")),
        )


def put_commands(known: Known, records: Iterable[AnyRecord]) -> list[Command]:
    """Return what puts *records* in place, each instead of what stands under its key."""
    commands = [command for record in records for command in _put(known, record)]
    return [*commands, *_streams(known)]


def remove_commands(known: Known, kind: Kind, keys: Sequence[str]) -> list[Command]:
    """Return what removes the records of *keys*."""
    commands = [command for key in keys for command in _remove(known, kind, key)]
    return [*commands, *_streams(known)]


def _put(known: Known, record: AnyRecord) -> list[Command]:
    match record:
        case KeyRow() | ClientRow() | SubjectRow() | VerifierRow():
            return [(b"HSET", _TABLES[record.kind], record.key, encode(record))]
        case FeedRow():
            return [_feed(record)]
        case AccountRow():
            return _account(known, record)
        case EntryRow(entry=entry):
            return _entry(known, entry)
        case EventRow():
            return _event(known, record)
        case SessionRow():
            return _session(record)
        case CutOffRow():
            return _cut_off(record)
        case AttemptsRow() | FamiliarRow() | CanaryRow() | AssertionRow():
            return _small(record)
        case OneTimeRow() | ConsentRow() | DeliveryRow() | CursorRow():
            return _granted(known, record)
        case _:
            assert_never(record)


def _small(record: AttemptsRow | FamiliarRow | CanaryRow | AssertionRow) -> list[Command]:
    match record:
        case AttemptsRow(place=place):
            return [
                (b"HSET", places.ATTEMPTS, place, record.count),
                (b"ZADD", places.ATTEMPTS_AT, to_micros(record.last_at), place),
            ]
        case FamiliarRow(place=place):
            return [(b"ZADD", places.FAMILIAR, to_micros(record.since), place)]
        case AssertionRow(digest=digest):
            return [(b"ZADD", places.ASSERTIONS, to_micros(record.until), digest)]
        case CanaryRow():
            packed = pack_canary(Canary(record.number, record.position, record.at))
            return [(b"HSET", places.CANARIES, str(record.number), packed)]


def _one_time(known: Known, row: OneTimeRow) -> list[Command]:
    record = row.record
    commands = _forget_alias(known, row.key)
    if record.alias is not None:
        name = one_time_key(record.kind, record.alias)
        known.aliases = {key: alias for key, alias in known.aliases.items() if alias != name}
        known.aliases[row.key] = name
        commands.append((b"HSET", places.ALIASES, name, row.key))
    return [
        *commands,
        (b"HSET", places.ONE_TIMES, row.key, encode(row)),
        (b"ZADD", places.ONE_TIMES_UNTIL, to_micros(kept_until(record)), row.key),
    ]


def _forget_alias(known: Known, key: str) -> list[Command]:
    name = known.aliases.pop(key, None)
    return [] if name is None else [(b"HDEL", places.ALIASES, name)]


def _granted(known: Known, record: OneTimeRow | ConsentRow | DeliveryRow | CursorRow) -> list[Command]:
    match record:
        case OneTimeRow():
            return _one_time(known, record)
        case ConsentRow():
            return [
                (b"HSET", places.CONSENTS, record.key, encode(record)),
                (b"ZADD", places.CONSENT_ORDER, 0, record.key),
            ]
        case DeliveryRow(delivery=delivery):
            return [
                (b"HSET", places.DELIVERIES, record.key, b"%d:" % delivery.attempts + encode(record)),
                (b"ZADD", places.DUE, to_micros(delivery.due_at), record.key),
                (b"ZADD", places.OVER, to_micros(delivery.expires_at), record.key),
            ]
        case CursorRow():
            return [(b"HSET", places.CURSORS, record.key, encode(record))]


def _feed(row: FeedRow) -> Command:
    fields: dict[str, object] = {
        "salt": row.salt,
        "timeline": row.timeline,
        "position": row.position,
        "chain": row.chain,
        "at": to_micros(row.at),
        "credential": span_micros(row.longest_credential) or 0,
        "session": span_micros(row.longest_session) or 0,
    }
    return (b"HSET", places.META, *(part for pair in fields.items() for part in pair))


def _account(known: Known, row: AccountRow) -> list[Command]:
    commands = _forget_account(known, row.subject)
    holder = known.names.get(row.name)
    if holder is not None:
        commands += _forget_account(known, holder)
    known.names[row.name], known.accounts[row.subject] = row.subject, row.name
    return [
        *commands,
        (b"HSET", places.ACCOUNTS, row.subject, encode(row)),
        (b"HSET", places.NAMES, row.name, row.subject),
        (b"ZADD", places.NAME_ORDER, 0, row.name),
    ]


def _forget_account(known: Known, subject: str) -> list[Command]:
    name = known.accounts.pop(subject, None)
    if name is None:
        return []
    known.names.pop(name, None)
    return [
        (b"HDEL", places.ACCOUNTS, subject),
        (b"HDEL", places.NAMES, name),
        (b"ZREM", places.NAME_ORDER, name),
    ]


def _entry(known: Known, entry: Entry) -> list[Command]:
    until = "" if entry.until is None else str(to_micros(entry.until))
    fields = (
        *("a", to_micros(entry.at), "s", entry.scope.value, "i", entry.id, "r", entry.reach.value),
        *("x", entry.spared or "", "u", until, "c", entry.chain),
    )
    written = _numbered(known, places.ENTRIES, entry.position, fields)
    if not until:
        return [*written, (b"ZREM", places.UNTIL, str(entry.position))]
    return [*written, (b"ZADD", places.UNTIL, until, str(entry.position))]


def _event(known: Known, row: EventRow) -> list[Command]:
    at, code, subject, body = event_fields(row.event)
    fields = ("a", at, "c", code, "s", subject, "e", body)
    known.written_events = max(known.written_events, row.number)
    written = _numbered(known, places.EVENTS, row.number, fields)
    return [*written, (b"HSET", places.META, "events", known.written_events)]


def _numbered(known: Known, key: bytes, number: int, fields: Sequence[object]) -> list[Command]:
    """Return what appends to a stream at once; nothing where it must be written anew."""
    if key in known.appended:
        return [(b"XADD", key, f"{number}-0", *fields)]
    known.streams[key][number] = fields
    known.dirty.add(key)
    return []


def _session(row: SessionRow) -> list[Command]:
    session = row.session
    key = places.sessions_at(places.tag_of_session(session.session_id))
    name, data_key = places.field_of(session.session_id), places.data_beside(key)
    lifetime = (span_micros(session.expires_at - session.created_at) or 0) // 1000 + _SLACK
    pieces = cut(name, session_row(session))
    kept = [part for pair in pieces.items() if pair[1] for part in pair]
    commands: list[Command] = [(b"HSET", key, *kept)]
    # What is left of a longer row, which this one replaces, would be read as its end.
    if gone := [each for each, piece in pieces.items() if not piece]:
        commands.append((b"HDEL", key, *gone))
    if row.version:
        commands.append((b"HSET", data_key, name, row.version.to_bytes(8, "big") + row.data))
    else:
        commands.append((b"HDEL", data_key, name))
    # Only where it has none, and then only ever longer.
    return commands + [
        (b"PEXPIRE", each, lifetime, rule) for each in (key, data_key) for rule in (b"NX", b"GT")
    ]


def _cut_off(row: CutOffRow) -> list[Command]:
    packed = pack_cut_off(Over(row.at, row.position), row.until)
    return [
        (b"HSET", places.CUT_OFFS, row.key, packed),
        (b"ZADD", places.DROPS, to_micros(row.until), row.key),
    ]


def _remove(known: Known, kind: Kind, key: str) -> list[Command]:
    match kind:
        case Kind.FEED:
            return []
        case Kind.ACCOUNTS:
            return _forget_account(known, key)
        case Kind.SESSIONS:
            rows = places.sessions_at(places.tag_of_session(SessionId(key)))
            name = places.field_of(SessionId(key))
            return [(b"HDEL", rows, *names_of(name)), (b"HDEL", places.data_beside(rows), name)]
        case Kind.ENTRIES | Kind.EVENTS:
            return _remove_numbered(known, kind, int(key))
        case Kind.CUT_OFFS:
            return [(b"HDEL", places.CUT_OFFS, key), (b"ZREM", places.DROPS, key)]
        case Kind.ATTEMPTS:
            return [(b"HDEL", places.ATTEMPTS, key), (b"ZREM", places.ATTEMPTS_AT, key)]
        case Kind.FAMILIAR | Kind.ASSERTIONS | Kind.CANARIES:
            return [_remove_small(kind, key)]
        case Kind.ONE_TIMES | Kind.CONSENTS | Kind.DELIVERIES:
            return _remove_granted(known, kind, key)
        case _:
            return [(b"HDEL", _TABLES[kind], key)]


def _remove_small(kind: Kind, key: str) -> Command:
    match kind:
        case Kind.FAMILIAR:
            return (b"ZREM", places.FAMILIAR, key)
        case Kind.ASSERTIONS:
            return (b"ZREM", places.ASSERTIONS, bytes.fromhex(key))
        case _:
            return (b"HDEL", places.CANARIES, str(int(key)))


def _remove_granted(known: Known, kind: Kind, key: str) -> list[Command]:
    match kind:
        case Kind.ONE_TIMES:
            gone = [(b"HDEL", places.ONE_TIMES, key), (b"ZREM", places.ONE_TIMES_UNTIL, key)]
            return [*_forget_alias(known, key), *gone]
        case Kind.CONSENTS:
            return [(b"HDEL", places.CONSENTS, key), (b"ZREM", places.CONSENT_ORDER, key)]
        case _:
            sorted_ = [(b"ZREM", each, key) for each in (places.DUE, places.OVER)]
            return [(b"HDEL", places.DELIVERIES, key), *sorted_]


def _remove_numbered(known: Known, kind: Kind, number: int) -> list[Command]:
    if known.streams[_STREAMS[kind]].pop(number, None) is not None:
        known.dirty.add(_STREAMS[kind])
    return [(b"ZREM", places.UNTIL, str(number))] if kind is Kind.ENTRIES else []


def _streams(known: Known) -> list[Command]:
    """Return what writes the streams anew that are not as they were: a stream takes nothing before its end."""
    commands: list[Command] = []
    for key in sorted(known.dirty):
        commands.append((b"DEL", key))
        for number, fields in sorted(known.streams[key].items()):
            commands.append((b"XADD", key, f"{number}-0", *fields))
    known.dirty.clear()
    return commands
