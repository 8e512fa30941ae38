"""Many small requests, few statements: what is asked for in one turn of the event loop is carried out together.

1. Requests gather until the loop's turn ends, or until a batch has room: there is no timer.
2. A batch holds at most one request of each key, and none of a key that is under way: they come in turn.
3. A few batches are under way at once, so that a slow one does not hold up the rest.
4. What a batch leaves, because it would have to wait for somebody, is carried out alone: the others have their answers already.
5. If a batch fails for what one of its requests holds, each is carried out by itself.
6. Who has waited until the deadline is told so; what has not begun by then never begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Generic, TypeVar

from keyfob.base.errors import StoreUnavailable
from keyfob.stores.postgres.faults import RefusedStep

R = TypeVar("R")
A = TypeVar("A")

MAX_BATCH = 256  # requests: how long a batch may hold what it locks
MAX_AT_ONCE = 3  # batches of one kind, each on a connection
MAX_ALONE = 2  # requests of one kind that wait for somebody at once, each on a connection
MAX_WAITING = 10_000  # requests: beyond them callers are refused at once, rather than at their deadline


class Left(Enum):
    """What a batch answers instead of an answer."""

    ALONE = auto()


@dataclass(slots=True, eq=False)
class _Asked(Generic[R, A]):
    request: R
    key: Hashable
    answer: asyncio.Future[A]


class Coalescer(Generic[R, A]):
    """Gathers requests of one kind. All of its methods belong to the event loop of the store."""

    def __init__(
        self,
        carry_out: Callable[[Sequence[R]], Awaitable[Sequence[A | Left]]],
        *,
        deadline: timedelta,
        key: Callable[[R], Hashable] | None = None,
        alone: Callable[[R], Awaitable[A]] | None = None,
        at_once: int = MAX_AT_ONCE,
        most: int | None = None,
    ) -> None:
        """*carry_out* answers a batch of at most *most* (`MAX_BATCH`), in its order; *alone* one request that it left.

        *key* None: any two may be in one batch.
        """
        self._most = most
        self._carry_out = carry_out
        self._alone = alone
        self._deadline = deadline.total_seconds()
        self._key_of = key
        self._at_once = at_once
        self._waiting: list[_Asked[R, A]] = []
        self._left: list[_Asked[R, A]] = []
        self._busy: set[Hashable] = set()
        self._batches: set[asyncio.Task[None]] = set()
        self._singles: set[asyncio.Task[None]] = set()
        self._is_due = False

    async def ask(self, request: R) -> A:
        """Return the answer to *request*. A caller that is cancelled does not stop the batch.

        Raises:
            StoreUnavailable: it cannot be carried out, not in time, or too much waits.
        """
        if len(self._waiting) + len(self._left) >= MAX_WAITING:
            raise StoreUnavailable("too much waits for the database; try again")
        loop = asyncio.get_running_loop()
        key = self._key_of(request) if self._key_of else None
        asked: _Asked[R, A] = _Asked(request, key, loop.create_future())
        self._waiting.append(asked)
        self._come_soon(loop)
        alarm = loop.call_later(self._deadline, _expire, asked.answer)
        try:
            return await asked.answer
        finally:
            alarm.cancel()

    def _come_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._is_due and len(self._batches) < self._at_once:
            self._is_due = True
            loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._is_due = False
        batch = self._take()
        if not batch:
            return
        self._spawn(self._answer(batch), self._batches)
        if self._waiting:
            self._come_soon(asyncio.get_running_loop())

    def _take(self) -> list[_Asked[R, A]]:
        """Take the first that may go together; the others stay in their order. Who gave up is dropped."""
        most = MAX_BATCH if self._most is None else self._most
        batch: list[_Asked[R, A]] = []
        kept: list[_Asked[R, A]] = []
        for asked in self._waiting:
            if asked.answer.done():
                continue
            if len(batch) == most or (self._key_of and asked.key in self._busy):
                kept.append(asked)
                continue
            batch.append(asked)
            if self._key_of:
                self._busy.add(asked.key)
        self._waiting = kept
        return batch

    async def _answer(self, batch: list[_Asked[R, A]]) -> None:
        left: list[_Asked[R, A]] = []
        try:
            left = await self._answer_together(batch)
        finally:
            self._busy.difference_update(asked.key for asked in batch)
            self._busy.update(asked.key for asked in left)
            self._left += left

    async def _answer_together(self, batch: list[_Asked[R, A]]) -> list[_Asked[R, A]]:
        """Answer all of *batch* that need not wait for somebody; return the others."""
        try:
            answers = await self._carry_out([asked.request for asked in batch])
        except RefusedStep as error:
            if len(batch) > 1:
                parts = await asyncio.gather(*(self._answer_together([asked]) for asked in batch))
                return [asked for part in parts for asked in part]
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001 - raised to every caller
            _fail(batch, error)
        else:
            pairs = list(zip(batch, answers, strict=True))
            for asked, answer in pairs:
                if not isinstance(answer, Left) and not asked.answer.done():
                    asked.answer.set_result(answer)
            return [asked for asked, answer in pairs if isinstance(answer, Left)]
        return []

    async def _answer_alone(self, asked: _Asked[R, A]) -> None:
        assert self._alone is not None
        try:
            if not asked.answer.done():
                answer = await self._alone(asked.request)
                if not asked.answer.done():
                    asked.answer.set_result(answer)
        except Exception as error:  # noqa: BLE001 - raised to its caller
            _fail([asked], error)
        finally:
            self._busy.discard(asked.key)

    def _resume(self) -> None:
        while self._left and len(self._singles) < MAX_ALONE:
            self._spawn(self._answer_alone(self._left.pop(0)), self._singles)
        if self._waiting:
            self._come_soon(asyncio.get_running_loop())

    def _spawn(self, work: Coroutine[object, object, None], among: set[asyncio.Task[None]]) -> None:
        def over(task: asyncio.Task[None]) -> None:
            among.discard(task)
            self._resume()  # not before: until then its place is taken

        task = asyncio.get_running_loop().create_task(work)
        among.add(task)
        task.add_done_callback(over)


def _expire(answer: asyncio.Future[A]) -> None:
    if not answer.done():
        answer.set_exception(StoreUnavailable("the database does not answer in time; try again"))


def _fail(batch: Sequence[_Asked[R, A]], error: Exception) -> None:
    for asked in batch:
        if not asked.answer.done():
            asked.answer.set_exception(type(error)(*error.args))
