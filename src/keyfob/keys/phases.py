"""Where each key stands, and when the next one is due: pure functions of the stored keys, the policy and the time.

    announced ──▶ active ──▶ retiring ──▶ retired
                 (one key)

A revoked key is out of all of this: neither published nor used, in whichever phase it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from keyfob.base.identifiers import KeyId
from keyfob.keys.policy import KeyPolicy
from keyfob.keys.store import StoredKey

_INSTANT = timedelta(microseconds=1)


class Phase(StrEnum):
    """What is done with a key."""

    ANNOUNCED = "announced"  # published, not used yet
    ACTIVE = "active"  # published and used
    RETIRING = "retiring"  # published, and used only to check what it signed
    RETIRED = "retired"  # nothing can need it any more
    REVOKED = "revoked"  # compromised: neither published nor used


LIVING = frozenset([Phase.ANNOUNCED, Phase.ACTIVE, Phase.RETIRING])
"""The phases in which a key is published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The next key is to be made now: after which one, and when it is first used."""

    after: KeyId | None
    activates_at: datetime


def in_order(keys: Sequence[StoredKey]) -> list[StoredKey]:
    """Return *keys* by the moment of their first use, the newest last."""
    return sorted(keys, key=lambda key: (key.activates_at, key.created_at, key.key_id))


def phases(keys: Sequence[StoredKey], policy: KeyPolicy, now: datetime) -> dict[KeyId, Phase]:
    """Say where each of *keys*, all of one purpose, stands at *now*.

    A key becomes active at the instant of its `activates_at`, and is retired at the instant when its overlap is over. Where the active key
    was revoked, the first announced one takes its place at once; a key that has been replaced is never active again.
    """
    ordered = in_order(keys)
    active = _active(ordered, now)
    found: dict[KeyId, Phase] = {}
    replaced_at: datetime | None = None
    for key in reversed(ordered):
        if key.revoked_at is not None:
            found[key.key_id] = Phase.REVOKED
        elif key is active:
            found[key.key_id] = Phase.ACTIVE
        elif key.activates_at > now:
            found[key.key_id] = Phase.ANNOUNCED
        elif replaced_at is not None and now >= replaced_at + policy.overlap(key.purpose):
            found[key.key_id] = Phase.RETIRED
        else:
            found[key.key_id] = Phase.RETIRING
        if _has_begun(key, now):
            replaced_at = key.activates_at
    return found


def next_change(keys: Sequence[StoredKey], policy: KeyPolicy, now: datetime) -> datetime | None:
    """Return the first moment after *now* at which a phase of *keys* (of any purposes) changes by itself, or None."""
    moments = (
        moment
        for key in keys
        for moment in (key.activates_at, key.activates_at + policy.overlap(key.purpose))
        if moment > now
    )
    return min(moments, default=None)


def due(keys: Sequence[StoredKey], policy: KeyPolicy, now: datetime) -> Due | None:
    """Say whether the next key after *keys*, all of one purpose, is to be made at *now*.

    The first of a store is active at once, and so is one that replaces a revoked key when none was announced. Any other is published for
    `publish_ahead` before it takes over, at the end of the period of the active one.
    """
    ordered = in_order(keys)
    active = _active(ordered, now)
    if active is None:
        return at_once(keys, now)
    if any(key.activates_at > active.activates_at and key.revoked_at is None for key in ordered):
        return None
    takes_over = active.activates_at + policy.rotate_every
    if now < takes_over - policy.publish_ahead:
        return None
    return _after(ordered, max(takes_over, now + policy.publish_ahead))


def at_once(keys: Sequence[StoredKey], now: datetime) -> Due:
    """Return what makes the next key after *keys* active at *now*."""
    return _after(in_order(keys), now)


def ahead(keys: Sequence[StoredKey], policy: KeyPolicy, now: datetime) -> Due:
    """Return what makes the next key after *keys* take over as soon as it has been published long enough."""
    return _after(in_order(keys), now + policy.publish_ahead)


def announced(keys: Sequence[StoredKey], policy: KeyPolicy, now: datetime) -> StoredKey | None:
    """Return the key of *keys*, all of one purpose, that takes over next, or None."""
    standing = phases(keys, policy, now)
    return next((key for key in in_order(keys) if standing[key.key_id] is Phase.ANNOUNCED), None)


def _after(ordered: Sequence[StoredKey], activates_at: datetime) -> Due:
    # Each key is newer than all before it, so that a store can always tell which is the newest, and two that are added after the
    # same one never both stand.
    if not ordered:
        return Due(after=None, activates_at=activates_at)
    newest = ordered[-1]
    return Due(after=newest.key_id, activates_at=max(activates_at, newest.activates_at + _INSTANT))


def _active(ordered: Sequence[StoredKey], now: datetime) -> StoredKey | None:
    begun = [key for key in ordered if _has_begun(key, now)]
    if begun and begun[-1].revoked_at is None:
        return begun[-1]
    return next((key for key in ordered if key.revoked_at is None and key.activates_at > now), None)


def _has_begun(key: StoredKey, now: datetime) -> bool:
    """Say whether *key* has ever been used: not one that was revoked while it was only announced."""
    return key.activates_at <= now and (key.revoked_at is None or key.revoked_at > key.activates_at)
