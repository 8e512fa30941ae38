"""Where the records of each kind lie in a SQLite file: how they are selected, put and removed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec

from keyfob.accounts.account import SubjectRecord
from keyfob.base.clock import from_micros, to_micros
from keyfob.base.identifiers import KeyId, Position, SessionId, Subject, Timeline
from keyfob.keys.store import KeyPurpose, StoredKey
from keyfob.revocation.entry import Scope
from keyfob.revocation.reports import VerifierRecord
from keyfob.stores.records import (
    AccountRow,
    AnyRecord,
    AssertionRow,
    AttemptsRow,
    CanaryRow,
    ClientRow,
    CutOffRow,
    EntryRow,
    EventRow,
    FamiliarRow,
    FeedRow,
    KeyRow,
    Kind,
    SessionRow,
    SubjectRow,
    VerifierRow,
    cut_off_place,
    number_key,
    verifier_place,
)
from keyfob.stores.rows import (
    CLIENT_COLUMNS,
    ENTRY_COLUMNS,
    SESSION_COLUMNS,
    SESSION_WIDTH,
    Row,
    Value,
    client_from,
    client_to,
    entry_from,
    entry_to,
    event_from,
    event_to,
    moment,
    moment_micros,
    names,
    names_text,
    session_from,
    session_key,
    session_to,
)

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one kind lies.

    `key` are the columns of its key, in order; `key_of` are their values of a key's text, and `key_text` is SQL for the text of the key
    of the row named `{}`. `live` is the condition on what is not over at `:now`.
    """

    table: str
    columns: str
    key: tuple[str, ...]
    key_of: Callable[[str], Row]
    key_text: str
    record: Callable[[Row], AnyRecord]
    row: Callable[[Any], Row]
    source: str = ""
    live: str = "TRUE"


def select(place: Place, condition: str) -> str:
    """Return the statement that reads the rows of which *condition* holds, by key."""
    order = ", ".join(place.key)
    return f"SELECT {place.columns} FROM {place.source or place.table} WHERE {condition} ORDER BY {order}"  # noqa: S608 - constants


def put(connection: sqlite3.Connection, record: AnyRecord) -> None:
    """Put *record* in place of what stands under its key."""
    place = PLACES[record.kind]
    row = place.row(record)
    if isinstance(record, SessionRow):
        _put_session(connection, record, row)
        return
    if isinstance(record, FeedRow):
        assigned = ", ".join(f"{column} = ?" for column in place.columns.split(", "))
        connection.execute(f"UPDATE meta SET {assigned}", row)  # noqa: S608 - constants
        return
    marks = ", ".join("?" * len(row))
    connection.execute(
        f"INSERT OR REPLACE INTO {place.table} ({place.columns}) VALUES ({marks})",  # noqa: S608 - constants
        row,
    )


def remove(connection: sqlite3.Connection, kind: Kind, key: str) -> None:
    """Remove the record of *key*; the row of the feed stays."""
    place = PLACES[kind]
    if kind is Kind.FEED:
        return
    condition = " AND ".join(f"{column.removeprefix('s.')} = ?" for column in place.key)
    connection.execute(f"DELETE FROM {place.table} WHERE {condition}", place.key_of(key))  # noqa: S608 - constants
    if kind is Kind.SESSIONS:
        connection.execute("DELETE FROM session_data WHERE session_id = ?", place.key_of(key))


def clear(connection: sqlite3.Connection, kind: Kind) -> None:
    """Remove all records of *kind*; the row of the feed stays."""
    if kind is Kind.FEED:
        return
    connection.execute(f"DELETE FROM {PLACES[kind].table}")  # noqa: S608 - constants
    if kind is Kind.SESSIONS:
        connection.execute("DELETE FROM session_data")


def _put_session(connection: sqlite3.Connection, record: SessionRow, row: Row) -> None:
    marks = ", ".join("?" * len(row))
    connection.execute(f"INSERT OR REPLACE INTO sessions VALUES ({marks})", row)  # noqa: S608 - constants
    connection.execute("DELETE FROM session_data WHERE session_id = ?", (row[0],))
    if record.version:
        connection.execute(
            "INSERT INTO session_data (session_id, version, data) VALUES (?, ?, ?)",
            (row[0], record.version, record.data),
        )


def _of_text(key: str) -> Row:
    return (key,)


def _of_number(key: str) -> Row:
    return (int(key),)


