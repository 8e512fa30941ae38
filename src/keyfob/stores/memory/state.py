"""Everything that a memory store holds, and the step in which it changes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from keyfob.accounts.account import Account, SubjectRecord
from keyfob.base.clock import Clock, from_micros
from keyfob.base.errors import StoreUnavailable
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, Position, SessionId, Subject, Timeline
from keyfob.clients.client import Client
from keyfob.grants.consent import Consent
from keyfob.grants.delivery import Cursor, Delivery
from keyfob.grants.one_time import OneTime, OneTimeKind
from keyfob.keys.store import StoredKey
from keyfob.revocation.canary import Canary
from keyfob.revocation.entry import CHAIN_START, Entry, Head, Scope
from keyfob.revocation.reports import Reporter, VerifierRecord
from keyfob.sessions.session import Session
from keyfob.sessions.store import SessionData
from keyfob.stores.standing import Over
from keyfob.stores.wakers import Wakers

_NOWHERE = Position(0)
_EPOCH = from_micros(0)


@dataclass(frozen=True, slots=True)
class CutOffMark:
    """A cut-off, and when no session that it could cover can be left."""

    over: Over
    until: datetime


@dataclass(slots=True)
class Attempts:
    """Attempts under one key, and when the last of them was."""

    count: int
    last_at: datetime


@dataclass(slots=True, kw_only=True)
class State:
    """The tables. Only inside `step` may they be read or changed."""

    clock: Clock
    salt: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    timeline: Timeline = field(default_factory=lambda: Timeline(os.urandom(8).hex()))
    sessions: dict[SessionId, Session] = field(default_factory=dict)
    data: dict[SessionId, SessionData] = field(default_factory=dict)
    by_subject: dict[Subject, set[SessionId]] = field(default_factory=dict)
    children: dict[SessionId, set[SessionId]] = field(default_factory=dict)
    entries: dict[Position, Entry] = field(default_factory=dict)
    position: Position = _NOWHERE
    chain: bytes = CHAIN_START
    last_at: datetime = _EPOCH
    cut_offs: dict[tuple[Scope, str], CutOffMark] = field(default_factory=dict)
    longest_credential: timedelta = timedelta(0)
    longest_session: timedelta = timedelta(0)
    keys: list[StoredKey] = field(default_factory=list)
    accounts: dict[Subject, Account] = field(default_factory=dict)
    names: dict[str, Subject] = field(default_factory=dict)
    subjects: dict[Subject, SubjectRecord] = field(default_factory=dict)
    attempts: dict[str, Attempts] = field(default_factory=dict)
    familiar: dict[str, datetime] = field(default_factory=dict)
    clients: dict[ClientId, Client] = field(default_factory=dict)
    assertions: dict[bytes, datetime] = field(default_factory=dict)
    one_times: dict[tuple[OneTimeKind, bytes], OneTime] = field(default_factory=dict)
    aliases: dict[tuple[OneTimeKind, bytes], bytes] = field(default_factory=dict)
    consents: dict[tuple[Subject, ClientId], Consent] = field(default_factory=dict)
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    cursors: dict[str, Cursor] = field(default_factory=dict)
    events: list[tuple[int, Event]] = field(default_factory=list)
    written_events: int = 0
    verifiers: dict[Reporter, VerifierRecord] = field(default_factory=dict)
    canaries: list[Canary] = field(default_factory=list)
    wakers: Wakers = field(default_factory=Wakers)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_closed: bool = False

    @contextmanager
    def step(self) -> Iterator[None]:
        """Hold everything else out, and wake the followers afterwards if the feed moved.

        Raises:
            StoreUnavailable: the store is closed.
        """
        with self._lock:
            if self._is_closed:
                raise StoreUnavailable("the store is closed")
            before = self.position
            yield
            has_moved = self.position != before
        if has_moved:
            self.wakers.wake()

    def close(self) -> None:
        """Answer nothing from now on."""
        with self._lock:
            self._is_closed = True
            self.wakers.clear()

    def head(self) -> Head:
        """Return the head of the feed."""
        return Head(timeline=self.timeline, position=self.position, chain=self.chain)

    def write_event(self, event: Event) -> None:
        """Append *event* to the audit trail."""
        self.written_events += 1
        self.events.append((self.written_events, event))

    def put_one_time(self, record: OneTime, *, alias: bytes | None) -> None:
        """Put *record* with *alias* in place of what stands under its digest."""
        self.drop_one_time(record.kind, record.digest)
        self.one_times[record.kind, record.digest] = replace(record, alias=alias)
        if alias is not None:
            self.aliases[record.kind, alias] = record.digest

    def drop_one_time(self, kind: OneTimeKind, digest: bytes) -> None:
        """Remove the record, and its alias if that is still its own."""
        gone = self.one_times.pop((kind, digest), None)
        if gone is None or gone.alias is None:
            return
        if self.aliases.get((kind, gone.alias)) == digest:
            del self.aliases[kind, gone.alias]
