"""The keys that a cluster has besides those of `places`: what is known of each slot, in the slot itself and beside the feed."""

from __future__ import annotations

from typing import Final

from keyfob.stores.redis import places
from keyfob.stores.redis.cluster.slots import slot_of, tags

SLOTS: Final = b"kf:{feed}:slots"
"""By slot: how far it must be (`l`), what about it was dropped (`g`), whether it is in use (`u`); and what cut off all of them (`c`)."""
NOTHING: Final = b"kf:{feed}:nothing"
"""Never there: it stands for the rows that a script beside the feed cannot see."""
FEED_SLOT: Final = slot_of(places.META)


def state_at(slot: int) -> bytes:
    """Return the key of the state of *slot*."""
    return b"kf:{%b}:applied" % tags()[slot]


def changes_at(slot: int) -> bytes:
    """Return the key of what has changed in *slot* while the store is copied."""
    return b"kf:{%b}:changes" % tags()[slot]


def state_keys(slot: int) -> tuple[bytes, ...]:
    """Return what takes the place of `places.STATE` in a step on *slot*: one key is nearly all of them."""
    state = state_at(slot)
    return (*(state,) * (len(places.STATE) - 1), changes_at(slot))


def slot_of_tag(tag: str) -> int:
    """Return the slot of the sessions at *tag*."""
    return slot_of(places.sessions_at(tag))