def _span(micros: Value) -> timedelta:
    return cast("int", micros) * _MICROSECOND


def _at(micros: Value) -> datetime:
    return from_micros(cast("int", micros))


def _feed(row: Row) -> FeedRow:
    salt, timeline, position, chain, at, credential, session = cast("tuple[Any, ...]", row)
    return FeedRow(
        salt=salt,
        timeline=Timeline(timeline),
        position=Position(position),
        chain=chain,
        at=_at(at),
        longest_credential=_span(credential),
        longest_session=_span(session),
    )


def _feed_row(record: FeedRow) -> Row:
    return (
        record.salt,
        record.timeline,
        record.position,
        record.chain,
        to_micros(record.at),
        record.longest_credential // _MICROSECOND,
        record.longest_session // _MICROSECOND,
    )


def _key(row: Row) -> KeyRow:
    purpose, key_id, algorithm, sealed, created, activates, revoked = cast("tuple[Any, ...]", row)
    stored = StoredKey(
        purpose=KeyPurpose(purpose),
        key_id=KeyId(key_id),
        algorithm=algorithm,
        sealed=sealed,
        created_at=_at(created),
        activates_at=_at(activates),
        revoked_at=moment(revoked),
    )
    return KeyRow(stored=stored)


def _key_row(record: KeyRow) -> Row:
    key = record.stored
    return (
        key.purpose.value,
        key.key_id,
        key.algorithm,
        key.sealed,
        to_micros(key.created_at),
        to_micros(key.activates_at),
        moment_micros(key.revoked_at),
    )


def _subject(row: Row) -> SubjectRow:
    subject, roles, disabled_at = cast("tuple[Any, ...]", row)
    return SubjectRow(
        record=SubjectRecord(subject=subject, roles=names(roles), disabled_at=moment(disabled_at))
    )


def _subject_row(record: SubjectRow) -> Row:
    one = record.record
    return (one.subject, names_text(one.roles), moment_micros(one.disabled_at))


def _account(row: Row) -> AccountRow:
    subject, name, password_hash, created_at, changed_at = cast("tuple[Any, ...]", row)
    return AccountRow(
        subject=Subject(subject),
        name=name,
        password_hash=password_hash,
        created_at=_at(created_at),
        password_changed_at=_at(changed_at),
    )


def _account_row(record: AccountRow) -> Row:
    return (
        record.subject,
        record.name,
        record.password_hash,
        to_micros(record.created_at),
        to_micros(record.password_changed_at),
    )


def _cut_off(row: Row) -> CutOffRow:
    scope, id_, position, at, until = cast("tuple[Any, ...]", row)
    return CutOffRow(scope=Scope(scope), id=id_, position=Position(position), at=_at(at), until=_at(until))


def _cut_off_row(record: CutOffRow) -> Row:
    return (record.scope.value, record.id, record.position, to_micros(record.at), to_micros(record.until))


def _session(row: Row) -> SessionRow:
    data, version = row[SESSION_WIDTH:]
    session = session_from(row)  # type: ignore[arg-type]  # the columns of sessions come first
    return SessionRow(
        session=session, data=cast("bytes | None", data) or b"", version=cast("int | None", version) or 0
    )


def _verifier(row: Row) -> VerifierRow:
    return VerifierRow(record=msgspec.msgpack.decode(cast("bytes", row[-1]), type=VerifierRecord))


def _verifier_row(record: VerifierRow) -> Row:
    one = record.record
    packed = msgspec.msgpack.encode(one)
    return (one.client_id, one.name, one.instance, to_micros(one.heard_at), packed)


def _event(row: Row) -> EventRow:
    return EventRow(number=cast("int", row[0]), event=event_from(row[1:]))


def _canary(row: Row) -> CanaryRow:
    number, position, at = cast("tuple[int, int, int]", row)
    return CanaryRow(number=number, position=Position(position), at=_at(at))


def _attempts(row: Row) -> AttemptsRow:
    place, count, last_at = cast("tuple[Any, ...]", row)
    return AttemptsRow(place=place, count=count, last_at=_at(last_at))


def _familiar(row: Row) -> FamiliarRow:
    return FamiliarRow(place=cast("str", row[0]), since=_at(row[1]))


_NUMBER_TEXT = f"printf('%0{len(number_key(0))}d', {{}}.{{column}})"


def _numbered(column: str) -> str:
    return _NUMBER_TEXT.replace("{column}", column)


