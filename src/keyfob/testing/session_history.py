"""Histories of a `SessionStore` under load: what many callers ask and are answered, recorded, and held against the model.

class TestMyHistories(SessionHistories):
    @pytest.fixture
    async def store(self, clock): ...          # as for every contract class; `racers` as for the races
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain as joined
from typing import ClassVar

import pytest

from keyfob.base.clock import SystemClock
from keyfob.base.identifiers import SessionId, Subject
from keyfob.revocation.entry import Scope
from keyfob.sessions.session import Session
from keyfob.sessions.store import (
    AlreadyEnded,
    Current,
    Ended,
    EndOutcome,
    Found,
    Renewal,
    Renewed,
    Replayed,
    Reused,
    Rotated,
    RotateOutcome,
    Seen,
    Unknown,
)
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.linearizability import Call, explain
from keyfob.testing.racers import Racers, ThreadRacers
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.session_model import (
    UNKNOWN,
    Add,
    Answer,
    End,
    EndSubject,
    Find,
    Order,
    Renew,
    Rotate,
    SessionModel,
    Touch,
)
from keyfob.testing.store_contract import (
    WINDOW,
    Store,
    StoreContract,
    a_session,
    an_event,
    digest_of,
    position,
    put,
    revocation,
)

CALLERS = 4
ORDERS = 12  # by each caller: wide enough to race, small enough to be searched in milliseconds
SESSIONS = 3
NO_WINDOW = timedelta(0)

SessionCall = Call[Order, Answer]


class SessionHistories(StoreContract):
    """Every history of a store can be explained by one order of its calls, exactly; see `LooseHistories` for a weaker promise."""

    rounds: ClassVar[int] = 10

    @pytest.fixture
    def racers(self, store: Store) -> Racers | Iterator[Racers]:
        """Give the callers."""
        return ThreadRacers(store)

    async def test_every_history_has_one_order_that_explains_it(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        for round_ in range(self.rounds):
            head = await position(store)
            history = self.record(store, clock, racers, seed=round_)
            order = explain(SessionModel(head), history, matches=self.matches)
            assert order is not None, _shown(history)

    def record(self, store: Store, clock: FrozenClock, racers: Racers, *, seed: int) -> list[SessionCall]:
        """Return a history."""
        return record(store, clock, racers, seed=seed)

    @staticmethod
    def matches(expected: Answer, answered: Answer) -> bool:
        """Say whether *answered* is right where the model says *expected*."""
        return expected == answered


class LooseHistories(SessionHistories):
    """The same where logins and look-ups of the head do not wait for revocations. What may differ is on the safe side:

    - a session that is added while its subject is ended is ended by the cut-off alone: it is not counted, and of several cut-offs the last
      one counts as what ended it;
    - the `as_of` of a rotation is the head when the row was read, which may be less than when it was written;
    - a session is used only once its login was answered: nobody can know its id before.
    """

    def record(self, store: Store, clock: FrozenClock, racers: Racers, *, seed: int) -> list[SessionCall]:
        """Return a history in two parts, of which the first has the logins."""
        return record_logins_first(store, clock, racers, seed=seed)

    @staticmethod
    def matches(expected: Answer, answered: Answer) -> bool:
        """Say whether *answered* is *expected*, or differs on the safe side."""
        if expected == answered:
            return True
        place, sign = _LOOSE.get(str(answered[0]), (0, 0))
        found, exact = answered[place], expected[place] if len(expected) == len(answered) else None
        if not isinstance(found, int) or not isinstance(exact, int):
            return False
        return (found - exact) * sign >= 0 and _without(answered, place) == _without(expected, place)


class SpreadHistories(SessionHistories):
    """The same where sessions and the feed lie on different machines: what is answered of a session has one order, positions have another.

    Of positions only what matters is held: nobody is told that a session lives as of a position at which it was ended.
    """

    def record(self, store: Store, clock: FrozenClock, racers: Racers, *, seed: int) -> list[SessionCall]:
        """Return a history in which no session lives on past its end. Nobody knows the id of a session before its login was answered."""
        history = record_logins_first(store, clock, racers, seed=seed)
        assert_no_life_past_an_end(history)
        return history

    @staticmethod
    def matches(expected: Answer, answered: Answer) -> bool:
        """Say whether *answered* is *expected* but for its positions."""
        return _without_positions(expected) == _without_positions(answered)


def assert_no_life_past_an_end(history: Sequence[SessionCall]) -> None:
    """Check that no answer says that a session lives as of a position at which, or before which, it was ended."""
    subjects = {
        call.order.session.session_id: call.order.session.subject
        for call in history
        if isinstance(call.order, Add)
    }
    ends: dict[str, int] = {}
    for call in history:
        if isinstance(call.order, End | EndSubject | Rotate) and call.answer is not None:
            about = call.order.subject if isinstance(call.order, EndSubject) else call.order.session_id
            place = {"Ended": 1, "Reused": 2}.get(str(call.answer[0]))
            if place is not None:
                ends[about] = min(_number(call.answer[place]), ends.get(about, sys.maxsize))
    for call in history:
        as_of = None if call.answer is None else _lives_as_of(call.answer)
        if as_of is None or not isinstance(call.order, Find | Rotate):
            continue
        session_id = call.order.session_id
        for each in (str(session_id), str(subjects.get(session_id, ""))):
            assert as_of < ends.get(each, sys.maxsize), f"{call} although it was ended at {ends[each]}"


def _number(part: str | int | None) -> int:
    assert isinstance(part, int)
    return part


def _lives_as_of(answer: Answer) -> int | None:
    """Return as of what position *answer* says that a session lives; None if it does not say so."""
    name, *numbers = answer
    as_of = {"Found": 0, "Rotated": 1, "Current": 1, "Replayed": 1}.get(str(name))
    if as_of is None or (name == "Found" and numbers[-1] is not None):
        return None
    return _number(numbers[as_of])


def _without_positions(answer: Answer) -> Answer:
    match answer:
        case ("Found", _, generation, _, seen, ended):
            return ("Found", generation, seen, ended is not None)
        case ("Replayed", generation, _, closed):
            return ("Replayed", generation, closed)
        case (("Ended" | "AlreadyEnded") as name, *_):
            return (name,)
        case (name, generation, _):
            return (name, generation)
        case _:
            return answer


# Where a number may differ, by the name of the answer; and whether it may be more (1) or less (-1).
_LOOSE = {
    "Ended": (2, -1),
    "Found": (5, 1),
    "AlreadyEnded": (1, 1),
    "Rotated": (2, -1),
    "Current": (2, -1),
    "Replayed": (2, -1),
}


def _without(answer: Answer, place: int) -> Answer:
    return answer[:place] + answer[place + 1 :]


def record(store: Store, clock: FrozenClock, racers: Racers, *, seed: int) -> list[SessionCall]:
    """Let `CALLERS` callers do what *seed* says, all at once, and return every call."""
    plans = _plans(store, clock, seed)
    return _race(racers, plans, clock)


def record_logins_first(store: Store, clock: FrozenClock, racers: Racers, *, seed: int) -> list[SessionCall]:
    """Do as `record`, but begin anything else than logging in and ending a subject once all of that was answered."""
    plans = _plans(store, clock, seed)
    first = [[order for order in plan if isinstance(order, Add | EndSubject)] for plan in plans]
    then = [[order for order in plan if not isinstance(order, Add)] for plan in plans]
    return _race(racers, first, clock) + _race(racers, then, clock)


def _plans(store: Store, clock: FrozenClock, seed: int) -> list[list[Order]]:
    chance = random.Random(seed)
    subjects = [Subject(f"subject-{seed}-{number}") for number in range(2)]
    sessions = [a_session(store, clock, subjects[number % 2]) for number in range(SESSIONS)]
    return [_plan(chance, sessions, first=number) for number in range(CALLERS)]


def _race(racers: Racers, plans: Sequence[Sequence[Order]], clock: FrozenClock) -> list[SessionCall]:
    return list(joined.from_iterable(racers.race(play, [(plan, clock.now()) for plan in plans])))


async def play(store: Store, plan: tuple[Sequence[Order], datetime]) -> list[SessionCall]:
    """Carry the orders out one after another, as one caller; return its calls."""
    orders, now = plan
    clock = SystemClock()  # of the machine: all callers, in whatever process, share it
    calls = []
    for order in orders:
        began = clock.elapsed()
        answer = await carry_out(store, order, now)
        calls.append(Call(order=order, answer=answer, began=began, ended=clock.elapsed()))
    return calls


async def carry_out(store: Store, order: Order, now: datetime) -> Answer:
    """Ask *store* what *order* says, and return its answer as the model puts it."""
    match order:
        case Add(session):
            return (type(await put(store, session)).__name__,)
        case Find(session_id):
            return _found(await store.sessions.find(session_id), now)
        case Rotate():
            window = WINDOW if order.in_window else NO_WINDOW
            outcome = await rotate(
                store, order.session_id, order.generation, now, window=window, chain=order.chain
            )
            return answer_of(outcome)
        case Renew():
            return answer_of(await _renew(store, order, now))
        case Touch():
            seen = Seen(order.session_id, now + timedelta(seconds=order.seconds))
            return ("Touched", await store.sessions.touch([seen]))
        case End(session_id):
            return answer_of(await store.sessions.end(revocation(Scope.SESSION, session_id, now), now=now))
        case EndSubject(subject):
            return answer_of(await store.sessions.end(revocation(Scope.SUBJECT, subject, now), now=now))


def answer_of(outcome: RotateOutcome | EndOutcome | Renewed) -> Answer:
    """Return an outcome as the model puts it: its name, then its numbers."""
    name = type(outcome).__name__
    match outcome:
        case Unknown():
            return UNKNOWN
        case Rotated() | Current():
            return (name, outcome.session.generation, outcome.as_of)
        case Replayed():
            return (name, outcome.session.generation, outcome.as_of, int(outcome.closed_window))
        case Reused() | Renewed():
            return (name, outcome.session.generation, outcome.entry.position)
        case Ended():
            return (name, outcome.entry.position, outcome.sessions)
        case AlreadyEnded():
            return (name, outcome.position)


def _found(found: Found | None, now: datetime) -> Answer:
    if found is None:
        return ("None",)
    session = found.session
    seen = (session.last_seen_at - now) // timedelta(seconds=1)
    return ("Found", found.as_of, session.generation, session.as_of, seen, session.ended_position)


async def _renew(store: Store, order: Renew, now: datetime) -> Renewed | Unknown:
    renewal = Renewal(
        presented=digest_of(order.generation, order.chain),
        successor=digest_of(order.generation + 1, order.successor),
        generation=order.generation,
        previous_until=now + WINDOW,
    )
    return await store.sessions.renew(order.session_id, renewal, now=now, event=an_event(now))


def _plan(chance: random.Random, sessions: Sequence[Session], *, first: int) -> list[Order]:
    """Return the orders of one caller: it logs in a session if there is one for it, then does whatever comes up."""
    orders: list[Order] = [Add(sessions[first])] if first < len(sessions) else []
    while len(orders) < ORDERS:
        session = chance.choice(sessions)
        orders.append(_order(chance, session.session_id, session.subject))
    return orders


def _order(chance: random.Random, session_id: SessionId, subject: Subject) -> Order:
    generation, chain = chance.choice((0, 0, 0, 1, 1, 2)), chance.choice("aaaaab")
    number = chance.randrange(100)
    if number < 45:
        return Rotate(session_id, generation, chain, chance.random() < 0.8)
    if number < 68:
        return Find(session_id)
    if number < 82:
        return Touch(session_id, chance.randrange(1, 9))
    if number < 92:
        return Renew(session_id, generation, chain, "b")
    return End(session_id) if number < 97 else EndSubject(subject)


def _shown(history: Sequence[SessionCall]) -> str:
    """Return *history*, a call a line, in the order of beginnings."""
    lines = (
        f"{call.began:.6f}-{call.ended:.6f} {call.order} -> {call.answer}"
        for call in sorted(history, key=lambda call: call.began)
    )
    return "no order explains:\n" + "\n".join(lines)
