"""The consent record: what a subject allows a client to do in its name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from keyfob.base.identifiers import ClientId, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """The scopes that *subject* allows *client_id*.

    It was given to the client that was made at `client_created_at`: another one that has the same id later has to ask for itself.
    """

    subject: Subject
    client_id: ClientId
    client_created_at: datetime
    scopes: frozenset[str]
    given_at: datetime
    changed_at: datetime
