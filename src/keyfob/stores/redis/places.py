"""The keys of a store: everything about the feed and the small tables in one slot of a cluster, the sessions of a subject in another."""

from __future__ import annotations

import hmac
from typing import Final

from keyfob.base.identifiers import SessionId, Subject
from keyfob.stores.rows import session_key

META: Final = b"kf:{feed}:meta"
CLOSED: Final = b"kf:{feed}:closed"
"""Where `META` lies while nobody may use the store: it has moved, or is being filled."""
CHANGES: Final = b"kf:{feed}:changes"
COPIER: Final = b"kf:{feed}:copier"
CUT_OFFS: Final = b"kf:{feed}:cut-offs"
ENTRIES: Final = b"kf:{feed}:entries"
UNTIL: Final = b"kf:{feed}:until"
DROPS: Final = b"kf:{feed}:drops"
EVENTS: Final = b"kf:{feed}:events"
SIGNING_KEYS: Final = b"kf:{feed}:keys"
ACCOUNTS: Final = b"kf:{feed}:accounts"
NAMES: Final = b"kf:{feed}:names"
NAME_ORDER: Final = b"kf:{feed}:name-order"
SUBJECTS: Final = b"kf:{feed}:subjects"
CLIENTS: Final = b"kf:{feed}:clients"
ATTEMPTS: Final = b"kf:{feed}:attempts"
ATTEMPTS_AT: Final = b"kf:{feed}:attempts-at"
FAMILIAR: Final = b"kf:{feed}:familiar"
ASSERTIONS: Final = b"kf:{feed}:assertions"
VERIFIERS: Final = b"kf:{feed}:verifiers"
CANARIES: Final = b"kf:{feed}:canaries"
ONE_TIMES: Final = b"kf:{feed}:one-times"
ALIASES: Final = b"kf:{feed}:aliases"
ONE_TIMES_UNTIL: Final = b"kf:{feed}:one-times-until"
CONSENTS: Final = b"kf:{feed}:consents"
CONSENT_ORDER: Final = b"kf:{feed}:consent-order"
DELIVERIES: Final = b"kf:{feed}:deliveries"
DUE: Final = b"kf:{feed}:deliveries-due"
OVER: Final = b"kf:{feed}:deliveries-over"
CURSORS: Final = b"kf:{feed}:cursors"

STATE: Final = (META, CUT_OFFS, ENTRIES, UNTIL, DROPS, EVENTS, CHANGES)
"""What every step that writes takes first."""
HASHES: Final = (
    META, CUT_OFFS, SIGNING_KEYS, CLIENTS, SUBJECTS, ACCOUNTS, NAMES, ATTEMPTS, VERIFIERS, CANARIES,
    ONE_TIMES, ALIASES, CONSENTS, DELIVERIES, CURSORS,
)  # fmt: skip
STREAMS: Final = (ENTRIES, EVENTS)
SORTED: Final = (ATTEMPTS_AT, FAMILIAR, ASSERTIONS, DUE)
ALL_SESSIONS: Final = b"kf:{*}:s"
"""A pattern that the keys of sessions match, and no others."""
_NOWHERE: Final = "00000000"
_DIGITS: Final = 8  # hex digits of a session id that say where it lies


def tag_of(salt: bytes, subject: Subject | str) -> str:
    """Return the hash tag of *subject*: what the ids of its sessions begin with."""
    return hmac.digest(salt, subject.encode(), "sha256")[:4].hex()


def tag_of_session(session_id: SessionId | str) -> str:
    """Return the hash tag in a session id; for what is none, that of nobody."""
    return session_id[:_DIGITS] if session_key(SessionId(session_id)) is not None else _NOWHERE


def place_of(session_id: SessionId | str) -> tuple[bytes, bytes] | None:
    """Return the key and the field of a session; None for what is no session id."""
    field = session_key(SessionId(session_id))
    return None if field is None else (sessions_at(session_id[:_DIGITS]), field)


def sessions_at(tag: str) -> bytes:
    """Return the key of the rows of sessions at *tag*."""
    return f"kf:{{{tag}}}:s".encode()


def data_at(tag: str) -> bytes:
    """Return the key of what applications keep in the sessions at *tag*."""
    return f"kf:{{{tag}}}:d".encode()


def data_beside(sessions: bytes) -> bytes:
    """Return the key of the data beside the rows *sessions*."""
    return sessions[:-1] + b"d"


def field_of(session_id: SessionId | str) -> bytes:
    """Return the field of a session; empty, which none has, for what is no session id."""
    return session_key(SessionId(session_id)) or b""
