"""What a login, a refresh or a renewal gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from keyfob.base.identifiers import ClientId, SessionId, Strategy, Subject
from keyfob.base.opaque import OpaqueKind, OpaqueToken
from keyfob.sessions.session import Session
from keyfob.tokens.access_token import AccessToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """Fresh credentials. Its repr shows no token.

    `expires_at` is the absolute end of the session, aware, in UTC; `expires_in` the seconds of the access token.
    """

    strategy: Strategy
    subject: Subject
    session_id: SessionId
    client_id: ClientId
    expires_at: datetime
    access_token: str | None = field(default=None, repr=False)
    expires_in: int | None = None
    refresh_token: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    persistent: bool = False


def issued_of(session: Session, *, token: OpaqueToken | None, access_token: AccessToken | None) -> Issued:
    """Put together what is handed out for *session*."""
    text = token.text() if token else None
    return Issued(
        strategy=session.strategy,
        subject=session.subject,
        session_id=session.session_id,
        client_id=session.client_id,
        expires_at=session.expires_at,
        access_token=access_token.text if access_token else None,
        expires_in=access_token.expires_in if access_token else None,
        refresh_token=text if session.kind is OpaqueKind.REFRESH else None,
        session_token=text if session.kind is OpaqueKind.SESSION else None,
        persistent=session.persistent,
    )
