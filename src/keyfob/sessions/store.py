"""What sessions need of a store: the port, and the outcomes of its verbs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import msgspec

from keyfob.base.events import Event
from keyfob.base.identifiers import Position, SessionId, Subject
from keyfob.base.opaque import TokenDigest
from keyfob.revocation.entry import Entry
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.policy import AtLimit
from keyfob.sessions.session import Session

MAX_DATA = 4096  # bytes: what an application may keep in a session
REPLAYED_ROTATIONS_LIMIT = 3  # the third replay in consecutive rotations closes the window for the session


class Holder(msgspec.Struct, frozen=True):
    """What the store holds of a session's subject today: nothing, where there is no record."""

    roles: frozenset[str] = frozenset()
    is_barred: bool = False


UNRECORDED: Final = Holder()


@dataclass(frozen=True, slots=True)
class Found:
    """A session and the feed position of the same snapshot, so that it may be cached `as_of` that position.

    A session that a cut-off covers, or whose parent is over, comes with `ended_at` set. `holder` is of the same snapshot too; None from
    a store that does not read it along, or in which no accounts lie: then it is to be asked for.
    """

    session: Session
    as_of: Position
    holder: Holder | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """The session stands. `ended` are entries of older sessions that made room for it."""

    ended: Sequence[Entry] = ()


@dataclass(frozen=True, slots=True)
class LimitReached:
    """The subject has as many sessions as allowed, and the policy is to deny. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class CutOff:
    """A cut-off after the session's `as_of` already covers it, or its parent is over: the login is void. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """The presented token was current: its successor is current now. As are all outcomes that succeed: the session after the step."""

    session: Session
    as_of: Position


@dataclass(frozen=True, slots=True)
class Current:
    """The presented token is current and so young that it stays so. No rotation."""

    session: Session
    as_of: Position


@dataclass(frozen=True, slots=True)
class Replayed:
    """The presented token is the parent of the current one, within the window: its successor is the current token.

    `closed_window` is true in the one outcome whose replay was one too many; the window of the session is closed from then on.
    """

    session: Session
    as_of: Position
    closed_window: bool = False


@dataclass(frozen=True, slots=True)
class Reused:
    """An earlier token came back: theft. The session was ended in this step; `entry` says so. `late_by` is since the last rotation."""

    session: Session
    entry: Entry
    late_by: timedelta


@dataclass(frozen=True, slots=True)
class Unknown:
    """No live session has or had this token. Nothing was changed."""


RotateOutcome = Rotated | Current | Replayed | Reused | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """A new secret for a session at a change of privilege; `previous_until` is how long a session token before it stays good."""

    presented: TokenDigest
    successor: TokenDigest
    generation: int
    previous_until: datetime
    auth_time: datetime | None = None
    amr: tuple[str, ...] | None = None
    acr: str | None = None


@dataclass(frozen=True, slots=True)
class Renewed:
    """The new secret is current. `entry` (scope `session`, reach `claims`) makes every verifier re-read it."""

    session: Session
    entry: Entry


@dataclass(frozen=True, slots=True)
class Ended:
    """The entry stands, and everything in its scope is over. `sessions` counts the live rows that it ended, where they are known."""

    entry: Entry
    sessions: int


@dataclass(frozen=True, slots=True)
class AlreadyEnded:
    """The session was over before; no new entry. `position` is that of the entry that ended it (0: it ran out by itself)."""

    position: Position


EndOutcome = Ended | AlreadyEnded


