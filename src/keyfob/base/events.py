"""Audit events: what happened, to whom, by whom."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from keyfob.base.identifiers import ClientId, SessionId, Subject


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the audit trail.

    `code` is stable (`login`, `refresh_reused`, `revoked` ...). `actor` is who caused it: a subject, `cli`, or `system`. `facts` are
    further fields for people and machines; never a secret.

    Every rotation brings one along, for the case that it ends the session, so it is a `Struct`: a frozen dataclass takes 2 µs more.
    """

    at: datetime
    code: str
    actor: str = "system"
    subject: Subject | None = None
    session_id: SessionId | None = None
    client_id: ClientId | None = None
    address: str | None = None
    reason: str | None = None
    facts: Mapping[str, str | int] = msgspec.field(default_factory=dict)
