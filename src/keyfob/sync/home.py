"""Where the asynchronous authority behind a synchronous one lives: a thread with an event loop, in one process.

A fork copies neither the thread nor the locks of a database: SQLite in a child that inherits an open connection believes in locks that the
child does not hold. So an authority that can be opened again is closed before a fork and opened again by whichever process calls it next,
parent or child. One that cannot be (its sessions are in this process's memory, or the store came open, or it was in use during the
fork) stays with the parent, and the child is told.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from keyfob.authority.authority import Authority
from keyfob.authority.opening import Opening
from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.sync.thread_ends import waiting_for_ends
from keyfob.verifier.blocking_guard import BlockingGuard
from keyfob.verifier.loop_thread import LoopThread

T = TypeVar("T")

FORK_PATIENCE = 5.0
"""Seconds that a fork waits for the calls under way; after that the authority stays with the parent."""


@dataclass(frozen=True, slots=True)
class _Running:
    """An authority that is open in this process."""

    thread: LoopThread
    authority: Authority


class Home:
    """Opens an authority, carries calls to it, and sees it through forks. Every method may be called from any thread."""

    def __init__(self, opening: Callable[[], Opening[Authority]], *, reopens: bool) -> None:
        """Open it.

        Raises:
            ConfigurationError, StoreUnavailable: as `Authority.open`.
        """
        self._opening = opening
        self._reopens = reopens
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._calls = 0
        self._users = 0
        self._is_forking = False
        self._is_inherited = False
        self._is_closed = False
        self._running: _Running | None = self._open()
        _watch_forks(weakref.ref(self))

    def call(self, work: Callable[[Authority], Coroutine[object, object, T]]) -> T:
        """Carry *work* out in the authority's thread, and wait for it.

        Raises:
            ConfigurationError: this process is a fork of the one that opened it, and it cannot be opened again here.
            StoreUnavailable: it is closed, or was meanwhile.
        """
        try:
            return self.submit(work).result()
        except CancelledError:
            raise StoreUnavailable("this authority was closed meanwhile") from None

    def submit(self, work: Callable[[Authority], Coroutine[object, object, T]]) -> Future[T]:
        """Begin *work* in the authority's thread and return at once; a cancelled future means that it was closed meanwhile.

        Raises:
            ConfigurationError, StoreUnavailable: as `call`.
        """
        with self._lock:  # nothing reaches the loop once it is told to stop: nobody would answer
            running = self._require_running()
            future = running.thread.submit(work(running.authority))
            self._calls += 1
        future.add_done_callback(self._is_done)
        return future

    def _is_done(self, _: Future[T]) -> None:
        with self._changed:
            self._calls = max(0, self._calls - 1)
            self._changed.notify_all()

    def now(self) -> Authority:
        """Return the authority, for what needs no waiting.

        Raises:
            ConfigurationError, StoreUnavailable: as `call`.
        """
        running = self._running
        if running is not None and not self._is_inherited and not self._is_closed:
            return running.authority
        with self._lock:
            return self._require_running().authority

    def guard(self, make: Callable[[Authority, LoopThread], BlockingGuard]) -> BlockingGuard:
        """Return a guard that stands in the authority's thread."""
        with self._lock:
            running = self._require_running()
            return make(running.authority, running.thread)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the authority open through forks inside the block: what is under way would not survive its reopening."""
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users = max(0, self._users - 1)

    def close(self) -> None:
        """Close the authority and end its thread. Twice is once; where this process never opened it, it does nothing.

        A call that is under way in another thread raises `StoreUnavailable`.
        """
        with self._lock:
            running, self._running = self._running, None
            was_closed, self._is_closed = self._is_closed, True
        if was_closed or running is None or self._is_inherited:
            return
        _close(running)

    def _open(self) -> _Running:
        thread = LoopThread("keyfob-authority")
        try:
            return _Running(thread, thread.submit(_awaited(self._opening())).result())
        except BaseException:
            thread.stop()
            raise

    def _require_running(self) -> _Running:
        """Return what is open here, opening it again after a fork. The lock is held."""
        while self._is_forking:
            self._changed.wait()
        if self._is_inherited:
            raise ConfigurationError(
                "this authority was opened before a fork and cannot be opened again in the child: "
                "open one in each process after it (gunicorn: in post_fork)"
            )
        if self._is_closed:
            raise StoreUnavailable("this authority is closed")
        if self._running is None:
            self._running = self._open()
        return self._running

    # Forks

    def before_fork(self) -> None:
        """Close the authority, and hold whoever calls until the fork is done."""
        self._lock.acquire()
        self._is_forking = True
        running = self._running
        if running is None or not self._reopens or running.thread.is_current():
            return
        if not self._changed.wait_for(lambda: self._calls == 0 or self._users > 0, FORK_PATIENCE):
            return
        if self._users == 0:
            self._running = None
            with waiting_for_ends():
                _close(running)

    def after_fork_in_parent(self) -> None:
        """Let the callers go on."""
        self._is_forking = False
        self._changed.notify_all()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin without threads and without callers. What was left open is not touched: it is the parent's."""
        self._is_inherited = self._is_inherited or self._running is not None
        self._is_forking = False
        self._calls = self._users = 0
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)


def _watch_forks(home: weakref.ref[Home]) -> None:
    """Tell *home* of forks for as long as it lives: such hooks cannot be taken back."""
    seen: list[Home] = []

    def before() -> None:
        alive = home()
        if alive is not None:
            seen.append(
                alive
            )  # first: whatever becomes of the closing, the hooks after the fork let the callers go on
            alive.before_fork()

    def after_in_parent() -> None:
        while seen:
            seen.pop().after_fork_in_parent()

    def after_in_child() -> None:
        while seen:
            seen.pop().after_fork_in_child()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=before, after_in_parent=after_in_parent, after_in_child=after_in_child)


def _close(running: _Running) -> None:
    try:
        running.thread.submit(running.authority.close()).result()
    finally:
        running.thread.stop()


async def _awaited(opening: Opening[Authority]) -> Authority:
    return await opening
