"""What scripts are told of revocations: their scope, and which of the script's keys hold the sessions that they may change."""

from __future__ import annotations

from keyfob.base.identifiers import SessionId
from keyfob.revocation.entry import Entry, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.stores.redis.packing import order_fields
from keyfob.stores.redis.places import STATE, sessions_at, tag_of, tag_of_session


class Orders:
    """Collects the keys behind those of the feed, each once. Keys that a script needs anyhow come first, as *keys*.

    In a cluster rows lie elsewhere, and what a script is told is another (`cluster.orders`).
    """

    def __init__(self, salt: bytes, *keys: bytes) -> None:
        self._salt = salt
        self._keys = list(keys)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Return the keys."""
        return tuple(self._keys)

    def add(self, revocation: Revocation | Entry) -> dict[str, object]:
        """Return what a script is told of *revocation*."""
        spared = revocation.spared
        return {
            **order_fields(revocation),
            "place": self._place(self._tag(revocation)),
            "spared_place": self._place(tag_of_session(spared or "")),
        }

    def _tag(self, revocation: Revocation | Entry) -> str:
        if revocation.scope is Scope.SUBJECT:
            return tag_of(self._salt, revocation.id)
        return tag_of_session(SessionId(revocation.id) if revocation.scope is Scope.SESSION else "")

    def _place(self, tag: str) -> int:
        """Return the place of the key of *tag* among all of the script's, counted from 1."""
        key = sessions_at(tag)
        if key not in self._keys:
            self._keys.append(key)
        return len(STATE) + self._keys.index(key) + 1
