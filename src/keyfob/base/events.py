"""Audit events: what happened, to whom, by whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from keyfob.base.identifiers import ClientId, SessionId, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the audit trail.

    `code` is stable (`login`, `refresh_reused`, `revoked` ...). `actor` is who caused it: a subject, `cli`, or `system`. `facts` are
    further fields for people and machines; never a secret.
    """

    at: datetime
    code: str
    actor: str = "system"
    subject: Subject | None = None
    session_id: SessionId | None = None
    client_id: ClientId | None = None
    address: str | None = None
    reason: str | None = None
    facts: Mapping[str, str | int] = field(default_factory=dict)
