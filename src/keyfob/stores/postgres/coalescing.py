"""Many small requests, few statements: what is asked for in one turn of the event loop is carried out together.

1. Requests gather until the loop's turn ends, or until a batch has room: there is no timer.
2. A batch holds at most one request of each key, and none of a key that a batch under way holds: they come in turn.
3. A few batches are under way at once, so that a slow one does not hold up the rest.
4. If a batch fails for what one of its requests holds, each is carried out alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from keyfob.base.errors import StoreUnavailable
from keyfob.stores.postgres.faults import RefusedStep

R = TypeVar("R")
A = TypeVar("A")

MAX_BATCH = 256  # requests: how long a batch may hold what it locks
MAX_AT_ONCE = 3  # batches of one kind, each on a connection
MAX_WAITING = 10_000  # requests: beyond them callers are refused at once, rather than at their deadline


@dataclass(slots=True)
class _Asked(Generic[R, A]):
    request: R
    key: Hashable
    answer: asyncio.Future[A]


class Coalescer(Generic[R, A]):
    """Gathers requests of one kind. All of its methods belong to the event loop of the store."""

    def __init__(
        self,
        carry_out: Callable[[Sequence[R]], Awaitable[Sequence[A | Exception]]],
        *,
        key: Callable[[R], Hashable] | None = None,
    ) -> None:
        """*carry_out* answers a batch, in its order; an exception is raised to whoever asked. *key* None means that any two requests may be in one batch."""
        self._carry_out = carry_out
        self._key_of = key
        self._waiting: list[_Asked[R, A]] = []
        self._busy: set[Hashable] = set()
        self._batches: set[asyncio.Task[None]] = set()
        self._is_due = False

    async def ask(self, request: R) -> A:
        """Return the answer to *request*. A caller that is cancelled does not stop the batch.

        Raises:
            StoreUnavailable: it cannot be carried out, or too much waits.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise StoreUnavailable("too much waits for the database; try again")
        loop = asyncio.get_running_loop()
        asked: _Asked[R, A] = _Asked(
            request, self._key_of(request) if self._key_of else None, loop.create_future()
        )
        self._waiting.append(asked)
        self._come_soon(loop)
        return await asked.answer

    def _come_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._is_due and len(self._batches) < MAX_AT_ONCE:
            self._is_due = True
            loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._is_due = False
        batch = self._take()
        if not batch:
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._answer(batch))
        self._batches.add(task)
        task.add_done_callback(self._batches.discard)
        if self._waiting:
            self._come_soon(loop)

    def _take(self) -> list[_Asked[R, A]]:
        """Take the first that may go together; the others stay in their order."""
        batch: list[_Asked[R, A]] = []
        left: list[_Asked[R, A]] = []
        for asked in self._waiting:
            if len(batch) == MAX_BATCH or (self._key_of and asked.key in self._busy):
                left.append(asked)
                continue
            batch.append(asked)
            if self._key_of:
                self._busy.add(asked.key)
        self._waiting = left
        return batch

    async def _answer(self, batch: list[_Asked[R, A]]) -> None:
        try:
            await self._answer_together(batch)
        finally:
            self._busy.difference_update(asked.key for asked in batch)
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._come_soon, asyncio.get_running_loop())

    async def _answer_together(self, batch: list[_Asked[R, A]]) -> None:
        try:
            answers = await self._carry_out([asked.request for asked in batch])
        except RefusedStep as error:
            if len(batch) == 1:
                _fail(batch, error)
            else:
                await asyncio.gather(*(self._answer_together([asked]) for asked in batch))
        except Exception as error:  # noqa: BLE001 - raised to every caller
            _fail(batch, error)
        else:
            for asked, answer in zip(batch, answers, strict=True):
                _settle(asked.answer, answer)


def _settle(future: asyncio.Future[A], answer: A | Exception) -> None:
    if future.done():  # cancelled
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _fail(batch: Sequence[_Asked[R, A]], error: Exception) -> None:
    for asked in batch:
        _settle(asked.answer, type(error)(*error.args))
