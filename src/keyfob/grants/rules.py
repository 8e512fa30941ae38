"""The rules of one-time records, pure: every store decides by them, in its own atomic step."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from keyfob.base.identifiers import ClientId, Subject
from keyfob.grants.consent import Consent
from keyfob.grants.delivery import MAX_DELIVERY_BODY, Delivery
from keyfob.grants.one_time import DIGEST, MAX_BODY, OneTime
from keyfob.grants.store import Amended, AmendOutcome, Missing, Outdated, Taken, TakenBefore, TakeOutcome

KEPT: Final = timedelta(days=1)
"""How long past its expiry a record that was taken is kept: so late is a second use still known for what it is."""
READ_WITHIN: Final = timedelta(days=1)
"""How long past its retention an entry of the feed waits for a consumer that has not read it. Then it goes: a consumer that nobody runs any
more must not keep the feed for ever."""


def is_open(record: OneTime, now: datetime) -> bool:
    """Say whether *record* can be taken at *now*: at exactly `expires_at` no longer."""
    return record.taken_at is None and now < record.expires_at


def kept_until(record: OneTime) -> datetime:
    """Return when *record* is to be deleted."""
    return record.expires_at if record.taken_at is None else record.expires_at + KEPT


def known(record: OneTime | None, now: datetime) -> OneTime | None:
    """Return *record* where it is open, or was taken and is kept still."""
    return record if record is not None and now < kept_until(record) else None


def take(record: OneTime | None, now: datetime) -> tuple[TakeOutcome, OneTime | None]:
    """Say what taking *record* comes to, and what is to be written; None: nothing is."""
    present = known(record, now)
    if present is None:
        return Missing(), None
    if present.taken_at is None:
        after = replace(present, taken_at=now, alias=None, version=present.version + 1)
        return Taken(after), after
    if present.reused_at is not None:
        return TakenBefore(present), None
    after = replace(present, reused_at=now)
    return TakenBefore(after), after


def amend(
    record: OneTime | None, version: int, body: bytes, *, now: datetime
) -> tuple[AmendOutcome, OneTime | None]:
    """Say what amending *record* comes to, and what is to be written; None: nothing is."""
    present = known(record, now)
    if present is None:
        return Missing(), None
    if present.version != version:
        return Outdated(), None
    after = replace(present, body=body, version=version + 1)
    return Amended(after), after


def given(
    present: Consent | None,
    subject: Subject,
    client_id: ClientId,
    *,
    made_at: datetime,
    scopes: frozenset[str],
    now: datetime,
) -> Consent:
    """Return the consent once *scopes* are added at *now*; *made_at* is when the client was made.

    One that was *present* before and given to another client of that id counts for nothing.
    """
    before = present if present is not None and present.client_created_at == made_at else None
    return Consent(
        subject=subject,
        client_id=client_id,
        client_created_at=made_at,
        scopes=scopes if before is None else before.scopes | scopes,
        given_at=now if before is None else before.given_at,
        changed_at=now,
    )


def check_one_time(record: OneTime) -> None:
    """Refuse a record that no service makes.

    Raises:
        ValueError: a digest that has not 32 bytes, a body past `MAX_BODY`, one that was taken already, or expires before it is made.
    """
    if len(record.digest) != DIGEST or (record.alias is not None and len(record.alias) != DIGEST):
        raise ValueError(f"a digest of a one-time record has {DIGEST} bytes")
    check_body(record.body)
    if record.taken_at is not None or record.reused_at is not None or record.expires_at <= record.created_at:
        raise ValueError("a one-time record is added open")


def check_body(body: bytes) -> None:
    """Refuse a body past `MAX_BODY`.

    Raises:
        ValueError: it is.
    """
    if len(body) > MAX_BODY:
        raise ValueError(f"the body of a one-time record has {MAX_BODY} bytes at most")


def check_delivery(delivery: Delivery) -> None:
    """Refuse a delivery that nobody makes.

    Raises:
        ValueError: a body past `MAX_DELIVERY_BODY`, one that expires before it is due, or that was attempted already.
    """
    if len(delivery.body) > MAX_DELIVERY_BODY:
        raise ValueError(f"the body of a delivery has {MAX_DELIVERY_BODY} bytes at most")
    if delivery.expires_at <= delivery.due_at or delivery.attempts:
        raise ValueError("a delivery is queued before it expires, and before it is tried")
