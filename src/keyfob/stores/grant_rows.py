"""Between grants and the rows of a relational store: the same columns and the same bytes in SQLite and in PostgreSQL."""

from __future__ import annotations

from typing import Any, cast

from keyfob.base.clock import from_micros, to_micros
from keyfob.base.identifiers import ClientId, Position, Subject, Timeline
from keyfob.grants.consent import Consent
from keyfob.grants.delivery import Cursor, Delivery
from keyfob.grants.one_time import OneTime, OneTimeKind
from keyfob.grants.rules import kept_until
from keyfob.stores.rows import Row, moment, moment_micros, names, names_text

ONE_TIME_COLUMNS = (
    "kind, digest, alias, body, version, as_of, created_at, expires_at, taken_at, reused_at, kept_until"
)
CONSENT_COLUMNS = "subject, client_id, client_created_at, scopes, given_at, changed_at"
DELIVERY_COLUMNS = "delivery_id, kind, client_id, body, created_at, due_at, expires_at, attempts"
CURSOR_COLUMNS = "consumer, timeline, position"


def one_time_from(row: Row) -> OneTime:
    """Return the record of a row with `ONE_TIME_COLUMNS`."""
    kind, digest, alias, body, version, as_of, created, expires, taken, reused, _ = cast(
        "tuple[Any, ...]", row
    )
    return OneTime(
        kind=OneTimeKind(kind),
        digest=digest,
        alias=alias,
        body=body,
        version=version,
        as_of=Position(as_of),
        created_at=from_micros(created),
        expires_at=from_micros(expires),
        taken_at=moment(taken),
        reused_at=moment(reused),
    )


def one_time_to(record: OneTime) -> Row:
    """Return the row of *record*."""
    return (
        record.kind.value,
        record.digest,
        record.alias,
        record.body,
        record.version,
        record.as_of,
        to_micros(record.created_at),
        to_micros(record.expires_at),
        moment_micros(record.taken_at),
        moment_micros(record.reused_at),
        to_micros(kept_until(record)),
    )


def consent_from(row: Row) -> Consent:
    """Return the consent of a row with `CONSENT_COLUMNS`."""
    subject, client_id, made, scopes, given, changed = cast("tuple[Any, ...]", row)
    return Consent(
        subject=Subject(subject),
        client_id=ClientId(client_id),
        client_created_at=from_micros(made),
        scopes=names(scopes),
        given_at=from_micros(given),
        changed_at=from_micros(changed),
    )


def consent_to(consent: Consent) -> Row:
    """Return the row of *consent*."""
    return (
        consent.subject,
        consent.client_id,
        to_micros(consent.client_created_at),
        names_text(consent.scopes),
        to_micros(consent.given_at),
        to_micros(consent.changed_at),
    )


def delivery_from(row: Row) -> Delivery:
    """Return the delivery of a row with `DELIVERY_COLUMNS`."""
    delivery_id, kind, client_id, body, created, due, expires, attempts = cast("tuple[Any, ...]", row)
    return Delivery(
        delivery_id=delivery_id,
        kind=kind,
        client_id=ClientId(client_id),
        body=body,
        created_at=from_micros(created),
        due_at=from_micros(due),
        expires_at=from_micros(expires),
        attempts=attempts,
    )


def delivery_to(delivery: Delivery) -> Row:
    """Return the row of *delivery*."""
    return (
        delivery.delivery_id,
        delivery.kind,
        delivery.client_id,
        delivery.body,
        to_micros(delivery.created_at),
        to_micros(delivery.due_at),
        to_micros(delivery.expires_at),
        delivery.attempts,
    )


def cursor_from(row: Row) -> Cursor:
    """Return the cursor of a row with `CURSOR_COLUMNS`."""
    _, timeline, position = cast("tuple[Any, ...]", row)
    return Cursor(timeline=Timeline(timeline), position=Position(position))


def cursor_to(consumer: str, cursor: Cursor) -> Row:
    """Return the row of the *cursor* of *consumer*."""
    return (consumer, cursor.timeline, cursor.position)
