"""The access token of a service that calls others: fetched once for all who need it, and renewed before it ends.

Whoever asks first fetches, on a thread of its own; all others, threads and tasks alike, wait for that one answer. From 70 to 90 % of its
life on (a different moment for each token, so that the instances of a service do not come all at once) a token is renewed behind the
scenes while it goes on being used.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from keyfob.base.clock import Clock
from keyfob.base.errors import AuthorityUnavailable, Cause, KeyfobError, Unavailable

EARLIEST, LATEST = 0.7, 0.9  # of a token's life: when it is renewed
MARGIN: Final = 5.0  # seconds before its end, at most a tenth of its life, in which a token is no longer sent
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds between attempts that fail, doubling
FORCED_RENEWALS: Final = 10  # of tokens that were refused, in `FORCED_WITHIN`: a service that refuses everything is no flood for the authority
FORCED_WITHIN: Final = 60.0  # seconds
HELPED_BY_A_NEW_TOKEN: Final = frozenset(
    {Cause.EXPIRED, Cause.STALE_CLAIMS, Cause.UNKNOWN_KEY, Cause.REVOKED}
)
"""What a refused service does something about by itself (docs/reference/denials.md): its credentials are its login."""


@dataclass(frozen=True, slots=True)
class FetchedToken:
    """A token, and for how many seconds it is good."""

    text: str = field(repr=False)
    lifetime: float


@dataclass(frozen=True, slots=True)
class _Held:
    text: str = field(repr=False)
    renew_at: float
    ends_at: float


class ServiceTokens:
    """Holds the token of one service. Every method may be called from any thread and any event loop."""

    def __init__(
        self,
        fetch: Callable[[], FetchedToken],
        *,
        clock: Clock,
        draw: Callable[[float, float], float] = random.uniform,  # when, not what: nobody gains by guessing it
    ) -> None:
        """Take what fetches a token, blocking; *draw* gives a number between two others."""
        self._fetch = fetch
        self._clock = clock
        self._draw = draw
        self._lock = threading.Lock()
        self._held: _Held | None = None
        self._in_flight: Future[str] | None = None
        self._failure: KeyfobError | None = None
        self._failures = 0
        self._try_again_at = 0.0
        self._forced: deque[float] = deque(maxlen=FORCED_RENEWALS)
        os.register_at_fork(after_in_child=self._forget_thread)

    def token(self, *, instead_of: str | None = None) -> str:
        """Return a token that is good; with *instead_of*, another one than that, which was refused.

        Where too many were refused in the last minute, it may be *instead_of* itself.

        Raises:
            KeyfobError: what fetching it raised, now or a moment ago.
        """
        found = self._find(instead_of)
        return found if isinstance(found, str) else found.result()

    async def token_soon(self, *, instead_of: str | None = None) -> str:
        """Do as `token`, without holding the event loop. A task that is cancelled takes nothing from the others.

        Raises:
            KeyfobError: what fetching it raised, now or a moment ago.
        """
        found = self._find(instead_of)
        return found if isinstance(found, str) else await asyncio.wrap_future(found)

    def _find(self, refused: str | None) -> str | Future[str]:
        with self._lock:
            now = self._clock.elapsed()
            held = self._held
            if held is not None and now < held.ends_at and (held.text != refused or not self._may_force(now)):
                if now >= held.renew_at and now >= self._try_again_at and self._in_flight is None:
                    with suppress(AuthorityUnavailable):  # this one is still good
                        self._begin()
                return held.text
            if self._in_flight is not None:
                return self._in_flight
            if self._failure is not None and now < self._try_again_at:
                raise self._failure.with_traceback(None)  # else it would grow with everybody who hears of it
            return self._begin()

    def _may_force(self, now: float) -> bool:
        """Say whether a token that was refused may be replaced at *now*, and count it."""
        if self._in_flight is not None:
            return True
        if len(self._forced) == FORCED_RENEWALS and now - self._forced[0] < FORCED_WITHIN:
            return False
        self._forced.append(now)
        return True

    def _begin(self) -> Future[str]:
        future: Future[str] = Future()
        future.set_running_or_notify_cancel()  # so that nobody who waits can cancel it for the others
        try:
            threading.Thread(target=self._run, args=(future,), name="keyfob-token", daemon=True).start()
        except RuntimeError:  # too many threads, or the interpreter ends
            raise AuthorityUnavailable("the token cannot be fetched: no thread can be started") from None
        self._in_flight = future
        return future

    def _run(self, future: Future[str]) -> None:
        began = self._clock.elapsed()
        try:
            fetched = self._fetch()
        except KeyfobError as error:
            self._fail(future, error)
        except Exception as error:  # noqa: BLE001 - the edge of a thread: whoever waits must hear of it
            self._fail(future, AuthorityUnavailable(f"the token cannot be fetched: {type(error).__name__}"))
        else:
            self._keep(future, fetched, began)

    def _keep(self, future: Future[str], fetched: FetchedToken, began: float) -> None:
        renew_at = began + fetched.lifetime * self._draw(EARLIEST, LATEST)
        ends_at = began + fetched.lifetime - min(MARGIN, fetched.lifetime / 10)
        with self._lock:
            self._held = _Held(fetched.text, renew_at, ends_at)
            self._in_flight = self._failure = None
            self._failures = 0
            self._try_again_at = 0.0
        future.set_result(fetched.text)

    def _fail(self, future: Future[str], error: KeyfobError) -> None:
        wait = min(FIRST_WAIT * 2**self._failures, LONGEST_WAIT) * self._draw(0.5, 1.0)
        if isinstance(error, Unavailable):
            wait = max(wait, min(error.retry_after, LONGEST_WAIT))
        with self._lock:
            self._in_flight = None
            self._failure = error
            self._failures = min(self._failures + 1, 10)
            self._try_again_at = self._clock.elapsed() + wait
        future.set_exception(error)

    def _forget_thread(self) -> None:
        """Begin anew in a forked child: it has no thread that would ever answer. The token stays good."""
        self._lock = threading.Lock()
        self._in_flight = None
