"""A guard for callers without an event loop: threads that serve a stream."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from keyfob.base.errors import AuthorityUnavailable, Cause, Denied
from keyfob.verifier.guard import Guard

Ended = Callable[[Cause], None]


class BlockingGuard:
    """Calls *ended* with the cause when the principal of a guard is covered, expires, or can no longer be vouched for.

    `with BlockingGuard(guard, loop=loop, ended=cut) as guard: ...`. *guard* stands on *loop*, which runs in another thread; *ended* is called
    there, once at most, and must not wait. What happens inside the block goes on until its owner has ended it. One block uses one
    guard, once.
    """

    def __init__(self, guard: Guard, *, loop: asyncio.AbstractEventLoop, ended: Ended) -> None:
        self._guard = guard
        self._loop = loop
        self._ended = ended
        self._lock = threading.Lock()
        self._left = False
        self._cause: Cause | None = None
        self._begun: Future[None] = Future()
        self._standing: Future[None] | None = None

    @property
    def cause(self) -> Cause | None:
        """Why it ended; None while it has not."""
        return self._cause

    def require(self) -> None:
        """Refuse to go on once it has ended.

        Raises:
            Denied: the cause.
        """
        if self._cause is not None:
            raise Denied(self._cause, "while it was guarded")

    def __enter__(self) -> Self:
        """Begin to guard.

        Raises:
            Denied: the principal is covered, expired, or the verifier too stale, already now.
        """
        self._standing = asyncio.run_coroutine_threadsafe(self._stand(), self._loop)
        self._standing.add_done_callback(self._abandoned)
        self._begun.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._left = True
        assert self._standing is not None
        self._standing.cancel()

    async def _stand(self) -> None:
        try:
            async with self._guard:
                self._begun.set_result(None)
                await asyncio.get_running_loop().create_future()
        except Denied as denied:
            if self._begun.done():
                self._end(denied.cause)
            else:
                self._left = True  # nothing began, so nothing is to be ended
                self._begun.set_exception(denied)

    def _abandoned(self, standing: Future[None]) -> None:
        """Close what is inside if the loop ends first: from then on nobody would notice a revocation."""
        if not self._begun.done():
            self._begun.set_exception(AuthorityUnavailable("the thread of the guards has ended"))
        self._end(Cause.VERIFIER_STALE)

    def _end(self, cause: Cause) -> None:
        with self._lock:
            if self._left or self._cause is not None:
                return
            self._cause = cause
        self._ended(cause)
