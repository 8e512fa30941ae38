"""The logins at clients that a right use of a code gives: what they are, and when they end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from keyfob.base.identifiers import Position, SessionId, Strategy, Subject
from keyfob.base.opaque import OpaqueKind
from keyfob.clients.client import Client
from keyfob.grants import scope
from keyfob.grants.authorization_code import AuthorizationCode
from keyfob.sessions.session import Session
from keyfob.sessions.sessions import Login


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a request comes from, for the list of devices and the audit trail."""

    user_agent: str = ""
    address: str = ""


class SessionIds(Protocol):
    """What makes the ids of sessions."""

    def new_id_until(self, subject: Subject, ends_at: datetime, /) -> SessionId:
        """Make the id of a session whose absolute end is *ends_at*."""
        ...


def login_at(
    client: Client,
    code: AuthorizationCode,
    *,
    browser: Session,
    session_ids: SessionIds,
    longest: datetime,
    as_of: Position,
    origin: Origin,
) -> Login:
    """Return the login at *client*: a child of the *browser*'s, or with `offline_access` one of its own, until *longest* at most.

    One without a refresh token lasts as long as the browser's, so that the client can be told of its end.
    """
    is_own = client.refreshes_at_endpoint and scope.OFFLINE_ACCESS in code.scopes
    ends_at = longest if is_own else min(longest, browser.expires_at)
    return Login(
        session_id=session_ids.new_id_until(code.subject, ends_at),
        subject=code.subject,
        client_id=client.client_id,
        strategy=Strategy.HYBRID if client.refreshes_at_endpoint else Strategy.JWT,
        kind=OpaqueKind.REFRESH if client.refreshes_at_endpoint else None,
        as_of=as_of,
        ends_at=ends_at,
        audience=(code.audience,),
        scopes=tuple(sorted(code.scopes)),
        amr=code.amr,
        acr=code.acr,
        auth_time=code.auth_time,
        parent_session_id=None if is_own else code.session_id,
        parent_client_id=None if is_own else browser.client_id,
        user_agent=origin.user_agent,
        address=origin.address,
        # What somebody may do is not what they let an application do: that is what its scopes say.
        role_limit=None if client.first_party else (),
    )


def login_beside(
    login: Login, code: AuthorizationCode, *, browser: Session, session_ids: SessionIds
) -> Login | None:
    """Return the session that an ID token names where *login* is one of its own: under the *browser*'s, with no token, for as long."""
    if scope.OPENID not in code.scopes or login.parent_session_id is not None:
        return None
    return replace(
        login,
        session_id=session_ids.new_id_until(code.subject, browser.expires_at),
        strategy=Strategy.JWT,
        kind=None,
        ends_at=browser.expires_at,
        parent_session_id=code.session_id,
        parent_client_id=browser.client_id,
    )
