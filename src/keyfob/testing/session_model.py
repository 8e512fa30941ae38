"""A pure model of the verbs of a `SessionStore`, for the checker of histories. It is written apart from every store, and shares no code with them.

All happens at one moment: a window is open or closed for a rotation, and nothing expires or idles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from keyfob.base.identifiers import SessionId, Subject
from keyfob.sessions.session import Session

CLOSES_AT = 3  # replayed rotations in a row after which the window of a session is closed


@dataclass(frozen=True, slots=True)
class Add:
    """Add *session*, with its `as_of`."""

    session: Session


@dataclass(frozen=True, slots=True)
class Find:
    """Find a session."""

    session_id: SessionId


@dataclass(frozen=True, slots=True)
class Rotate:
    """Present the token of *generation* in *chain*; *in_window*: a rotation that was made already is young."""

    session_id: SessionId
    generation: int
    chain: str
    in_window: bool


@dataclass(frozen=True, slots=True)
class Renew:
    """Begin chain *successor*, presenting the token of *generation* in *chain*."""

    session_id: SessionId
    generation: int
    chain: str
    successor: str


@dataclass(frozen=True, slots=True)
class Touch:
    """Note a use, *seconds* after the moment at which all happens."""

    session_id: SessionId
    seconds: int


@dataclass(frozen=True, slots=True)
class End:
    """End one session."""

    session_id: SessionId


@dataclass(frozen=True, slots=True)
class EndSubject:
    """End everything of a subject."""

    subject: Subject


Order = Add | Find | Rotate | Renew | Touch | End | EndSubject
Answer = tuple[str | int | None, ...]
"""The name of the outcome, then its numbers: see `session_history.answer_of`."""

UNKNOWN: Answer = ("Unknown",)


@dataclass(frozen=True, slots=True)
class Row:
    """A session, as the model knows it."""

    subject: Subject
    as_of: int
    generation: int = 0
    chain: str = "a"
    chain_began: int = 0
    is_rotated: bool = False
    is_replayed: bool = False
    replays: int = 0
    is_closed: bool = False
    seen: int = 0
    ended: int | None = None


@dataclass(frozen=True, slots=True)
class State:
    """Everything that a later answer can depend on. The pairs are sorted by their first halves."""

    head: int
    rows: tuple[tuple[SessionId, Row], ...] = ()
    cut_offs: tuple[tuple[Subject, int], ...] = ()

    def row(self, session_id: SessionId) -> Row | None:
        """Return the row."""
        return next((row for known, row in self.rows if known == session_id), None)

    def put(self, session_id: SessionId, row: Row) -> State:
        """Return the state with *row*."""
        return replace(self, rows=tuple(sorted({**dict(self.rows), session_id: row}.items(), key=_first)))


class SessionModel:
    """The model, from a feed at position *head*."""

    def __init__(self, head: int) -> None:
        self._head = head

    def start(self) -> State:
        """Return the state with no session."""
        return State(self._head)

    def step(self, state: State, order: Order) -> tuple[State, Answer]:
        """Return the state after *order*, and the answer to it."""
        match order:
            case Add(session):
                return _add(state, session)
            case Find(session_id):
                return state, _found(state, session_id)
            case EndSubject(subject):
                return _end_subject(state, subject)
            case End(session_id):
                return _end(state, session_id)
            case Rotate():
                return _of_live(state, order.session_id, lambda row: _rotate(state, order, row))
            case Renew():
                return _of_live(state, order.session_id, lambda row: _renew(state, order, row))
            case Touch():
                return _touch(state, order)


def _first(pair: tuple[str, object]) -> str:
    return pair[0]


def _of_live(
    state: State, session_id: SessionId, step: Callable[[Row], tuple[State, Answer]]
) -> tuple[State, Answer]:
    row = state.row(session_id)
    return (state, UNKNOWN) if row is None or row.ended is not None else step(row)


def _add(state: State, session: Session) -> tuple[State, Answer]:
    if dict(state.cut_offs).get(session.subject, 0) > session.as_of:
        return state, ("CutOff",)
    return state.put(session.session_id, Row(session.subject, session.as_of)), ("Added",)


def _found(state: State, session_id: SessionId) -> Answer:
    row = state.row(session_id)
    if row is None:
        return ("None",)
    return ("Found", state.head, row.generation, row.as_of, row.seen, row.ended)


def _end(state: State, session_id: SessionId) -> tuple[State, Answer]:
    row = state.row(session_id)
    if row is not None and row.ended is not None:
        return state, ("AlreadyEnded", row.ended)
    state = replace(state, head=state.head + 1)
    if row is None:
        return state, ("Ended", state.head, 0)
    return state.put(session_id, replace(row, ended=state.head)), ("Ended", state.head, 1)


def _end_subject(state: State, subject: Subject) -> tuple[State, Answer]:
    live = [(key, row) for key, row in state.rows if row.subject == subject and row.ended is None]
    cut_offs = tuple(sorted({**dict(state.cut_offs), subject: state.head + 1}.items()))
    state = replace(state, head=state.head + 1, cut_offs=cut_offs)
    for session_id, row in live:
        state = state.put(session_id, replace(row, ended=state.head))
    return state, ("Ended", state.head, len(live))


def _rotate(state: State, order: Rotate, row: Row) -> tuple[State, Answer]:
    is_young = row.is_rotated and order.in_window and not row.is_closed
    if (order.generation, order.chain) == (row.generation, row.chain):
        if is_young:
            return state, ("Current", row.generation, state.head)
        after = replace(
            row,
            generation=row.generation + 1,
            is_rotated=True,
            is_replayed=False,
            replays=row.replays if row.is_replayed else 0,
        )
        return state.put(order.session_id, after), ("Rotated", after.generation, state.head)
    if not row.chain_began <= order.generation < row.generation:
        return state, UNKNOWN
    if order.generation == row.generation - 1:
        if order.chain != row.chain:
            return state, UNKNOWN
        if is_young:
            return _replay(state, order.session_id, row)
    ended, _ = _end(state, order.session_id)
    return ended, ("Reused", row.generation, ended.head)


def _replay(state: State, session_id: SessionId, row: Row) -> tuple[State, Answer]:
    replays = row.replays if row.is_replayed else row.replays + 1
    after = replace(row, is_replayed=True, replays=replays, is_closed=row.is_closed or replays >= CLOSES_AT)
    answer: Answer = ("Replayed", row.generation, state.head, int(after.is_closed and not row.is_closed))
    return state.put(session_id, after), answer


def _renew(state: State, order: Renew, row: Row) -> tuple[State, Answer]:
    if (order.generation, order.chain) != (row.generation, row.chain):
        return state, UNKNOWN
    state = replace(state, head=state.head + 1)
    after = replace(
        row,
        as_of=state.head,
        generation=row.generation + 1,
        chain=order.successor,
        chain_began=row.generation + 1,
        is_rotated=False,
        is_replayed=False,
        replays=0,
    )
    return state.put(order.session_id, after), ("Renewed", after.generation, state.head)


def _touch(state: State, order: Touch) -> tuple[State, Answer]:
    row = state.row(order.session_id)
    if row is None or row.ended is not None or row.seen >= order.seconds:
        return state, ("Touched", 0)
    return state.put(order.session_id, replace(row, seen=order.seconds)), ("Touched", 1)
