"""What a verifier, and the authority itself, holds of the feed: the entries that can still matter, and the one rule over them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from keyfob.base.errors import Cause
from keyfob.base.identifiers import Position, Timeline
from keyfob.base.principal import Principal
from keyfob.revocation.entry import CHAIN_START, Entry, Head, Reach, Scope, next_chain
from keyfob.revocation.entry_table import EntryTable

ISSUER_SKEW = timedelta(seconds=5)
"""How far `iat`, rounded down to a second and told by another authority's clock, may lie before a head that the token knew better."""

NO_HEAD = Head(timeline=Timeline(""), position=Position(0), chain=CHAIN_START)
"""The head before anything was heard: of no timeline, so that every credential is covered."""

_WatchKey = tuple[Scope, str]


class FeedGap(Exception):
    """The entries do not continue what is held: whoever holds them must resynchronise."""


class Watch:
    """One credential that is watched; see `LiveEntries.watch`."""

    __slots__ = ("ended", "keys", "principal")

    def __init__(
        self, principal: Principal, keys: tuple[_WatchKey, ...], ended: Callable[[Cause], None]
    ) -> None:
        self.principal = principal
        self.keys = keys
        self.ended = ended


class LiveEntries:
    """The live entries, the head that they reach, and a counter of changes.

    One thread writes (`apply`, `replace`, `confirm`, `drop_expired`); any number look up at once, without a lock. A reader that keeps a
    verdict reads `changes` *first* and looks up then; a writer inserts first and raises `changes` then (design.md, precondition 10). So
    while `changes` is what it was, nothing that the verdict rests on has changed.
    """

    def __init__(self) -> None:
        self.changes = 0
        """Raised by every apply and replace; never goes back."""
        self.confirmed_at: datetime | None = None
        """The latest moment at which a signed head was no further than `head`: see `confirm`."""
        self.forged_as_of = 0
        """How many credentials claimed a position that did not exist yet: each is an alarm (design.md, precondition 1)."""
        # Head and table change hands together, so that nobody looks up one timeline under the head of another.
        self._state = (NO_HEAD, EntryTable())
        self._watches: dict[_WatchKey, dict[Watch, None]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._state[1])

    @property
    def head(self) -> Head:
        """How far the entries reach."""
        return self._state[0]

    def apply(self, entries: Sequence[Entry]) -> None:
        """Add *entries*, which continue the head, and tell the watches that they cover.

        Nothing is added if any of them does not fit.

        Raises:
            FeedGap: a position is missing, repeated or out of order, or the chain does not hold.
        """
        if not entries:
            return
        old, table = self._state
        head = _continued(old, entries)
        for entry in entries:
            table.add(entry)
        self._state = (head, table)
        self.changes += 1
        for entry in entries:
            self._tell(entry)

    def replace(self, head: Head, entries: Iterable[Entry] | EntryTable) -> None:
        """Hold *entries* up to *head* and nothing else, in one swap; re-check every watch.

        A prepared `EntryTable` is taken over; it may have been filled in another thread.
        """
        table = entries if isinstance(entries, EntryTable) else EntryTable.of(entries)
        self._state = (head, table)
        self.changes += 1
        with self._lock:
            watches = {watch: None for group in self._watches.values() for watch in group}
        for watch in watches:
            self._recheck(watch)

    def join(self, head: Head, table: EntryTable) -> None:
        """Hold *table*, which is taken over, up to *head*, and whatever is held already until it runs out; re-check every watch.

        In one history that is the same as `replace`, since whatever is live is in both. Where a store went back and lost entries, what they
        revoked stays revoked for whoever held them.
        """
        table.retain(self._state[1])
        self.replace(head, table)

    def confirm(self, at: datetime) -> None:
        """Note that at the moment *at* no entry existed beyond `head`, as a signed head said. Never goes back."""
        if self.confirmed_at is None or at > self.confirmed_at:
            self.confirmed_at = at

    def cause(self, principal: Principal) -> Cause | None:
        """Apply the one rule: `revoked`, `stale_claims`, or None where nothing covers *principal*.

        `revoked` comes first. A credential of another timeline, or of none, is `revoked`: its `as_of` says nothing here. So is a JWT with an
        `as_of` past a head that was signed after its `iat`: its issuer cannot have known that position.
        """
        head, table = self._state
        if principal.timeline != head.timeline:
            return Cause.REVOKED
        if principal.as_of > head.position and self._is_forged(principal):
            self.forged_as_of += 1
            return Cause.REVOKED
        reach = table.reach_over(principal)
        if reach is None:
            return None
        return Cause.REVOKED if reach is Reach.END else Cause.STALE_CLAIMS

    def is_settled(self, principal: Principal) -> bool:
        """Say whether the head has reached what the credential's issuer knew; until then a verdict about it must not be kept."""
        return principal.as_of <= self.head.position

    def drop_expired(self, now: datetime, *, limit: int = 10_000) -> int:
        """Drop entries whose `until` is reached at *now*, looking at up to *limit*; return how many were looked at."""
        return self._state[1].drop_expired(now, limit=limit)

    def watch(self, principal: Principal, ended: Callable[[Cause], None]) -> Watch:
        """Call *ended* with the cause when an entry covers *principal*, at once if one does already.

        Registers, then re-checks (design.md, precondition 13), so nothing falls in between; *ended* may therefore be called twice. It is
        called by the thread that writes, or by this one, and must not block.
        """
        watch = Watch(principal, tuple(_watch_keys(principal)), ended)
        with self._lock:
            for key in watch.keys:
                self._watches.setdefault(key, {})[watch] = None
        self._recheck(watch)
        return watch

    def unwatch(self, watch: Watch) -> None:
        """Forget *watch*. Twice is once."""
        with self._lock:
            for key in watch.keys:
                group = self._watches.get(key, {})
                group.pop(watch, None)
                if not group:
                    self._watches.pop(key, None)

    def renew_locks(self) -> None:
        """Make the locks anew in a forked child, where their holder does not exist."""
        self._lock = threading.Lock()

    def _is_forged(self, principal: Principal) -> bool:
        if principal.key_id is None or self.confirmed_at is None:  # a session of the store is no signed claim
            return False
        return self.confirmed_at > principal.issued_at + ISSUER_SKEW

    def _tell(self, entry: Entry) -> None:
        key = (entry.scope, entry.id)
        if key not in self._watches:
            return
        with self._lock:
            watches = list(self._watches.get(key, ()))
        for watch in watches:
            self._recheck(watch)

    def _recheck(self, watch: Watch) -> None:
        cause = self.cause(watch.principal)
        if cause is not None:
            watch.ended(cause)


