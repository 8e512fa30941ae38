"""Everything that a store holds, as records that no store is needed to understand: what copies, backups and restores are made of.

A record stands for one row of its kind, under a key that is the same in every store. Digests, sealed keys and password hashes are among
them, so no record shows more than its key in a `repr`; whoever writes records to a file must seal or guard that file.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Protocol

import msgspec

from keyfob.accounts.account import SubjectRecord
from keyfob.base.events import Event
from keyfob.base.identifiers import Position, Subject, Timeline
from keyfob.clients.client import Client
from keyfob.keys.store import StoredKey
from keyfob.revocation.entry import Entry, Head, Scope
from keyfob.revocation.reports import VerifierRecord
from keyfob.sessions.session import Session

PAGE = 500  # records: what a page holds at most where nothing else is said; a few hundred KB at the most usual sizes


class Kind(StrEnum):
    """What there is in a store, in the order in which it is carried.

    The feed's own state comes first: who loads pages one after another never has an entry past the head that the store knows.
    """

    FEED = "feed"
    KEYS = "keys"
    CLIENTS = "clients"
    SUBJECTS = "subjects"
    ACCOUNTS = "accounts"
    ENTRIES = "entries"
    CUT_OFFS = "cut_offs"
    SESSIONS = "sessions"
    ATTEMPTS = "attempts"
    FAMILIAR = "familiar"
    EVENTS = "events"
    VERIFIERS = "verifiers"
    CANARIES = "canaries"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a store. `key` names it among its kind; a `repr` shows nothing else."""

    kind: ClassVar[Kind]

    @property
    def key(self) -> str:
        """Return what names it among its kind."""
        raise NotImplementedError

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Return what `repr` shows, for printers that take structs apart."""
        return [("key", self.key)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key={self.key!r})"


class FeedRow(Record, frozen=True, kw_only=True, tag="feed"):
    """The one row of what a store knows of its feed, and the salt of its session ids. `at` is the moment of the last entry."""

    kind = Kind.FEED
    salt: bytes
    timeline: Timeline
    position: Position
    chain: bytes
    at: datetime
    longest_credential: timedelta
    longest_session: timedelta

    @property
    def key(self) -> str:
        """Return the same for all: there is one."""
        return "feed"


class KeyRow(Record, frozen=True, kw_only=True, tag="key"):
    """A key, sealed."""

    kind = Kind.KEYS
    stored: StoredKey

    @property
    def key(self) -> str:
        """Return its id."""
        return self.stored.key_id


class ClientRow(Record, frozen=True, kw_only=True, tag="client"):
    """A client."""

    kind = Kind.CLIENTS
    client: Client

    @property
    def key(self) -> str:
        """Return its id."""
        return self.client.client_id


class SubjectRow(Record, frozen=True, kw_only=True, tag="subject"):
    """The record of a subject."""

    kind = Kind.SUBJECTS
    record: SubjectRecord

    @property
    def key(self) -> str:
        """Return the subject."""
        return self.record.subject


class AccountRow(Record, frozen=True, kw_only=True, tag="account"):
    """A login name with a password; what the subject may do is in its `SubjectRow`."""

    kind = Kind.ACCOUNTS
    subject: Subject
    name: str
    password_hash: str
    created_at: datetime
    password_changed_at: datetime

    @property
    def key(self) -> str:
        """Return the subject."""
        return self.subject


class EntryRow(Record, frozen=True, kw_only=True, tag="entry"):
    """An entry of the feed."""

    kind = Kind.ENTRIES
    entry: Entry

    @property
    def key(self) -> str:
        """Return its position."""
        return number_key(self.entry.position)


class CutOffRow(Record, frozen=True, kw_only=True, tag="cut_off"):
    """A durable cut-off: sessions in its scope with a smaller `as_of` than *position* are over."""

    kind = Kind.CUT_OFFS
    scope: Scope
    id: str
    position: Position
    at: datetime
    until: datetime

    @property
    def key(self) -> str:
        """Return its scope and id."""
        return f"{self.scope.value} {self.id}"


class SessionRow(Record, frozen=True, kw_only=True, tag="session"):
    """A session as its row has it (cut-offs not applied), with the data that an application keeps in it (version 0: none yet)."""

    kind = Kind.SESSIONS
    session: Session
    data: bytes = b""
    version: int = 0

    @property
    def key(self) -> str:
        """Return its id."""
        return self.session.session_id


class AttemptsRow(Record, frozen=True, kw_only=True, tag="attempts"):
    """Attempts at a password, counted under *place*."""

    kind = Kind.ATTEMPTS
    place: str
    count: int
    last_at: datetime

    @property
    def key(self) -> str:
        """Return what they are counted under."""
        return self.place


class FamiliarRow(Record, frozen=True, kw_only=True, tag="familiar"):
    """An address from which somebody has logged in to an account, under the throttle's key."""

    kind = Kind.FAMILIAR
    place: str
    since: datetime

    @property
    def key(self) -> str:
        """Return the throttle's key."""
        return self.place


class EventRow(Record, frozen=True, kw_only=True, tag="event"):
    """A line of the audit trail. `number` says in which order they were written."""

    kind = Kind.EVENTS
    number: int
    event: Event

    @property
    def key(self) -> str:
        """Return its number."""
        return number_key(self.number)


class VerifierRow(Record, frozen=True, kw_only=True, tag="verifier"):
    """What is known of a verifier that reports."""

    kind = Kind.VERIFIERS
    record: VerifierRecord

    @property
    def key(self) -> str:
        """Return its client, name and instance."""
        record = self.record
        return f"{len(record.client_id)}:{len(record.name)}:{record.client_id}{record.name}{record.instance}"


