"""What is to be told to a client's server, sooner or later: one delivery, and how far the feed has been turned into deliveries."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from keyfob.base.identifiers import ClientId, Position, Timeline

MAX_DELIVERY_BODY = 32_768  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far a consumer has read the feed: everything up to `position` of `timeline` has been turned into deliveries."""

    timeline: Timeline
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Something to be delivered to the client `client_id`.

    `delivery_id` is its maker's choice: made of the entry it comes from and of whom it goes to, so that the same is never queued twice.
    It is due at `due_at`; a lease moves that on. `attempts` counts leases. At `expires_at` nobody tries any more.
    """

    delivery_id: str
    kind: str
    client_id: ClientId
    body: bytes = field(repr=False)
    created_at: datetime
    due_at: datetime
    expires_at: datetime
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How many deliveries wait, those under way among them, and when the first of them ends; None where none waits."""

    deliveries: int = 0
    first_ends: datetime | None = None
