"""An entry of the feed, and the hash chain through all of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from keyfob.base.clock import to_micros
from keyfob.base.identifiers import Position, SessionId, Timeline

CHAIN_START = bytes(32)
"""The chain before the first entry of a timeline."""


class Scope(StrEnum):
    """What an entry is about."""

    TOKEN = "token"
    SESSION = "session"
    SUBJECT = "subject"
    CLIENT = "client"
    KEY = "key"
    EVERYTHING = "everything"


class Reach(StrEnum):
    """What the holder of a covered credential experiences.

    `END`: denied as `revoked`, and the sessions in scope are over. `CLAIMS`: denied as `stale_claims`; a refresh, or a re-read of the
    session, gives today's roles without a login.
    """

    END = "end"
    CLAIMS = "claims"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One revocation, at its place in the feed.

    `id` is a jti, session id, subject, client id or kid, and empty for `everything`. `spared` (on the wire: `except`) is a session that
    the entry does not cover. At `until` nothing that it covers can still be alive, and it may be dropped; None means never. `chain` is
    the hash over this entry and all before it.
    """

    position: Position
    at: datetime
    scope: Scope
    id: str
    reach: Reach
    until: datetime | None
    chain: bytes
    spared: SessionId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How far a feed has come: the position and chain of its last entry (0 and `CHAIN_START` before the first)."""

    timeline: Timeline
    position: Position
    chain: bytes


def next_chain(
    previous: bytes,
    *,
    position: int,
    at: datetime,
    scope: Scope,
    id: str,  # noqa: A002 - the wire's word
    reach: Reach,
    spared: SessionId | None,
    until: datetime | None,
) -> bytes:
    """Return SHA-256 over *previous* and every field of the entry, each behind its length, so that no two entries look alike."""
    digest = hashlib.sha256(previous)
    for field in (
        str(position),
        str(to_micros(at)),
        scope.value,
        id,
        reach.value,
        spared or "",
        "" if until is None else str(to_micros(until)),
    ):
        raw = field.encode()
        digest.update(len(raw).to_bytes(4, "big"))
        digest.update(raw)
    return digest.digest()
