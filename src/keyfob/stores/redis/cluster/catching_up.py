"""How the rows of a slot come to what the feed says: before anything is answered from them, and before an entry may be dropped.

Each slot keeps in itself how far the feed was applied to its rows, its *mark*, and is told with each step how far it must be. So a slot that
lacks something says so, whether nobody has carried it there yet, or its node has lost it and was replaced by one that never had it:

1. What is missing is known here, or read from the feed. It is applied in one step, in its order, and at most once.
2. Of a slot that was in use and is empty, or whose mark lies before an entry that the feed no longer has, nobody can say any more what was
   ended there: all that its rows hold is cut off.
3. Only then is the step done that asked. What it answers is as of the mark, or of the last entry that is known here, if that is later.
"""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import msgspec

from keyfob.base.clock import Clock, to_micros
from keyfob.base.errors import StoreUnavailable, Unavailable
from keyfob.base.events import Event
from keyfob.base.identifiers import Position, SessionId, Timeline
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.stores.redis import places
from keyfob.stores.redis.cluster.journal import Journal
from keyfob.stores.redis.cluster.keys import SLOTS, slot_of_tag, state_at, state_keys
from keyfob.stores.redis.cluster.orders import ALL, slots_of, tags_of
from keyfob.stores.redis.cluster.slots import COUNT
from keyfob.stores.redis.packing import order_fields, read_stream_entry
from keyfob.stores.rows import span_micros

_TRIES: Final = 20  # of one step: each time something was missing, or somebody else was faster
_PAGE: Final = 1_000  # entries read in one piece
_AT_ONCE: Final = 200  # slots that are brought on at once
_HELD: Final = 10.0  # seconds after which whoever appended an entry does not carry it any more
_LOST: Final = -1  # the mark of a slot that has no state

T = TypeVar("T")
Answer = Any


class Steps(Protocol):
    """What is needed of a server."""

    salt: bytes

    def run(self, name: str, keys: Sequence[bytes], arguments: Sequence[object] = ()) -> Awaitable[Any]: ...
    def look(self, name: str, keys: Sequence[bytes], arguments: Sequence[object] = ()) -> Awaitable[Any]: ...
    def read(self, *command: object) -> Awaitable[Any]: ...
    async def read_news(self) -> object: ...
    async def read_stock(self) -> object: ...
    async def tell(self, event: Event) -> None: ...
    async def at_home(self, begin: Callable[[], Coroutine[object, object, T]]) -> T: ...
    def note_mark(self, timeline: Timeline, position: Position) -> None: ...
    def too_busy(self) -> StoreUnavailable: ...


