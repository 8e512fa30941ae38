"""The canary: a session that nobody holds, revoked every few seconds to measure how long it takes until every verifier denies it.

It has no row and no credential, so there is nothing that anybody could present or steal. Its entry is an ordinary one of scope
`session`; only its id tells: it begins as no session id can before the year 2149 (`identifiers.new_session_id`: the absolute end stands in
the id), and goes on with its number. As nothing can be covered by it, it is dropped after `CANARY_LIFETIME`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from keyfob.base.events import Event
from keyfob.base.identifiers import Position, SessionId
from keyfob.revocation.entry import Entry, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.store import RETENTION_MARGIN

CANARY_LIFETIME = RETENTION_MARGIN
"""How long the entry of a canary lives: at one every 5 s that is 60 live entries, about 9 KB in each verifier.

Long enough that a follower which comes back after minutes finds no gap where it left.
"""
KEPT_CANARIES = 256
"""Canaries that a store remembers, the latest: what reports are compared with."""
CLOCK_SKEW = timedelta(minutes=1)
"""By which authorities may disagree about the time; a last canary further in the future was written by a clock that was wrong."""
AUDIENCE_MEMORY = timedelta(minutes=1)
"""While no verifier has reported for so long, nobody would measure a canary, and none is revoked."""

_PREFIX = "00000000ffff"
_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Canary:
    """One canary: its number (1, 2, 3 ...), and where and when it was revoked."""

    number: int
    position: Position
    at: datetime


def canary_id(number: int) -> SessionId:
    """Return the session id of canary *number*."""
    return SessionId(f"{_PREFIX}{number:0{_DIGITS}x}")


def is_canary(entry: Entry) -> bool:
    """Say whether *entry* revokes a canary."""
    return entry.scope is Scope.SESSION and entry.id.startswith(_PREFIX)


def revocation_of(number: int, now: datetime) -> Revocation:
    """Return the order for the entry of canary *number*. Its event is written nowhere: a trail of canaries would bury all else."""
    return Revocation(
        scope=Scope.SESSION, id=canary_id(number), event=Event(at=now, code="canary", actor="system")
    )


def is_due(last: datetime | None, now: datetime, *, period: timedelta) -> bool:
    """Say whether the next canary is due: *period* after the last, or a tenth of it early, since those who wake for it wake unevenly."""
    if last is None:
        return True
    return now - last >= period * 0.9 or last - now > CLOCK_SKEW
