"""Sessions as they stand: rows with the cut-offs that a script gave beside them. The rule itself is the same for every store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from keyfob.sessions.session import Session
from keyfob.sessions.store import UNRECORDED, Holder
from keyfob.stores.records import SubjectRow
from keyfob.stores.redis.packing import Reply, cut_offs, read_session
from keyfob.stores.redis.tables import read_record
from keyfob.stores.rows import session_key
from keyfob.stores.standing import Over, as_it_stands, over_since, over_without_parent


def as_found(field: bytes, reply: Sequence[Reply], now: datetime) -> Session:
    """Return the session of an answer of find.lua: its row and cut-offs, then its parent's row (empty: gone) and cut-offs."""
    session = read_session(field, reply[0])
    parent = None
    if len(reply) > 2:
        parent = _over(session, reply[2:], now)
    return as_it_stands(session, cut_offs=cut_offs(reply[1]), parent=parent)


def as_recorded(raw: bytes) -> Holder:
    """Return what *raw* says of the subject of a session; empty: nothing is recorded."""
    if not raw:
        return UNRECORDED
    record = read_record(raw, SubjectRow).record
    return Holder(record.roles, record.disabled_at is not None)


def _over(child: Session, reply: Sequence[Reply], now: datetime) -> Over | None:
    if not reply[0]:
        return over_without_parent(child)
    field = session_key(child.parent_session_id)
    assert field is not None
    above = as_it_stands(read_session(field, reply[0]), cut_offs=cut_offs(reply[1]), parent=None)
    return over_since(above, now)