class CatchingUp:
    """Does steps on slots, each of which is brought on first where it must be."""

    def __init__(self, server: Steps, journal: Journal, *, clock: Clock) -> None:
        self._server = server
        self._journal = journal
        self._clock = clock
        self._packer = msgspec.msgpack.Encoder()
        self._in_hand: dict[Position, float] = {}
        self._reached = array("q", bytes(8 * COUNT))
        self.has_carried = False
        """Whether something was carried since somebody took note of it."""
        self._carrying: set[asyncio.Task[Mapping[Position, int]]] = set()

    # steps

    async def step(
        self,
        name: str,
        tag: str,
        keys: Sequence[bytes],
        asked: Mapping[str, object],
        *,
        arguments: Sequence[object] = (),
    ) -> Sequence[Answer]:
        """Carry out the script *name*, which may write, on the rows at *tag* and the state of their slot.

        *asked* is its last argument, behind *arguments*.

        Raises:
            StoreUnavailable: the node that has them does not answer, or the feed, where it must be asked.
        """
        return await self._server.at_home(partial(self._step, name, tag, keys, asked, arguments))

    async def _step(
        self,
        name: str,
        tag: str,
        keys: Sequence[bytes],
        asked: Mapping[str, object],
        arguments: Sequence[object],
    ) -> Sequence[Answer]:
        slot = slot_of_tag(tag)
        pending: Mapping[str, object] = {}
        more: Sequence[bytes] = ()
        for _ in range(_TRIES):
            told = {**asked, **self._known(slot), **pending}
            answer = await self._server.run(
                f"cluster/{name}",
                (*state_keys(slot), *keys, *more),
                (*arguments, self._packer.encode(told)),
            )
            if not isinstance(answer, list) or answer[0] not in {b"behind", b"elsewhere"}:
                return answer if isinstance(answer, list) else [answer]
            if answer[0] == b"elsewhere":
                await self._meet(answer)
            else:
                # Applied in the step itself: nobody can come between.
                pending, more = await self._pending(slot, int(answer[1]), first=len(keys))
        raise self._server.too_busy()

    async def look(
        self, name: str, tag: str, arguments: Sequence[object]
    ) -> tuple[Position, Sequence[Answer]]:
        """Return what the script *name* answers about the rows at *tag*, which it reads, and of which position that is.

        Raises:
            StoreUnavailable: as `step`.
        """
        return await self._server.at_home(partial(self._look, name, tag, arguments))

    async def _look(
        self, name: str, tag: str, arguments: Sequence[object]
    ) -> tuple[Position, Sequence[Answer]]:
        slot = slot_of_tag(tag)
        keys = (state_at(slot), state_at(slot), places.sessions_at(tag))
        for _ in range(_TRIES):
            timeline, position, need = (
                self._journal.timeline,
                self._journal.position,
                self._journal.need(slot),
            )
            its_timeline, mark, *rest = await self._server.look(name, keys, arguments)
            if its_timeline is None or int(mark) < need:
                await self.bring(slot, _LOST if its_timeline is None else int(mark))
            elif its_timeline.decode() != timeline:
                await self._meet((b"elsewhere", its_timeline, mark))
            else:
                return self._as_of(Timeline(its_timeline.decode()), int(mark), position), rest
        raise self._server.too_busy()

    def _as_of(self, timeline: Timeline, mark: int, position: int) -> Position:
        if mark > position:
            self._server.note_mark(timeline, Position(mark))
        return Position(max(mark, position))

    def _known(self, slot: int) -> dict[str, object]:
        journal = self._journal
        return {"timeline": journal.timeline, "head": journal.position, "need": journal.need(slot)}

    async def _meet(self, answer: Sequence[Any]) -> None:
        """Find out about a slot that knows another timeline than this process."""
        timeline, position = Timeline(answer[1].decode()), Position(int(answer[2]))
        await self._server.read_news()
        if timeline != self._journal.timeline and position >= self._journal.position:
            self._server.note_mark(timeline, position)
            raise StoreUnavailable(
                "a part of the cluster is ahead of its feed, which is being mended; try again"
            )

    # bringing on

    async def bring(self, slot: int, mark: int | None = None) -> Mapping[Position, int]:
        """Apply to *slot* all that it lacks; return how many sessions each entry ended. *mark* is how far it is, where that is known.

        Where it is not, it is taken to lack no more than is held here; if it does, it says so.

        Raises:
            StoreUnavailable: the node that has it does not answer.
        """
        mark = self._journal.held_from(slot) if mark is None else mark
        for _ in range(_TRIES):
            pending, more = await self._pending(slot, mark, first=0)
            told = {**self._known(slot), **pending}
            answer = await self._server.run(
                "cluster/bring", (*state_keys(slot), *more), (self._packer.encode(told),)
            )
            if answer[0] == b"brought":
                self._reached[slot] = int(answer[1])
                return {Position(position): count for position, count in answer[2]}
            if answer[0] == b"elsewhere":
                await self._meet(answer)
            else:
                mark = int(answer[1])
        raise self._server.too_busy()

    async def _pending(
        self, slot: int, mark: int, *, first: int
    ) -> tuple[Mapping[str, object], Sequence[bytes]]:
        """Return what a script is told of that *slot* lacks behind *mark*, and its keys, which come behind *first* others."""
        lost = None
        if mark == _LOST:
            mark, lost = await self._make(slot)
        # At once: how far it is brought, and what there is up to there. What comes meanwhile is for the next time.
        through, missing = self._journal.position, self._journal.missing(slot, mark)
        if lost is not None:
            through, missing = lost.position, [lost]
        elif missing is None:
            through, missing = await self._read_missing(slot, mark)
        keys: list[bytes] = []
        entries = [self._told(entry, slot, keys, first) for entry in missing]
        longest = span_micros(self._journal.longest_session) or 0
        pending = {
            "since": mark,
            "through": through,
            "entries": entries,
            "longest": longest,
        }
        return {"pending": pending}, keys

    def _told(self, entry: Entry, slot: int, keys: list[bytes], first: int) -> dict[str, object]:
        tags = tags_of(self._server.salt, entry) or ()
        spared = places.tag_of_session(entry.spared) if entry.spared else None
        own = [tag for tag in tags if slot_of_tag(tag) == slot and self._is_about(entry, tag)]
        has_spared = spared is not None and slot_of_tag(spared) == slot
        return {
            **order_fields(entry),
            "position": entry.position,
            "at": to_micros(entry.at),
            "place": _place(keys, own[0], first) if own else 0,
            "spared_place": _place(keys, spared, first) if has_spared and spared else 0,
        }

    def _is_about(self, entry: Entry, tag: str) -> bool:
        if entry.scope is Scope.SUBJECT:
            return tag == places.tag_of(self._server.salt, entry.id)
        return tag == places.tag_of_session(SessionId(entry.id))

    async def _read_missing(self, slot: int, mark: int) -> tuple[Position, list[Entry]]:
        """Read from the feed what concerns *slot* behind *mark*, and up to where. Where some of it was dropped, all of the slot is cut off."""
        found: list[Entry] = []
        after, last = mark, self._journal.position
        while after < last:
            items = await self._server.read(
                b"XRANGE", places.ENTRIES, f"({after}-0", f"{last}-0", b"COUNT", _PAGE
            )
            entries = [read_stream_entry(item) for item in items]
            found += [entry for entry in entries if slot in (slots_of(self._server.salt, entry) or ())]
            if len(entries) < _PAGE:
                break
            after = entries[-1].position
        # Only now: what was dropped while it was read is noted there too.
        if mark < int(await self._server.read(b"HGET", SLOTS, b"g%d" % slot) or 0):
            lost = await self._cut_off(slot)
            return lost.position, [lost]
        return last, self._journal.with_cut_offs(found, mark, last)

    async def _make(self, slot: int) -> tuple[int, Entry | None]:
        """Make the state of *slot*; return how far it is, and what cuts it off where it was in use and has lost what it had."""
        noted = (places.META, SLOTS)
        before, role = await self._server.run("cluster/take_slot", noted, (slot, b"0"))
        # After that: another process may have made it since it was found missing.
        made = await self._server.read(b"HGET", state_at(slot), b"position")
        await self._server.read_news()
        if made is not None:
            return int(made), None
        lost = await self._cut_off(slot) if before == b"1" else None
        await self._server.run("cluster/make", (state_at(slot),), (self._journal.timeline, role))
        await self._server.run("cluster/take_slot", noted, (slot, b"1"))
        self._journal.uses(slot)
        return 0, lost

    async def _cut_off(self, slot: int) -> Entry:
        """Return what ends all that the rows of *slot* hold, as an entry would that nobody needs to follow."""
        await self._server.read_news()  # how long it matters depends on the longest session that there is
        now = self._clock.now()
        position = self._journal.position
        facts: dict[str, str | int] = {"slot": slot, "position": position}
        event = Event(at=now, code="slot_begun_anew", facts=facts)
        _log.error(
            "a part of the cluster has lost what was ended in it: the sessions of slot %d are over", slot
        )
        await self._server.tell(event)
        return Entry(
            position=position,
            at=now,
            scope=Scope.EVERYTHING,
            id="",
            reach=Reach.END,
            until=None,
            chain=b"",
        )

    # carrying entries

    def free_up_to(self, through: Position) -> Position:
        """Return how far no entry up to *through* is about to be carried by whoever appended it here."""
        now = self._clock.elapsed()
        held = (position - 1 for position, since in self._in_hand.items() if now - since < _HELD)
        return Position(min(held, default=through))

    def has_in_hand(self, entry: Entry) -> None:
        """Take note that whoever appended *entry* is about to carry it."""
        self._in_hand[entry.position] = self._clock.elapsed()

    async def know(self, position: Position) -> None:
        """Return when the entry at *position*, and all before it, are known here: the next step on their rows applies them.

        Raises:
            StoreUnavailable: the feed cannot be read.
        """
        self._in_hand.pop(position, None)
        if position > self._journal.position:
            await self._server.read_news()

    async def carry(self, entries: Sequence[Entry], *, patience: float) -> Mapping[Position, int]:
        """Carry *entries* to their rows, within *patience* seconds; what takes longer goes on. Return how many sessions each ended."""
        task = asyncio.get_running_loop().create_task(self._carry(entries))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        done, _ = await asyncio.wait({task}, timeout=patience)
        return task.result() if done else {}

    async def _carry(self, entries: Sequence[Entry]) -> Mapping[Position, int]:
        try:
            if any(entry.position > self._journal.position for entry in entries):
                await self._server.read_news()
            ended, _ = await self.bring_on(await self._slots(entries))
        except Unavailable:
            return {}  # they are denied already; the applier goes on
        finally:
            for entry in entries:
                self._in_hand.pop(entry.position, None)
        self.has_carried = True
        return ended

    async def _slots(self, entries: Iterable[Entry]) -> Collection[int]:
        found: set[int] = set()
        for entry in entries:
            slots = slots_of(self._server.salt, entry)
            if slots is ALL:
                await (
                    self._server.read_stock()
                )  # another process may use slots of which this one has not heard
                return set(self._journal.used)
            found |= set(slots)
        return found

    def lagging(self, slots: Iterable[int]) -> set[int]:
        """Return those of *slots* of which it is not known that all entries about them were applied there once."""
        return {slot for slot in slots if self._reached[slot] < self._journal.need(slot)}

    async def bring_on(
        self, slots: Collection[int]
    ) -> tuple[Mapping[Position, int], Mapping[int, Unavailable]]:
        """Bring *slots* on; return how many sessions each entry ended, and which slots could not be reached."""
        ended: defaultdict[Position, int] = defaultdict(int)
        failed: dict[int, Unavailable] = {}
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(slot: int) -> None:
            async with gate:
                try:
                    for position, count in (await self.bring(slot)).items():
                        ended[position] += count
                except Unavailable as error:
                    failed[slot] = error

        await asyncio.gather(*map(one, slots))
        return ended, failed

    async def close(self) -> None:
        """Give up what is under way."""
        for task in list(self._carrying):
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)


def _place(keys: list[bytes], tag: str, first: int) -> int:
    """Return the place of the key of *tag* among all of a script's, counted from 1."""
    key = places.sessions_at(tag)
    if key not in keys:
        keys.append(key)
    return len(places.STATE) + first + keys.index(key) + 1


_log = logging.getLogger(__name__)
