"""What the scripts that mend a feed are told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from keyfob.base.clock import to_micros
from keyfob.base.events import Event
from keyfob.base.identifiers import Position, Timeline
from keyfob.revocation.entry import Entry, Head
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.store import LEAP
from keyfob.stores.redis.orders import Orders
from keyfob.stores.redis.packing import Reply, event_fields, raw
from keyfob.stores.revoking import new_timeline
from keyfob.stores.rows import DamagedRow

Told = tuple[tuple[bytes, ...], dict[str, object]]
"""The keys of a script behind those of the feed, and its argument."""


def reappending(
    orders: Orders, entries: Sequence[Entry], *, instead_of: Head, event: Event, now: datetime
) -> Told:
    """Return what reappend.lua is told."""
    told = [
        {
            **orders.add(entry),
            "position": entry.position,
            "at": to_micros(entry.at),
            "until_at": "" if entry.until is None else str(to_micros(entry.until)),
            "chain": raw(entry.chain),
        }
        for entry in entries
    ]
    return orders.keys, {
        "entries": told,
        "instead_of": _head_fields(instead_of),
        "event": event_fields(event),
        "now": to_micros(now),
    }


def beginning(
    orders: Orders, revocations: Sequence[Revocation], *, instead_of: Head, past: Position, now: datetime
) -> Told:
    """Return what begin_timeline.lua is told."""
    told = [{**orders.add(one), "event": event_fields(one.event)} for one in revocations]
    return orders.keys, {
        "orders": told,
        "instead_of": _head_fields(instead_of),
        "begun": new_timeline(),
        "past": past,
        "leap": LEAP,
        "now": to_micros(now),
    }


def read_head(reply: Reply) -> Head:
    """Return the head of a reply with timeline, position and chain.

    Raises:
        StoreUnavailable: the server has no feed: its data are gone.
    """
    timeline, position, chain = reply
    if timeline is None or position is None:
        raise DamagedRow("the feed is gone")
    return Head(timeline=Timeline(timeline.decode()), position=Position(int(position)), chain=bytes(chain))


def _head_fields(head: Head) -> tuple[str, int, msgspec.Raw]:
    return head.timeline, head.position, raw(head.chain)
