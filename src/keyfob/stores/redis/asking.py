"""What the scripts of sessions are asked: the same of one server and of a cluster."""

from __future__ import annotations

from datetime import datetime, timedelta

from keyfob.base.clock import to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import is_session_id
from keyfob.base.opaque import TokenDigest
from keyfob.sessions.policy import AtLimit
from keyfob.sessions.session import Session
from keyfob.stores.redis import places
from keyfob.stores.redis.packing import event_fields, raw, session_row
from keyfob.stores.rows import span_micros
from keyfob.stores.texts import require_texts


def addition(
    session: Session, *, salt: bytes, limit: int, at_limit: AtLimit, event: Event
) -> dict[str, object]:
    """Return what `add` is asked.

    Raises:
        ValueError: an id of the wrong form.
        InvalidRequest: a text that no store keeps.
    """
    require_texts(session.subject, session.client_id)
    if not is_session_id(session.session_id):
        raise ValueError("a session id is 32 lower-case hex digits")
    return {
        "row": raw(session_row(session)),
        "field": raw(places.field_of(session.session_id)),
        "belongs": places.tag_of_session(session.session_id) == places.tag_of(salt, session.subject),
        "now": to_micros(session.created_at),
        "limit": limit,
        "denies": at_limit is AtLimit.DENY,
        "event": event_fields(event),
        "actor": event.actor,
        "address": event.address or "",
    }


def rotation(
    field: bytes,
    presented: TokenDigest,
    successor: TokenDigest,
    *,
    generation: int,
    now: datetime,
    replay_window: timedelta,
) -> tuple[bytes | int, ...]:
    """Return what `rotate` is told of a refresh token."""
    return (field, presented, successor, generation, to_micros(now), span_micros(replay_window) or 0)


def renewal(renewed: Session, *, instead_of: bytes, now: datetime, event: Event) -> dict[str, object]:
    """Return what `renew` is asked: to write *renewed* where the row is still *instead_of*."""
    return {
        "id": renewed.session_id,
        "field": raw(places.field_of(renewed.session_id)),
        "instead_of": raw(instead_of),
        "row": raw(session_row(renewed)),
        "now": to_micros(now),
        "event": event_fields(event),
    }
