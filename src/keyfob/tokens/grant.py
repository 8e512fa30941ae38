"""What a credential is issued for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from keyfob.base.identifiers import ClientId, SessionId, Strategy, Subject
from keyfob.base.principal import Principal
from keyfob.sessions.rules import idle_limit, roles_of
from keyfob.sessions.session import Session


class SubjectClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a subject today: its roles, and further claims for its access tokens."""

    roles: frozenset[str] = frozenset()
    claims: Mapping[str, object] = msgspec.field(default_factory=dict)


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an access token says but its times, its id and `as_of`. It never outlives `ends_at`."""

    subject: Subject
    client_id: ClientId
    strategy: Strategy | None
    audience: tuple[str, ...]
    ends_at: datetime
    session_id: SessionId | None = None
    parent_session_id: SessionId | None = None
    parent_client_id: ClientId | None = None
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    auth_time: datetime | None = None
    amr: tuple[str, ...] = ()
    acr: str | None = None
    claims: Mapping[str, object] = msgspec.field(default_factory=dict)


def grant_of_session(session: Session, subject_claims: SubjectClaims, *, used_at: datetime) -> Grant:
    """Return what a session that is used at *used_at* grants, with the roles of today.

    It grants until its absolute end, or until it would idle out before that: what outlived the session could not be revoked with it.
    """
    limit = idle_limit(session)
    return Grant(
        subject=session.subject,
        client_id=session.client_id,
        strategy=session.strategy,
        audience=session.audience,
        ends_at=session.expires_at if limit is None else min(session.expires_at, used_at + limit),
        session_id=session.session_id,
        parent_session_id=session.parent_session_id,
        parent_client_id=session.parent_client_id,
        scopes=frozenset(session.scopes),
        roles=roles_of(session, subject_claims.roles),
        auth_time=session.auth_time,
        amr=session.amr,
        acr=session.acr,
        claims=subject_claims.claims,
    )


def grant_of_principal(principal: Principal, audience: tuple[str, ...]) -> Grant:
    """Return what may be handed on of a checked credential, for another audience, and for no longer than it."""
    return Grant(
        subject=principal.subject,
        client_id=principal.client_id,
        strategy=principal.strategy,
        audience=audience,
        ends_at=principal.expires_at,
        session_id=principal.session_id,
        parent_session_id=principal.parent_session_id,
        parent_client_id=principal.parent_client_id,
        scopes=principal.scopes,
        roles=principal.roles,
        auth_time=principal.auth_time,
        amr=principal.amr,
        acr=principal.acr,
        claims=principal.claims,
    )
