"""A guard around something that outlives one check: a WebSocket, an event stream, a long download."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

from keyfob.base.errors import Cause, Denied
from keyfob.base.principal import Principal
from keyfob.revocation.live_entries import LiveEntries, Watch

_SOON = 0.001  # seconds: a timer that fires early looks again after this


class Now(Protocol):
    """The authority's time."""

    def now(self) -> float:
        """Return it, in seconds since the epoch."""
        ...


class View(Protocol):
    """What is known of the feed where the guard stands: in a verifier, or in the authority itself."""

    @property
    def live(self) -> LiveEntries:
        """The entries, and who is told when one of them covers a principal."""
        ...

    @property
    def time(self) -> Now:
        """The authority's time."""
        ...

    @property
    def last_level_at(self) -> float:
        """When the entries were last known to be level, in seconds since the epoch."""
        ...


class Guard:
    """Cancels the task inside it when its principal is covered (by either reach), expires, or can no longer be vouched for.

    `async with verifier.guard(principal) as guard: ...` raises `Denied` with the cause in place of the cancellation. One task uses one
    guard, once. *task* is what it cancels: by default the task that enters, which the error then reaches at once if it comes too late; another
    task is cancelled in place of that. Ten thousand guards cost one look-up per entry, and a timer each that fires once in `max_staleness`.
    """

    def __init__(
        self,
        principal: Principal,
        *,
        view: View,
        limit: float,
        verify: Callable[[str], Principal],
        task: asyncio.Task[object] | None = None,
        denied: Callable[[Cause], None] | None = None,
    ) -> None:
        """*limit* is how many seconds without a level heartbeat are borne; infinity where no feed is followed. *denied* hears why it ended."""
        self.principal = principal
        """Who is inside, by the latest credential."""
        self._view = view
        self._limit = limit
        self._verify = verify
        self._denied = denied or _tell_nobody
        self._cause: Cause | None = None
        self._watch: Watch | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task = task
        self._is_for_another = task is not None
        self._entered = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cancelling = 0

    async def __aenter__(self) -> Self:
        """Begin to guard.

        Raises:
            Denied: the principal is covered, expired, or the verifier too stale, already now, and no other task was named.
            RuntimeError: it is used a second time, or outside a task.
        """
        task = self._task or asyncio.current_task()
        if self._entered or task is None:
            raise RuntimeError("a guard is entered once, inside a task")
        self._entered, self._task, self._loop = True, task, asyncio.get_running_loop()
        self._cancelling = task.cancelling()
        # Register, then re-check: an entry that comes in between is seen by one of the two.
        self._watch = self._view.live.watch(self.principal, self._covered)
        cause = self._view.live.cause(self.principal) or self._due_cause()
        if cause is None:
            self._schedule()
        elif self._is_for_another:
            self._end(cause)
        else:
            self._leave()
            self._denied(cause)
            raise Denied(cause, "before the guard began")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()
        if self._cause is None:
            return
        assert self._task is not None
        is_ours = self._task.uncancel() <= self._cancelling
        if kind is None or (is_ours and kind is asyncio.CancelledError):
            raise Denied(self._cause, "while it was guarded") from error

    def release(self) -> None:
        """Stop guarding before the end of the block: what is left of it goes on. Twice is once."""
        self._leave()

    @property
    def cause(self) -> Cause | None:
        """Why it ended what was inside; None if it did not."""
        return self._cause

    def renew(self, token: str) -> Principal:
        """Go on under a newer credential of the same subject: until its expiry, and until it is covered.

        Raises:
            Denied: *token* does not hold, is of another subject (`unknown_session`), or the guard has ended.
            RuntimeError: the guard is not entered.
        """
        if self._watch is None:
            raise RuntimeError("the guard is not entered")
        if self._cause is not None:
            raise Denied(self._cause, "the guard has ended")
        principal = self._verify(token)
        if principal.subject != self.principal.subject:
            raise Denied(Cause.UNKNOWN_SESSION, "a credential of another subject")
        old = self._watch
        self.principal = principal
        self._watch = self._view.live.watch(principal, self._covered)
        self._view.live.unwatch(old)
        self._schedule()
        return principal

    def _covered(self, cause: Cause) -> None:
        """Called by whichever thread applied the entry."""
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed, and with it all that was inside
            self._loop.call_soon_threadsafe(self._end, cause)

    def _end(self, cause: Cause) -> None:
        """End it, unless it has ended, or what was covered is the credential before a renewal."""
        if self._cause is not None or self._watch is None:
            return
        if cause not in {Cause.EXPIRED, Cause.VERIFIER_STALE}:
            current = self._view.live.cause(self.principal)
            if current is None:
                return
            cause = current
        self._cause = cause
        self._denied(cause)
        assert self._task is not None
        self._task.cancel()

    def _due_cause(self) -> Cause | None:
        now = self._view.time.now()
        if now >= self.principal.expires_at.timestamp():
            return Cause.EXPIRED
        if now - self._view.last_level_at > self._limit:
            return Cause.VERIFIER_STALE
        return None

    def _schedule(self) -> None:
        """Look again when it would expire, or grow stale if no further heartbeat came."""
        assert self._loop is not None
        if self._timer is not None:
            self._timer.cancel()
        due = min(self.principal.expires_at.timestamp(), self._view.last_level_at + self._limit)
        self._timer = self._loop.call_later(max(_SOON, due - self._view.time.now()), self._look)

    def _look(self) -> None:
        cause = self._due_cause()
        if cause is None:
            self._schedule()
        else:
            self._end(cause)

    def _leave(self) -> None:
        if self._watch is not None:
            self._view.live.unwatch(self._watch)
            self._watch = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _tell_nobody(cause: Cause) -> None:
    """Take a cause that nobody wants to hear of."""
