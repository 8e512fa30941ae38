"""A store is carried to another one while it is used, and the other takes its place.

1. The target is marked: nobody opens it before it is whole. Only a store that was never used is taken.
2. The source is marked: from here on each transaction notes the rows that it changes.
3. Every row is carried, page by page. The target remembers how far this came.
4. Rows that changed since are carried as they are now, or removed, until less than a page is left: the target is level.

Interrupted anywhere, the next run goes on where this one stopped. To switch:

5. The source is fenced: writers get `StoreUnavailable`. The last changes are carried, and both sides are counted and compared. Where that
   fails, the fence is taken away again.
6. The source is marked as moved: within a moment its readers are refused as well.
7. The target's mark is taken off: it can be opened.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import msgspec

from keyfob.base.clock import Clock
from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.stores.moving import Changes, Mark, Movable, Role
from keyfob.stores.records import AnyRecord, Kind
from keyfob.stores.transfer import PAGE, Tally, is_unused, tally

FOLLOW_INTERVAL = 0.2  # seconds between looks for changes once the target is level

_progress = msgspec.json.Decoder(tuple[Kind, str])


@dataclass(frozen=True, slots=True)
class Ends:
    """Both stores of a move, and where each is, without a password."""

    source: Movable
    target: Movable
    source_place: str
    target_place: str


@dataclass(frozen=True, slots=True)
class _Marks:
    source: Mark
    target: Mark


class Copier:
    """Carries one store to another. Use it within `source.exclusively()`."""

    def __init__(
        self, ends: Ends, *, clock: Clock, on_progress: Callable[[Kind, int], None] = lambda kind, count: None
    ) -> None:
        """Take both *ends*; *on_progress* is called after each page with its kind and the number of its rows."""
        self._ends = ends
        self._clock = clock
        self._on_progress = on_progress

    async def copy(self) -> int:
        """Carry everything until the target is level; return how many rows were carried. Changes stay noted from then on.

        Raises:
            ConfigurationError: the target was used before, or one of the stores is part of another move, or has moved.
            StoreUnavailable: one of them does not answer; run it again.
        """
        marks = await self._begin()
        return await self._carry_all(marks.target) + await self._level()

    async def follow(self, until: asyncio.Event) -> None:
        """Keep the target level until the event is set.

        Raises:
            StoreUnavailable: a store does not answer.
        """
        while not until.is_set():
            await self._level()
            try:
                await asyncio.wait_for(until.wait(), FOLLOW_INTERVAL)
            except TimeoutError:
                continue

    async def switch(self) -> dict[Kind, Tally]:
        """Let the target take the source's place; return what it holds. To be called after `copy`; repeated, it goes on.

        Raises:
            ConfigurationError: the two do not hold the same, and the source takes writes again; or they are no longer part of one move.
            StoreUnavailable: one of them does not answer; run it again.
        """
        marks = await self._begin()
        source = await self._advance(self._ends.source, marks.source, Role.FENCED)
        try:
            await self._drain()
            held = await self._verified()
            await self._advance(self._ends.source, source, Role.MOVED)
        except (ConfigurationError, StoreUnavailable):
            await self._let_writers_go_on(source)
            raise
        await asyncio.sleep(self._ends.source.readers_leave.total_seconds())
        await _set(self._ends.target, None, replaces=await _current(self._ends.target, source.copy_id))
        return held

    async def abandon(self) -> None:
        """Give the move up: the source is as before it, and the target, with what was carried so far, stays closed for good.

        Raises:
            ConfigurationError: the source has moved already, or is not part of a move.
            StoreUnavailable: the source does not answer.
        """
        present = await self._ends.source.mark()
        if present is None or present.role not in {Role.SOURCE, Role.FENCED}:
            raise ConfigurationError(
                f"{self._ends.source_place} is not being copied; there is nothing to abandon"
            )
        await _set(self._ends.source, None, replaces=present)

    async def _begin(self) -> _Marks:
        source, target = await self._ends.source.mark(), await self._ends.target.mark()
        if source is not None and target is not None and _belong_together(source, target):
            return _Marks(source, target)
        if source is not None:
            raise ConfigurationError(self._explain(source))
        if target is not None and (target.role is not Role.TARGET or target.progress):
            raise ConfigurationError(
                f"{self._ends.target_place} is part of another move; give an empty store"
            )
        return await self._mark_both(target)

    async def _mark_both(self, left: Mark | None) -> _Marks:
        """Mark the target, then the source; *left* is what a run that was interrupted between the two has left."""
        ends = self._ends
        await self._refuse_itself()
        target = left or Mark(role=Role.TARGET, copy_id=os.urandom(16).hex(), place=ends.source_place)
        if left is None:
            await self._refuse_used()
            await _set(ends.target, target, replaces=None)
        try:
            await self._refuse_used()  # somebody may have opened it just before it was marked
        except ConfigurationError:
            await ends.target.set_mark(None, replaces=target)
            raise
        source = Mark(role=Role.SOURCE, copy_id=target.copy_id, place=ends.target_place)
        await _set(ends.source, source, replaces=None)
        return _Marks(source, target)

    async def _refuse_itself(self) -> None:
        """Refuse one store under two names: every store has a salt of its own."""
        now = self._clock.now()
        async with self._ends.source.snapshot(now) as here, self._ends.target.snapshot(now) as there:
            rows = [await side.read(Kind.FEED, after=None, limit=1) for side in (here, there)]
        if rows[0] == rows[1]:
            raise ConfigurationError(f"{self._ends.target_place} is the store itself; give one that is new")

    async def _refuse_used(self) -> None:
        async with self._ends.target.snapshot(self._clock.now()) as snapshot:
            if not await is_unused(snapshot):
                raise ConfigurationError(
                    f"{self._ends.target_place} was used before; give a store that is new, nothing was changed"
                )

    def _explain(self, source: Mark) -> str:
        if source.role is Role.MOVED:
            return f"{self._ends.source_place} has moved to {source.place} already"
        if source.role is Role.TARGET:
            return f"{self._ends.source_place} is itself being filled from {source.place}; finish that first"
        return f"{self._ends.source_place} is being copied to {source.place}; finish that, or abandon it"

    async def _carry_all(self, mark: Mark) -> int:
        kinds = list(Kind)
        kind, after = _progress.decode(mark.progress) if mark.progress else (kinds[0], "")
        carried = 0
        for current in kinds[kinds.index(kind) :]:
            while page := await self._page(current, after):
                await self._ends.target.load(page)
                after, carried = page[-1].key, carried + len(page)
                mark = await self._note(mark, current, after)
                self._on_progress(current, len(page))
            after = ""
        return carried

    async def _page(self, kind: Kind, after: str) -> Sequence[AnyRecord]:
        async with self._ends.source.snapshot(self._clock.now()) as snapshot:
            return await snapshot.read(kind, after=after or None, limit=PAGE)

    async def _note(self, mark: Mark, kind: Kind, after: str) -> Mark:
        noted = replace(mark, progress=msgspec.json.encode((kind, after)).decode())
        await _set(self._ends.target, noted, replaces=mark)
        return noted

    async def _level(self) -> int:
        """Carry changes until a look finds less than a page of them; return how many.

        Until it found none, it might never end while others write.
        """
        carried = count = await self._carry_changes()
        while count >= PAGE:
            count = await self._carry_changes()
            carried += count
        return carried

    async def _drain(self) -> None:
        """Carry what is left while nobody writes."""
        while await self._carry_changes():
            continue

    async def _carry_changes(self) -> int:
        changes = await self._ends.source.changes(PAGE)
        if changes.through:
            await self._carry(changes)
        return len(changes.put) + len(changes.removed)

    async def _carry(self, changes: Changes) -> None:
        target = self._ends.target
        for kind in Kind:
            removed = [key for of_kind, key in changes.removed if of_kind is kind]
            if removed:
                await target.remove(kind, removed)
        if changes.put:
            await target.load(changes.put)
        await self._ends.source.forget_changes(
            changes.through
        )  # only now: carried twice is harmless, never is not

    async def _advance(self, store: Movable, mark: Mark, role: Role) -> Mark:
        """Move *mark* on to *role*; one that is further already stays."""
        order = (Role.SOURCE, Role.FENCED, Role.MOVED)
        if order.index(mark.role) >= order.index(role):
            return mark
        further = replace(mark, role=role)
        await _set(store, further, replaces=mark)
        return further

    async def _let_writers_go_on(self, source: Mark) -> None:
        """Take the fence away, where the source has not moved already; else the next run goes on from there."""
        if source.role is Role.FENCED:
            with suppress(StoreUnavailable):
                await self._ends.source.set_mark(replace(source, role=Role.SOURCE), replaces=source)

    async def _verified(self) -> dict[Kind, Tally]:
        """Return what both sides hold.

        Raises:
            ConfigurationError: they differ.
        """
        now = self._clock.now()
        async with self._ends.source.snapshot(now) as here, self._ends.target.snapshot(now) as there:
            before, after = await tally(here), await tally(there)
        different = [kind.value for kind in Kind if before[kind] != after[kind]]
        if not different:
            return after
        raise ConfigurationError(
            f"the two stores differ in {', '.join(different)}; nothing was switched: abandon this copy, and make another"
        )


def _belong_together(source: Mark, target: Mark) -> bool:
    return source.copy_id == target.copy_id and target.role is Role.TARGET and source.role is not Role.TARGET


async def _set(store: Movable, mark: Mark | None, *, replaces: Mark | None) -> None:
    if not await store.set_mark(mark, replaces=replaces):
        raise StoreUnavailable("somebody else has changed what becomes of a store; run it again")


async def _current(store: Movable, copy_id: str) -> Mark | None:
    present = await store.mark()
    if present is None or present.copy_id != copy_id:
        raise ConfigurationError("the target is no longer part of this move")
    return present
