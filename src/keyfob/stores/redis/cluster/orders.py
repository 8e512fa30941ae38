"""What scripts beside the feed are told of revocations in a cluster: which slots have the rows, since they cannot reach them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from keyfob.base.identifiers import SessionId
from keyfob.revocation.canary import is_canary
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.stores.redis.cluster.keys import NOTHING, SLOTS, slot_of_tag
from keyfob.stores.redis.orders import Orders
from keyfob.stores.redis.packing import order_fields
from keyfob.stores.redis.places import STATE, tag_of, tag_of_session
from keyfob.stores.rows import session_key

ALL: Final = None
"""Every slot that is in use."""
_ALL_SLOTS: Final = "*"


def tags_of(salt: bytes, revocation: Revocation | Entry) -> Collection[str] | None:
    """Return the tags of the rows that *revocation* may change; `ALL` for those of everybody."""
    if revocation.reach is not Reach.END or revocation.scope in {Scope.TOKEN, Scope.KEY}:
        return ()
    if revocation.scope in {Scope.CLIENT, Scope.EVERYTHING}:
        return ALL
    if isinstance(revocation, Entry) and is_canary(revocation):
        return ()
    found = [tag_of_session(revocation.spared)] if revocation.spared else []
    if revocation.scope is Scope.SUBJECT:
        return {tag_of(salt, revocation.id), *found}
    if session_key(SessionId(revocation.id)) is not None:
        found.append(tag_of_session(revocation.id))
    return set(found)


def slots_of(salt: bytes, revocation: Revocation | Entry) -> Collection[int] | None:
    """Return the slots of the rows that *revocation* may change; `ALL` for every one."""
    tags = tags_of(salt, revocation)
    return ALL if tags is ALL else {slot_of_tag(tag) for tag in tags}


class ClusterOrders(Orders):
    """`Orders`, whose keys are all beside the feed; the last one is for what is known of slots."""

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Return the keys."""
        return (*self._keys, NOTHING, SLOTS)

    def add(self, revocation: Revocation | Entry) -> dict[str, object]:
        """Return what a script is told of *revocation*."""
        nothing = len(STATE) + len(self._keys) + 1
        told: dict[str, object] = {
            **order_fields(revocation),
            "place": nothing,
            "spared_place": nothing,
        }
        slots = slots_of(self._salt, revocation)
        if slots is ALL:
            told["slots"] = _ALL_SLOTS
        elif slots:
            told["slots"] = " ".join(map(str, sorted(slots)))
        return told