def _continued(head: Head, entries: Sequence[Entry]) -> Head:
    """Return the head after *entries*, each of which must follow the one before, position and chain."""
    position, chain = head.position, head.chain
    for entry in entries:
        position = Position(position + 1)
        if entry.position != position:
            raise FeedGap(f"wanted the entry at position {position}, got {entry.position}")
        chain = next_chain(
            chain,
            position=position,
            at=entry.at,
            scope=entry.scope,
            id=entry.id,
            reach=entry.reach,
            spared=entry.spared,
            until=entry.until,
        )
        if entry.chain != chain:
            raise FeedGap(f"the chain does not hold at position {position}")
    return Head(timeline=head.timeline, position=position, chain=chain)


def _watch_keys(principal: Principal) -> Iterator[_WatchKey]:
    yield Scope.EVERYTHING, ""
    yield Scope.SUBJECT, principal.subject
    yield Scope.CLIENT, principal.client_id
    if principal.session_id is not None:
        yield Scope.SESSION, principal.session_id
    if principal.parent_session_id is not None:
        yield Scope.SESSION, principal.parent_session_id
    if principal.parent_client_id is not None:
        yield Scope.CLIENT, principal.parent_client_id
    if principal.token_id is not None:
        yield Scope.TOKEN, principal.token_id
    if principal.key_id is not None:
        yield Scope.KEY, principal.key_id