class CanaryRow(Record, frozen=True, kw_only=True, tag="canary"):
    """A canary, with which the lag of verifiers is measured."""

    kind = Kind.CANARIES
    number: int
    position: Position
    at: datetime

    @property
    def key(self) -> str:
        """Return its number."""
        return number_key(self.number)


AnyRecord = (
    FeedRow
    | KeyRow
    | ClientRow
    | SubjectRow
    | AccountRow
    | EntryRow
    | CutOffRow
    | SessionRow
    | AttemptsRow
    | FamiliarRow
    | EventRow
    | VerifierRow
    | CanaryRow
)


class Snapshot(Protocol):
    """One moment of a store, read page by page while the store goes on."""

    async def read(self, kind: Kind, *, after: str | None, limit: int) -> Sequence[AnyRecord]:
        """Return up to *limit* records of *kind* whose key comes behind *after*, in the store's order of keys.

        Fewer than *limit*: there are no more. A key need not stand any more to be continued from.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        ...

    async def count(self, kind: Kind) -> int:
        """Return how many records of *kind* there are.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        ...


class Transfer(Protocol):
    """Carries a store's rows out of it and into it, without any of the rules of its verbs.

    It checks nothing and ends nothing: only a copy, a restore or a test may load, into a store that nobody else uses.
    """

    def snapshot(self, now: datetime) -> AbstractAsyncContextManager[Snapshot]:
        """Open one moment of the store, without the sessions, entries and cut-offs that are over at *now*.

        It hinders no writer. Keep it for minutes, not for days: a store cannot tidy up behind it.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        ...

    async def load(self, records: Sequence[AnyRecord]) -> None:
        """Put *records* in place, all of them or none, durably; each replaces what stands under its key.

        So a page that is loaded twice changes nothing the second time. An opened `Store` keeps the salt that it was opened with: open it
        again after a `FeedRow` was loaded.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        ...

    async def remove(self, kind: Kind, keys: Sequence[str]) -> None:
        """Remove the records of *keys*, all of them or none, durably; unknown ones are passed over. The row of the feed stays.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        ...

    async def replace(
        self, pages: Iterable[Sequence[AnyRecord]], *, kinds: Collection[Kind], instead_of: Head
    ) -> bool:
        """Put *pages* in the place of everything of *kinds*, in one durable step that readers see whole or not at all.

        Unlike `load` it may be called while others use the store. False where the head is not *instead_of* by now; nothing was changed
        then, nor where *pages* raises. *pages* may be read on another thread, once; the row of the feed stays unless they hold another.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        ...

    async def close(self) -> None:
        """Give up whatever it holds. More than once is harmless."""
        ...


@dataclass(slots=True)
class Tally:
    """How many records of one kind there are, and a digest of them that does not depend on their order.

    The digest is the sum of the SHA-256 digests of the records: it finds what a copy lost, doubled or changed. It is no proof against
    somebody who chooses the records.
    """

    count: int = 0
    _sum: int = field(default=0, repr=False)

    def add(self, record: AnyRecord) -> None:
        """Count *record*."""
        self.count += 1
        self._sum = (self._sum + int.from_bytes(hashlib.sha256(encode(record)).digest(), "big")) % _MODULUS

    @property
    def digest(self) -> str:
        """Return the digest so far, 64 hex digits."""
        return f"{self._sum:064x}"


async def pages(snapshot: Snapshot, kind: Kind, *, limit: int = PAGE) -> AsyncIterator[Sequence[AnyRecord]]:
    """Read all records of *kind*, page by page."""
    after = None
    while page := await snapshot.read(kind, after=after, limit=limit):
        yield page
        if len(page) < limit:
            return
        after = page[-1].key


async def tally(snapshot: Snapshot, kinds: Iterable[Kind] = tuple(Kind)) -> dict[Kind, Tally]:
    """Count what *snapshot* holds."""
    counted = {kind: Tally() for kind in kinds}
    for kind, one in counted.items():
        async for page in pages(snapshot, kind):
            for record in page:
                one.add(record)
    return counted


async def is_unused(snapshot: Snapshot) -> bool:
    """Say whether nobody has ever used the store: it holds nothing but a feed that has not begun."""
    for kind in Kind:
        for record in await snapshot.read(kind, after=None, limit=1):
            if not isinstance(record, FeedRow) or record.position != 0:
                return False
    return True


def encode(record: AnyRecord) -> bytes:
    """Return *record* as MessagePack: equal records give equal bytes."""
    return _encoder.encode(record)


def decode(raw: bytes) -> AnyRecord:
    """Read what `encode` wrote.

    Raises:
        ValueError: it is no record.
    """
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ValueError("no record of a store") from None


def number_key(number: int) -> str:
    """Return the key of what is numbered; as texts they are in the order of the numbers."""
    return f"{number:020d}"


def cut_off_place(key: str) -> tuple[str, str]:
    """Return scope and id of the key of a cut-off."""
    scope, _, id_ = key.partition(" ")
    return scope, id_


def verifier_place(key: str) -> tuple[str, str, str]:
    """Return client, name and instance of the key of a verifier.

    Raises:
        ValueError: it is none.
    """
    first, second, rest = key.split(":", 2)
    name, instance = int(first), int(first) + int(second)
    return rest[:name], rest[name:instance], rest[instance:]


_MODULUS = 2**256
_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder: msgspec.msgpack.Decoder[AnyRecord] = msgspec.msgpack.Decoder(AnyRecord)
