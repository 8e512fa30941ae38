"""A checker of histories: is there an order of overlapping calls, each at one instant between its begin and its end, that explains all answers?

A search as Wing and Gong described it: of the calls that no other call must precede, one is taken that the model answers as the store did,
and so on; a set of calls done with the state behind them is never searched twice. It needs a model whose states can be hashed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)
O = TypeVar("O")  # noqa: E741 - an order: what was asked
A = TypeVar("A")
O_contra = TypeVar("O_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)

MAX_STATES = 200_000
"""States that one search looks at before it gives up, which is an error and never a verdict: about ten seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[O, A]):
    """One call of a history: what was asked and answered, and when it began and ended, on one clock of all callers.

    `ended` None: nobody knows whether it took effect (its caller was killed); then `answer` does not count.
    """

    order: O
    answer: A | None
    began: float
    ended: float | None


class Model(Protocol[S, O_contra, A_co]):
    """What a store must do, one call at a time. Pure."""

    def start(self) -> S:
        """Return the state before the first call."""
        ...

    def step(self, state: S, order: O_contra) -> tuple[S, A_co]:
        """Return the state after *order*, and the answer to it."""
        ...


class Undecided(Exception):
    """The history is too wide to be searched: record fewer calls, or fewer at once."""


def explain(
    model: Model[S, O, A],
    history: Sequence[Call[O, A]],
    *,
    matches: Callable[[A, A], bool] = lambda expected, answered: expected == answered,
    max_states: int = MAX_STATES,
) -> list[Call[O, A]] | None:
    """Return an order of *history* in which *model* gives the same answers; None if there is none: the store is broken.

    Calls that touch each other in time (one ends at the instant at which another begins) may go either way. A call without an end may be
    left out, or take effect at any time after its beginning.

    Raises:
        Undecided: more than *max_states* states were met.
    """
    search = _Search(model, sorted(history, key=lambda call: call.began), matches, max_states)
    return search.run()


class _Search(Generic[S, O, A]):
    def __init__(
        self,
        model: Model[S, O, A],
        calls: list[Call[O, A]],
        matches: Callable[[A, A], bool],
        max_states: int,
    ) -> None:
        self._model = model
        self._calls = calls
        self._matches = matches
        self._max_states = max_states
        self._seen: set[tuple[int, S]] = set()
        self._needed = sum(1 << place for place, call in enumerate(calls) if call.ended is not None)

    def run(self) -> list[Call[O, A]] | None:
        """Search, depth first, without recursion: a history may be long."""
        path: list[int] = []
        stack = [self._next(0, self._model.start())]
        if not self._needed:
            return []
        while stack:
            step = next(stack[-1], None)
            if step is None:
                stack.pop()
                if path:
                    path.pop()
                continue
            place, done, state = step
            path.append(place)
            if done & self._needed == self._needed:
                return [self._calls[place] for place in path]
            stack.append(self._next(done, state))
        return None

    def _next(self, done: int, state: S) -> Iterator[tuple[int, int, S]]:
        """Yield each call that may come next, with what is done and the state after it."""
        for place in self._possible(done):
            call = self._calls[place]
            after, answer = self._model.step(state, call.order)
            if call.ended is not None and not self._matches(answer, call.answer):  # type: ignore[arg-type]
                continue
            reached = (done | 1 << place, after)
            if reached in self._seen:
                continue
            if len(self._seen) >= self._max_states:
                raise Undecided(f"more than {self._max_states} states")
            self._seen.add(reached)
            yield place, *reached

    def _possible(self, done: int) -> Iterable[int]:
        """Yield the places of calls that no call left must precede."""
        first_end = float("inf")
        for place, call in enumerate(self._calls):  # by their beginnings
            if call.began > first_end:
                return
            if done >> place & 1:
                continue
            yield place
            if call.ended is not None:
                first_end = min(first_end, call.ended)
