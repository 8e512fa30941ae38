"""A handler of a stream in a thread of its own, so that its call can be ended while it waits."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from keyfob.base.errors import Cause, Denied

T = TypeVar("T")


class Handoff(Generic[T]):
    """Gives what one thread produces to another, one piece at a time, until either side has had enough."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pieces: deque[T] = deque()
        self._cause: Cause | None = None
        self._told = False
        self._finished = False
        self._error: BaseException | None = None
        self._left = False

    def begin(self, produce: Callable[[], Iterable[T]], *, done: Callable[[], None]) -> None:
        """Produce in a daemon thread, with the caller's context variables. *done* is called at its end, whenever that is."""
        context = contextvars.copy_context()

        def run() -> None:
            try:
                context.run(self._produce, produce)
            finally:
                done()

        threading.Thread(target=run, name="keyfob-stream", daemon=True).start()

    def cut(self, cause: Cause) -> None:
        """End it: whoever takes the next piece is refused with *cause*, whatever else waits."""
        with self._changed:
            self._cause = cause
            self._changed.notify_all()

    @property
    def knows(self) -> bool:
        """Whether whoever takes the pieces has been told that it was cut, or has left."""
        return self._told or self._left

    def leave(self) -> None:
        """Take no more; the producer ends with its next piece. Twice is once."""
        with self._changed:
            self._left = True
            self._pieces.clear()
            self._changed.notify_all()

    def pieces(self) -> Iterator[T]:
        """Take what is produced, in order.

        Raises:
            Denied: it was cut.
            BaseException: whatever the producer raised, after what it had produced.
        """
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._pieces or self._cause is not None or self._finished or self._left
                )
                if self._cause is not None:
                    self._told = True
                    raise Denied(self._cause, "while it was guarded")
                if not self._pieces:
                    if self._error is not None:
                        raise self._error
                    return
                piece = self._pieces.popleft()
                self._changed.notify_all()
            yield piece

    def _produce(self, produce: Callable[[], Iterable[T]]) -> None:
        produced: Iterable[T] = ()
        try:
            produced = produce()
            for piece in produced:
                if not self._put(piece):
                    break
        except BaseException as error:  # noqa: BLE001 - raised by whoever takes the pieces
            self._error = error
        finally:
            close = getattr(produced, "close", None)
            if close is not None:
                close()
            with self._changed:
                self._finished = True
                self._changed.notify_all()

    def _put(self, piece: T) -> bool:
        """Give *piece* when the one before is taken; say whether anybody wants more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pieces or self._left or self._cause is not None)
            if self._left or self._cause is not None:
                return False
            self._pieces.append(piece)
            self._changed.notify_all()
            return True