@dataclass(frozen=True, slots=True)
class Seen:
    """A session was used at `at`."""

    session_id: SessionId
    at: datetime


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Some sessions, newest first; `next` continues the list, None at its end."""

    sessions: Sequence[Session]
    next: str | None


@dataclass(frozen=True, slots=True)
class SessionData:
    """What the application keeps in a session, and the version to write it back under (0 before the first write)."""

    data: bytes
    version: int


class SessionStore(Protocol):
    """Keeps sessions. Each method is one atomic step and says who won.

    A *cut-off* is what an entry of scope `subject`, `client` or `everything` and reach `end` leaves in the store, for the longest session
    lifetime: it covers every session whose `as_of` is lower than its position, listed or not, written or still under way. Each verb here
    obeys it. Raises `StoreUnavailable` when the store does not answer, or cannot write.
    """

    async def add(
        self, session: Session, *, limit: int, at_limit: AtLimit, event: Event
    ) -> Added | LimitReached | CutOff:
        """Add a session, unless a cut-off already covers it, in one step with counting the live ones of its subject.

        With `END_OLDEST` as many of the oldest (by `created_at`) are ended, each with an entry of its own, as it takes to have *limit*
        afterwards; with `DENY` the login is refused at *limit*. A child (`parent_session_id`) of a session that is not live is `CutOff`,
        and does not count towards the limit. Expired and idle sessions (at `session.created_at`) do not count. API keys count among
        themselves, and logins among themselves: neither ends the other. *event* is written with it.
        """
        ...

    async def find(self, session_id: SessionId) -> Found | None:
        """Return the session, live or over, and the head position of the same snapshot; None if there is no row."""
        ...

    async def rotate(
        self,
        session_id: SessionId,
        presented: TokenDigest,
        successor: TokenDigest,
        *,
        generation: int,
        now: datetime,
        replay_window: timedelta,
        event: Event,
    ) -> RotateOutcome:
        """Make *successor* the current secret of the session, in one step.

        *generation* is that of *presented*. Of any number of concurrent calls with one *presented*, exactly one gets `Rotated`; the others
        get `Replayed`, and calls with the new secret within *replay_window* of the rotation get `Current`. All stand for the same secret.
        At exactly *replay_window* after the rotation the current one is `Rotated` and its parent `Reused`. An earlier generation of the
        same chain is `Reused`; the caller has checked that it leads to the current secret. `Reused` ends the session in that same step
        (RFC 9700, section 4.14.2) and writes *event* with the entry. A session that is over, expired, idle at *now*, or not of the kind
        `REFRESH` is `Unknown`, as is any other digest. Every success sets `last_seen_at`. A window once closed counts as 0.
        """
        ...

    async def renew(
        self, session_id: SessionId, renewal: Renewal, *, now: datetime, event: Event
    ) -> Renewed | Unknown:
        """Replace the secret of a live session by one of generation + 1 that begins a new chain, raise its `as_of` to the new entry.

        Of concurrent calls exactly one gets `Renewed`. `presented` must be the current digest of `generation`.
        """
        ...

    async def touch(self, seen: Sequence[Seen]) -> int:
        """Write activity; return how many rows moved. Never creates, never revives what is over or idle at `at`, never moves back."""
        ...

    async def end(self, revocation: Revocation, *, now: datetime) -> EndOutcome:
        """Append the entry and end what is in its scope, in one step: the one way of every revocation.

        Scope `session`: the row and its children; `AlreadyEnded` if the row is over (of concurrent calls one gets `Ended`); an id with no
        row gets its entry all the same. Scope `subject`, `client`, `everything` with reach `end`: a cut-off, and the subject's rows. A
        spared session keeps its row, with `as_of` raised to the entry's position. Reach `claims` ends nothing. `token` and `key`: the entry
        alone.
        """
        ...

    async def list(
        self, subject: Subject | None, *, now: datetime, after: str | None, limit: int
    ) -> SessionPage:
        """Return live sessions of *subject*, or of everybody, newest first, continuing *after* an earlier page's `next`. No API keys."""
        ...

    async def list_api_keys(
        self, subject: Subject | None, *, now: datetime, after: str | None, limit: int
    ) -> SessionPage:
        """Return live API keys of *subject*, or of everybody, newest first, continuing *after* an earlier page's `next`.

        A page may be short of *limit*, or empty, although more follow, where few of many rows are keys.
        """
        ...

    async def list_ended_children(self, entry: Entry, *, after: str | None, limit: int) -> SessionPage:
        """Return children that *entry* ended, in any order, continuing *after* an earlier page's `next`: for whoever tells their clients.

        A child is one of them if the entry covers it, and no earlier one had ended its row; that it would have run out by itself plays no
        part. They are there until their rows are deleted, at their absolute end. A page may be short, or empty, although more follow, and
        may be longer than *limit* where one step of the store gives more. An entry that ends no session has none.
        """
        ...

    async def read_data(self, session_id: SessionId) -> SessionData | None:
        """Return the application's data of a live session; None if it is not live."""
        ...

    async def write_data(self, session_id: SessionId, data: bytes, *, version: int, now: datetime) -> bool:
        """Write *data* if the session is live at *now* and its version is still *version*; say whether it was written."""
        ...

    async def delete_expired(self, now: datetime, limit: int) -> int:
        """Delete up to *limit* rows whose absolute end is reached; return how many."""
        ...
