"""The live entries of one moment in a compact table: at most 150 bytes each, and no pause from growing.

Scopes of which there may be a million (token, session, subject, client) are kept by a 60-bit hash of the id, in 1024 dictionaries each,
so that none is ever so large that its growth holds the interpreter. The hash is Python's own of strings: SipHash under a key of this
process. Two ids share one with a chance of 1 in 10^18, and then a credential is denied that need not be: the safe side.

One unspared entry of an id is packed into one integer:

    position << 33 | until << 1 | claims            until: seconds since the epoch, rounded up; all ones is never

More of one id are a tuple of `_Mark`.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from keyfob.base.clock import to_micros
from keyfob.base.identifiers import SessionId
from keyfob.revocation.coverage import Credential
from keyfob.revocation.entry import Entry, Reach, Scope

MAX_MARKS = (
    100  # entries of one id that are told apart; past it the sparing ones become one of reach `claims`
)
_SHARD_BITS = 10
_HASH_BITS = 60  # an integer of 60 bits takes 32 bytes, one of 61 takes 48
_HASH_MASK = (1 << _HASH_BITS) - 1
_SHIFT = _HASH_BITS - _SHARD_BITS
_UNTIL_BITS = 32
_NEVER = (1 << _UNTIL_BITS) - 1
_POSITION_SHIFT = _UNTIL_BITS + 1
_HASHED = (Scope.TOKEN, Scope.SESSION, Scope.SUBJECT, Scope.CLIENT)
_EVERYTHING = len(_HASHED)  # its number in the buckets


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Many entries of one scope and reach that spare nobody, in columns: how a snapshot carries them.

    `untils` are in seconds since the epoch, rounded up; -1 is never.
    """

    scope: Scope
    reach: Reach
    positions: Sequence[int]
    untils: Sequence[int]
    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Mark:
    position: int
    until: int
    claims: bool
    spared: SessionId | None

    def covers(self, credential: Credential) -> bool:
        return self.position > credential.as_of and (
            self.spared is None or self.spared not in {credential.session_id, credential.parent_session_id}
        )


_Held = int | tuple[_Mark, ...]
_Shards = list[dict[int, _Held]]


class EntryTable:
    """Live entries by what they cover. One thread writes; any may look up meanwhile."""

    __slots__ = ("_buckets", "_due", "_everything", "_keys", "_shards", "_used")

    def __init__(self) -> None:
        self._shards: tuple[_Shards, ...] = tuple(_new_shards() for _ in _HASHED)
        self._used = [False] * len(_HASHED)
        self._everything: tuple[_Mark, ...] = ()
        self._keys: frozenset[str] = frozenset()
        # What runs out in which second: hashes with the number of their scope above them.
        self._buckets: dict[int, array[int]] = {}
        self._due: list[int] = []

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> EntryTable:
        """Return a table that holds *entries*."""
        table = cls()
        for entry in entries:
            table.add(entry)
        return table

    def __len__(self) -> int:
        hashed = sum(len(shard) for shards in self._shards for shard in shards)
        return hashed + len(self._everything) + len(self._keys)

    def add(self, entry: Entry) -> None:
        """Hold *entry*, too. One whose `until` is past is held until the next `drop_expired`."""
        if entry.scope is Scope.KEY:
            self._keys |= {entry.id}
            return
        mark = _Mark(
            position=entry.position,
            until=_NEVER if entry.until is None else min(until_seconds(entry.until), _NEVER),
            claims=entry.reach is Reach.CLAIMS,
            spared=entry.spared,
        )
        if entry.scope is Scope.EVERYTHING:
            self._everything = _merged(self._everything, mark)
            self._schedule(_EVERYTHING << _HASH_BITS, mark.until)
            return
        number = _HASHED.index(entry.scope)
        key = hash(entry.id) & _HASH_MASK
        shard = self._shards[number][key >> _SHIFT]
        held = shard.get(key)
        shard[key] = _packed(mark) if held is None else _pack(_merged(_marks(held), mark))
        self._used[number] = True
        self._schedule(number << _HASH_BITS | key, mark.until)

    def add_columns(self, columns: Columns) -> None:
        """Hold every entry of *columns*: `add` for a million of them, at about a microsecond each.

        Raises:
            ValueError: the scope has no columns.
        """
        number = _HASHED.index(columns.scope)
        shards = self._shards[number]
        tag, claims = number << _HASH_BITS, columns.reach is Reach.CLAIMS
        for position, until, name in zip(columns.positions, columns.untils, columns.ids, strict=True):
            if not 0 <= until < _NEVER:
                until = _NEVER
            key = hash(name) & _HASH_MASK
            shard = shards[key >> _SHIFT]
            if key in shard:
                mark = _Mark(position=position, until=until, claims=claims, spared=None)
                shard[key] = _pack(_merged(_marks(shard[key]), mark))
            else:
                shard[key] = position << _POSITION_SHIFT | until << 1 | claims
            bucket = self._buckets.get(until)
            if bucket is None:
                self._schedule(tag | key, until)
            else:
                bucket.append(tag | key)
        self._used[number] = True

    def retain(self, former: EntryTable) -> None:
        """Hold whatever *former* holds, too, which is left as it is. What both hold costs a look-up, and no memory."""
        self._keys |= former._keys
        for mark in former._everything:
            self._everything = _merged(self._everything, mark)
            self._schedule(_EVERYTHING << _HASH_BITS, mark.until)
        for number, shards in enumerate(former._shards):
            if former._used[number]:
                self._retain(number, shards)
                self._used[number] = True

    def _retain(self, number: int, shards: _Shards) -> None:
        for own, others in zip(self._shards[number], shards, strict=True):
            for key, held in others.items():
                present = own.get(key)
                if present == held:
                    continue
                marks = () if present is None else _marks(present)
                for mark in _marks(held):
                    marks = _merged(marks, mark)
                    self._schedule(number << _HASH_BITS | key, mark.until)
                own[key] = _pack(marks)

    def reach_over(self, credential: Credential) -> Reach | None:
        """Return the reach of what covers *credential*; `END` if anything of that reach does."""
        if self._keys and credential.key_id in self._keys:
            return Reach.END
        found: Reach | None = None
        used = self._used
        for number, name in (
            (1, credential.session_id),
            (1, credential.parent_session_id),
            (2, credential.subject),
            (3, credential.client_id),
            (3, credential.parent_client_id),
            (0, credential.token_id),
        ):
            if name is None or not used[number]:
                continue
            key = hash(name) & _HASH_MASK
            held = self._shards[number][key >> _SHIFT].get(key)
            if held is not None:
                reach = _reach_of(held, credential)
                if reach is Reach.END:
                    return reach
                found = found or reach
        return _stronger(found, _reach_of(self._everything, credential)) if self._everything else found

    def drop_expired(self, now: datetime, *, limit: int = 10_000) -> int:
        """Drop entries whose `until` is reached at *now*; return how many of at most *limit* were looked at.

        An entry goes in the second after its `until` at the latest, if this is called often enough to stay below *limit*.
        """
        current = to_micros(now) // 1_000_000
        looked = 0
        while self._due and self._due[0] <= current and looked < limit:
            bucket = self._buckets[self._due[0]]
            while bucket and looked < limit:
                self._drop(bucket.pop(), current)
                looked += 1
            if not bucket:
                del self._buckets[heapq.heappop(self._due)]
        return looked

    def _schedule(self, tagged: int, until: int) -> None:
        if until == _NEVER:
            return
        bucket = self._buckets.get(until)
        if bucket is None:
            bucket = self._buckets[until] = array("Q")
            heapq.heappush(self._due, until)
        bucket.append(tagged)

    def _drop(self, tagged: int, current: int) -> None:
        number, key = tagged >> _HASH_BITS, tagged & _HASH_MASK
        if number == _EVERYTHING:
            self._everything = tuple(mark for mark in self._everything if mark.until > current)
            return
        shard = self._shards[number][key >> _SHIFT]
        held = shard.get(key)
        if held is None:
            return
        if isinstance(held, int):
            if held >> 1 & _NEVER <= current:
                del shard[key]
            return
        left = tuple(mark for mark in _marks(held) if mark.until > current)
        if left:
            shard[key] = _pack(left)
        else:
            del shard[key]