PLACES: dict[Kind, Place] = {
    Kind.FEED: Place(
        table="meta",
        columns="salt, timeline, position, chain, at, longest_credential, longest_session",
        key=("only_row",),
        key_of=lambda _: (1,),
        key_text="'feed'",
        record=_feed,
        row=_feed_row,
    ),
    Kind.KEYS: Place(
        table="keys",
        columns="purpose, key_id, algorithm, sealed, created_at, activates_at, revoked_at",
        key=("key_id",),
        key_of=_of_text,
        key_text="{}.key_id",
        record=_key,
        row=_key_row,
    ),
    Kind.CLIENTS: Place(
        table="clients",
        columns=CLIENT_COLUMNS,
        key=("client_id",),
        key_of=_of_text,
        key_text="{}.client_id",
        record=lambda row: ClientRow(client=client_from(row)),
        row=lambda record: client_to(record.client),
    ),
    Kind.SUBJECTS: Place(
        table="subjects",
        columns="subject, roles, disabled_at",
        key=("subject",),
        key_of=_of_text,
        key_text="{}.subject",
        record=_subject,
        row=_subject_row,
    ),
    Kind.ACCOUNTS: Place(
        table="accounts",
        columns="subject, name, password_hash, created_at, password_changed_at",
        key=("subject",),
        key_of=_of_text,
        key_text="{}.subject",
        record=_account,
        row=_account_row,
    ),
    Kind.ENTRIES: Place(
        table="entries",
        columns=ENTRY_COLUMNS,
        key=("position",),
        key_of=_of_number,
        key_text=_numbered("position"),
        record=lambda row: EntryRow(entry=entry_from(cast("Any", row))),
        row=lambda record: entry_to(record.entry),
        live="(until IS NULL OR until > :now)",
    ),
    Kind.CUT_OFFS: Place(
        table="cut_offs",
        columns="scope, id, position, at, until",
        key=("scope", "id"),
        key_of=cut_off_place,
        key_text="{0}.scope || ' ' || {0}.id",
        record=_cut_off,
        row=_cut_off_row,
        live="until > :now",
    ),
    Kind.SESSIONS: Place(
        table="sessions",
        source="sessions AS s LEFT JOIN session_data AS d ON d.session_id = s.session_id",
        columns=f"{SESSION_COLUMNS}, d.data, d.version",
        key=("s.session_id",),
        key_of=lambda key: (session_key(SessionId(key)),),
        key_text="lower(hex({}.session_id))",
        record=_session,
        row=lambda record: session_to(record.session),
        live="s.expires_at > :now",
    ),
    Kind.ATTEMPTS: Place(
        table="attempts",
        columns="key, count, last_at",
        key=("key",),
        key_of=_of_text,
        key_text="{}.key",
        record=_attempts,
        row=lambda record: (record.place, record.count, to_micros(record.last_at)),
    ),
    Kind.FAMILIAR: Place(
        table="familiar",
        columns="key, since",
        key=("key",),
        key_of=_of_text,
        key_text="{}.key",
        record=_familiar,
        row=lambda record: (record.place, to_micros(record.since)),
    ),
    Kind.EVENTS: Place(
        table="events",
        columns="number, at, code, actor, subject, session_id, client_id, address, reason, facts",
        key=("number",),
        key_of=_of_number,
        key_text=_numbered("number"),
        record=_event,
        row=lambda record: (record.number, *event_to(record.event)),
    ),
    Kind.VERIFIERS: Place(
        table="verifiers",
        columns="client_id, name, instance, heard_at, record",
        key=("client_id", "name", "instance"),
        key_of=verifier_place,
        key_text=(
            "length({0}.client_id) || ':' || length({0}.name) || ':' || {0}.client_id || {0}.name || {0}.instance"
        ),
        record=_verifier,
        row=_verifier_row,
    ),
    Kind.CANARIES: Place(
        table="canaries",
        columns="number, position, at",
        key=("number",),
        key_of=_of_number,
        key_text=_numbered("number"),
        record=_canary,
        row=lambda record: (record.number, record.position, to_micros(record.at)),
    ),
    Kind.ASSERTIONS: Place(
        table="assertions",
        columns="digest, until",
        key=("digest",),
        key_of=lambda key: (bytes.fromhex(key),),
        key_text="lower(hex({}.digest))",
        record=lambda row: AssertionRow(digest=cast("bytes", row[0]), until=_at(row[1])),
        row=lambda record: (record.digest, to_micros(record.until)),
    ),
}
