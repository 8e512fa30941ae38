"""Everything that a store holds, as records that no store is needed to understand: what copies, backups and restores are made of.

A record stands for one row of its kind, under a key that is the same in every store. Digests, sealed keys and password hashes are among
them, so no record shows more than its key in a `repr`; whoever writes records to a file must seal or guard that file.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar

import msgspec

from keyfob.accounts.account import SubjectRecord
from keyfob.base.events import Event
from keyfob.base.identifiers import Position, Subject, Timeline
from keyfob.clients.client import Client
from keyfob.grants.consent import Consent
from keyfob.grants.delivery import Cursor, Delivery
from keyfob.grants.one_time import OneTime
from keyfob.keys.store import StoredKey
from keyfob.revocation.entry import Entry, Scope
from keyfob.revocation.reports import VerifierRecord
from keyfob.sessions.session import Session
from keyfob.stores.grant_keys import consents_of, one_time_key


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
    ASSERTIONS = "assertions"
    ONE_TIMES = "one_times"
    CONSENTS = "consents"
    DELIVERIES = "deliveries"
    CURSORS = "cursors"


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


class AssertionRow(Record, frozen=True, kw_only=True, tag="assertion"):
    """An assertion of a client that was taken, and until when it is remembered."""

    kind = Kind.ASSERTIONS
    digest: bytes
    until: datetime

    @property
    def key(self) -> str:
        """Return the digest that names the client and its `jti`."""
        return self.digest.hex()


class OneTimeRow(Record, frozen=True, kw_only=True, tag="one_time"):
    """A record that is taken once."""

    kind = Kind.ONE_TIMES
    record: OneTime

    @property
    def key(self) -> str:
        """Return its kind and digest."""
        return one_time_key(self.record.kind, self.record.digest)


class ConsentRow(Record, frozen=True, kw_only=True, tag="consent"):
    """What a subject allows a client."""

    kind = Kind.CONSENTS
    consent: Consent

    @property
    def key(self) -> str:
        """Return its subject and client."""
        return consents_of(self.consent.subject) + self.consent.client_id


class DeliveryRow(Record, frozen=True, kw_only=True, tag="delivery"):
    """What is still to be delivered."""

    kind = Kind.DELIVERIES
    delivery: Delivery

    @property
    def key(self) -> str:
        """Return its id."""
        return self.delivery.delivery_id


class CursorRow(Record, frozen=True, kw_only=True, tag="cursor"):
    """How far a consumer has read the feed."""

    kind = Kind.CURSORS
    consumer: str
    cursor: Cursor

    @property
    def key(self) -> str:
        """Return the consumer."""
        return self.consumer


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
    | AssertionRow
    | OneTimeRow
    | ConsentRow
    | DeliveryRow
    | CursorRow
)


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


_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder: msgspec.msgpack.Decoder[AnyRecord] = msgspec.msgpack.Decoder(AnyRecord)
