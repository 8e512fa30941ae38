"""Which children of logins an entry ended, as every store finds them. Pure."""

from __future__ import annotations

from keyfob.base.errors import InvalidRequest
from keyfob.base.identifiers import SessionId, is_session_id
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.sessions.session import Session

_LAST_OF_A_BYTE = 0xFF


def ends_sessions(entry: Entry) -> bool:
    """Say whether *entry* can end any session."""
    return entry.reach is Reach.END and entry.scope not in {Scope.TOKEN, Scope.KEY}


def is_ended_by(session: Session, entry: Entry) -> bool:
    """Say whether *session*, as its row is and not as it stands, is a child that *entry* ended.

    One that an earlier entry ended is none, as far as its row says: a cut-off of a client or of everything writes into no row, so that a
    later entry seems to end it once more.
    """
    if session.parent_session_id is None or not ends_sessions(entry):
        return False
    family = {session.session_id, session.parent_session_id}
    if entry.spared in family or session.as_of >= entry.position:
        return False
    if session.ended_position is not None and session.ended_position < entry.position:
        return False
    match entry.scope:
        case Scope.SESSION:
            return entry.id in family
        case Scope.SUBJECT:
            return entry.id == session.subject
        case Scope.CLIENT:
            return entry.id in {session.client_id, session.parent_client_id}
        case _:
            return True


def child_place(session: Session) -> tuple[SessionId, SessionId]:
    """Return where a child stands in the order of children: by parent, then by id."""
    assert session.parent_session_id is not None
    return session.parent_session_id, session.session_id


def child_cursor(session: Session) -> str:
    """Return the cursor behind a child."""
    return ".".join(child_place(session))


def read_child_cursor(text: str) -> tuple[SessionId, SessionId]:
    """Read what `child_cursor` wrote.

    Raises:
        InvalidRequest: it is none of ours.
    """
    parent, _, own = text.partition(".")
    if not (is_session_id(parent) and is_session_id(own)):
        raise InvalidRequest("bad_cursor", "The cursor is not one that an earlier page gave.")
    return SessionId(parent), SessionId(own)


def ids_of_subject(prefix: bytes) -> tuple[bytes, bytes]:
    """Return the first and the last key that a session whose id begins with *prefix* can have: both are 16 bytes."""
    return prefix + bytes(16 - len(prefix)), prefix + bytes([_LAST_OF_A_BYTE]) * (16 - len(prefix))