def _new_shards() -> _Shards:
    return [{} for _ in range(1 << _SHARD_BITS)]


def until_seconds(until: datetime) -> int:
    """Return *until* in seconds since the epoch, rounded up, so that nothing is dropped early."""
    return -(-to_micros(until) // 1_000_000)


def _packed(mark: _Mark) -> _Held:
    if mark.spared is not None:
        return (mark,)
    return mark.position << _POSITION_SHIFT | mark.until << 1 | mark.claims


def _pack(marks: tuple[_Mark, ...]) -> _Held:
    return _packed(marks[0]) if len(marks) == 1 else marks


def _marks(held: _Held) -> tuple[_Mark, ...]:
    if not isinstance(held, int):
        return held
    return (
        _Mark(
            position=held >> _POSITION_SHIFT,
            until=held >> 1 & _NEVER,
            claims=bool(held & 1),
            spared=None,
        ),
    )


def _merged(marks: tuple[_Mark, ...], new: _Mark) -> tuple[_Mark, ...]:
    """Add *new* to *marks*. Two that differ in position and until alone become one that covers what both do, as long as either."""
    kept = []
    for mark in marks:
        if (mark.claims, mark.spared) == (new.claims, new.spared):
            new = _Mark(max(mark.position, new.position), max(mark.until, new.until), new.claims, new.spared)
        else:
            kept.append(mark)
    kept.append(new)
    return tuple(kept) if len(kept) <= MAX_MARKS else _folded(kept)


def _folded(marks: list[_Mark]) -> tuple[_Mark, ...]:
    """Make one unsparing `claims` mark of all that spare a session: the spared are re-read, nobody covered gets through."""
    folded = _Mark(max(mark.position for mark in marks), max(mark.until for mark in marks), True, None)
    return (*(mark for mark in marks if mark.spared is None and not mark.claims), folded)


def _reach_of(held: _Held, credential: Credential) -> Reach | None:
    if isinstance(held, int):
        if held >> _POSITION_SHIFT <= credential.as_of:
            return None
        return Reach.CLAIMS if held & 1 else Reach.END
    return _strongest(mark for mark in held if mark.covers(credential))


def _stronger(one: Reach | None, other: Reach | None) -> Reach | None:
    return Reach.END if Reach.END in {one, other} else one or other


def _strongest(marks: Iterator[_Mark]) -> Reach | None:
    found: Reach | None = None
    for mark in marks:
        if not mark.claims:
            return Reach.END
        found = Reach.CLAIMS
    return found
