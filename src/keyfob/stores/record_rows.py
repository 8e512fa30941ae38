"""Records as rows of a relational store: the same tables, columns and values in SQLite and in PostgreSQL."""

from __future__ import annotations

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
from keyfob.stores import grant_rows
from keyfob.stores.grant_keys import consent_place, one_time_place
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
    verifier_place,
)
from keyfob.stores.rows import (
    CLIENT_COLUMNS,
    ENTRY_COLUMNS,
    EVENT_COLUMNS,
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
class Form:
    """How the records of one kind lie in a table.

    `columns` are those that hold them, in their order; `key` are those of the key, and `key_of` gives their values of a key's text. `live`
    is the condition on what is not over at the moment `{now}`, about the row `s`.
    """

    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    key_of: Callable[[str], Row]
    record: Callable[[Row], AnyRecord]
    row: Callable[[Any], Row]
    live: str = "TRUE"


def _columns(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


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


FORMS: dict[Kind, Form] = {
    Kind.FEED: Form(
        table="meta",
        columns=("salt", "timeline", "position", "chain", "at", "longest_credential", "longest_session"),
        key=("only_row",),
        key_of=lambda _: (1,),
        record=_feed,
        row=_feed_row,
    ),
    Kind.KEYS: Form(
        table="keys",
        columns=("purpose", "key_id", "algorithm", "sealed", "created_at", "activates_at", "revoked_at"),
        key=("key_id",),
        key_of=_of_text,
        record=_key,
        row=_key_row,
    ),
    Kind.CLIENTS: Form(
        table="clients",
        columns=_columns(CLIENT_COLUMNS),
        key=("client_id",),
        key_of=_of_text,
        record=lambda row: ClientRow(client=client_from(row)),
        row=lambda record: client_to(record.client),
    ),
    Kind.SUBJECTS: Form(
        table="subjects",
        columns=("subject", "roles", "disabled_at"),
        key=("subject",),
        key_of=_of_text,
        record=_subject,
        row=_subject_row,
    ),
    Kind.ACCOUNTS: Form(
        table="accounts",
        columns=("subject", "name", "password_hash", "created_at", "password_changed_at"),
        key=("subject",),
        key_of=_of_text,
        record=_account,
        row=_account_row,
    ),
    Kind.ENTRIES: Form(
        table="entries",
        columns=_columns(ENTRY_COLUMNS),
        key=("position",),
        key_of=_of_number,
        record=lambda row: EntryRow(entry=entry_from(cast("Any", row))),
        row=lambda record: entry_to(record.entry),
        live="(s.until IS NULL OR s.until > {now})",
    ),
    Kind.CUT_OFFS: Form(
        table="cut_offs",
        columns=("scope", "id", "position", "at", "until"),
        key=("scope", "id"),
        key_of=cut_off_place,
        record=_cut_off,
        row=_cut_off_row,
        live="s.until > {now}",
    ),
    Kind.SESSIONS: Form(
        table="sessions",
        columns=_columns(SESSION_COLUMNS.replace("s.", "")),
        key=("session_id",),
        key_of=lambda key: (session_key(SessionId(key)),),
        record=_session,
        row=lambda record: session_to(record.session),
        live="s.expires_at > {now}",
    ),
    Kind.ATTEMPTS: Form(
        table="attempts",
        columns=("key", "count", "last_at"),
        key=("key",),
        key_of=_of_text,
        record=_attempts,
        row=lambda record: (record.place, record.count, to_micros(record.last_at)),
    ),
    Kind.FAMILIAR: Form(
        table="familiar",
        columns=("key", "since"),
        key=("key",),
        key_of=_of_text,
        record=_familiar,
        row=lambda record: (record.place, to_micros(record.since)),
    ),
    Kind.EVENTS: Form(
        table="events",
        columns=("number", *_columns(EVENT_COLUMNS)),
        key=("number",),
        key_of=_of_number,
        record=_event,
        row=lambda record: (record.number, *event_to(record.event)),
    ),
    Kind.VERIFIERS: Form(
        table="verifiers",
        columns=("client_id", "name", "instance", "heard_at", "record"),
        key=("client_id", "name", "instance"),
        key_of=verifier_place,
        record=_verifier,
        row=_verifier_row,
    ),
    Kind.CANARIES: Form(
        table="canaries",
        columns=("number", "position", "at"),
        key=("number",),
        key_of=_of_number,
        record=_canary,
        row=lambda record: (record.number, record.position, to_micros(record.at)),
    ),
    Kind.ASSERTIONS: Form(
        table="assertions",
        columns=("digest", "until"),
        key=("digest",),
        key_of=lambda key: (bytes.fromhex(key),),
        record=lambda row: AssertionRow(digest=cast("bytes", row[0]), until=_at(row[1])),
        row=lambda record: (record.digest, to_micros(record.until)),
    ),
    Kind.ONE_TIMES: Form(
        table="one_times",
        columns=_columns(grant_rows.ONE_TIME_COLUMNS),
        key=("kind", "digest"),
        key_of=one_time_place,
        record=lambda row: OneTimeRow(record=grant_rows.one_time_from(row)),
        row=lambda record: grant_rows.one_time_to(record.record),
        live="s.kept_until > {now}",
    ),
    Kind.CONSENTS: Form(
        table="consents",
        columns=_columns(grant_rows.CONSENT_COLUMNS),
        key=("subject", "client_id"),
        key_of=consent_place,
        record=lambda row: ConsentRow(consent=grant_rows.consent_from(row)),
        row=lambda record: grant_rows.consent_to(record.consent),
    ),
    Kind.DELIVERIES: Form(
        table="deliveries",
        columns=_columns(grant_rows.DELIVERY_COLUMNS),
        key=("delivery_id",),
        key_of=_of_text,
        record=lambda row: DeliveryRow(delivery=grant_rows.delivery_from(row)),
        row=lambda record: grant_rows.delivery_to(record.delivery),
        live="s.expires_at > {now}",
    ),
    Kind.CURSORS: Form(
        table="cursors",
        columns=_columns(grant_rows.CURSOR_COLUMNS),
        key=("consumer",),
        key_of=_of_text,
        record=lambda row: CursorRow(consumer=cast("str", row[0]), cursor=grant_rows.cursor_from(row)),
        row=lambda record: grant_rows.cursor_to(record.consumer, record.cursor),
    ),
}
"""Every kind. `record` of sessions takes two values behind the columns: the session's data, and its version; None where there is none."""
