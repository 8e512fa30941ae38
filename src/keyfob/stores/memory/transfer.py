"""What moves a memory store: its tables as records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import assert_never

from keyfob.accounts.account import Account
from keyfob.base.identifiers import ClientId, Position, SessionId, Subject
from keyfob.grants import rules
from keyfob.grants.one_time import OneTimeKind
from keyfob.revocation.canary import Canary
from keyfob.revocation.entry import Head, Scope
from keyfob.revocation.reports import Reporter
from keyfob.sessions.session import Session
from keyfob.sessions.store import SessionData
from keyfob.stores.grant_keys import consent_place, one_time_place
from keyfob.stores.memory.state import Attempts, CutOffMark, State
from keyfob.stores.records import (
    AccountRow,
    AnyRecord,
    AssertionRow,
    AttemptsRow,
    CanaryRow,
    ClientRow,
    ConsentRow,
    CursorRow,
    CutOffRow,
    DeliveryRow,
    EntryRow,
    EventRow,
    FamiliarRow,
    FeedRow,
    KeyRow,
    Kind,
    OneTimeRow,
    SessionRow,
    SubjectRow,
    VerifierRow,
    cut_off_place,
    verifier_place,
)
from keyfob.stores.standing import Over

_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


class MemorySnapshot:
    """A `Snapshot` of a memory store: all its records, copied at once."""

    def __init__(self, records: dict[Kind, dict[str, AnyRecord]]) -> None:
        self._records = {kind: sorted(of_kind.items()) for kind, of_kind in records.items()}

    async def read(self, kind: Kind, *, after: str | None, limit: int) -> Sequence[AnyRecord]:
        """Return up to *limit* records behind *after*."""
        behind = (record for key, record in self._records[kind] if after is None or key > after)
        return [record for record, _ in zip(behind, range(limit), strict=False)]

    async def count(self, kind: Kind) -> int:
        """Return how many records of *kind* there are."""
        return len(self._records[kind])


class MemoryTransfer:
    """A `Transfer` of a memory store."""

    def __init__(self, state: State) -> None:
        self._state = state

    @asynccontextmanager
    async def snapshot(self, now: datetime) -> AsyncIterator[MemorySnapshot]:
        """Open one moment of the store."""
        with self._state.step():
            records = {kind: _read(self._state, kind, now) for kind in Kind}
        yield MemorySnapshot(
            {kind: {record.key: record for record in of_kind} for kind, of_kind in records.items()}
        )

    async def load(self, records: Sequence[AnyRecord]) -> None:
        """Put *records* in place."""
        with self._state.step():
            _put_all(self._state, records)

    async def remove(self, kind: Kind, keys: Sequence[str]) -> None:
        """Remove the records of *keys*."""
        with self._state.step():
            for key in keys:
                _remove(self._state, kind, key)

    async def replace(
        self, pages: Iterable[Sequence[AnyRecord]], *, kinds: Collection[Kind], instead_of: Head
    ) -> bool:
        """Put *pages* in the place of everything of *kinds*."""
        records = [record for page in pages for record in page]  # before the step: reading them may fail
        state = self._state
        with state.step():
            if state.head() != instead_of:
                return False
            for kind in kinds:
                for record in _read(state, kind, _BEFORE_ALL):
                    _remove(state, kind, record.key)
            _put_all(state, records)
            return True

    async def close(self) -> None:
        """Do nothing: the store itself is closed by whoever opened it."""


def _put_all(state: State, records: Iterable[AnyRecord]) -> None:
    for record in records:
        _put(state, record)
    state.entries = dict(sorted(state.entries.items()))
    state.events.sort(key=lambda numbered: numbered[0])
    state.canaries.sort(key=lambda canary: canary.number)


def _read(state: State, kind: Kind, now: datetime) -> list[AnyRecord]:
    readers: dict[Kind, Callable[[], list[AnyRecord]]] = {
        Kind.FEED: lambda: [_feed(state)],
        Kind.KEYS: lambda: [KeyRow(stored=key) for key in state.keys],
        Kind.CLIENTS: lambda: [ClientRow(client=client) for client in state.clients.values()],
        Kind.SUBJECTS: lambda: [SubjectRow(record=record) for record in state.subjects.values()],
        Kind.ACCOUNTS: lambda: [_account(account) for account in state.accounts.values()],
        Kind.ENTRIES: lambda: [
            EntryRow(entry=entry)
            for entry in state.entries.values()
            if entry.until is None or entry.until > now
        ],
        Kind.CUT_OFFS: lambda: [
            _cut_off(place, mark) for place, mark in state.cut_offs.items() if mark.until > now
        ],
        Kind.SESSIONS: lambda: [
            _session(state, session) for session in state.sessions.values() if session.expires_at > now
        ],
        Kind.ATTEMPTS: lambda: [
            AttemptsRow(place=key, count=one.count, last_at=one.last_at)
            for key, one in state.attempts.items()
        ],
        Kind.FAMILIAR: lambda: [FamiliarRow(place=key, since=since) for key, since in state.familiar.items()],
        Kind.EVENTS: lambda: [EventRow(number=number, event=event) for number, event in state.events],
        Kind.VERIFIERS: lambda: [VerifierRow(record=record) for record in state.verifiers.values()],
        Kind.CANARIES: lambda: [
            CanaryRow(number=one.number, position=one.position, at=one.at) for one in state.canaries
        ],
        Kind.ASSERTIONS: lambda: [
            AssertionRow(digest=digest, until=until) for digest, until in state.assertions.items()
        ],
        Kind.ONE_TIMES: lambda: [
            OneTimeRow(record=one) for one in state.one_times.values() if rules.kept_until(one) > now
        ],
        Kind.CONSENTS: lambda: [ConsentRow(consent=one) for one in state.consents.values()],
        Kind.DELIVERIES: lambda: [
            DeliveryRow(delivery=one) for one in state.deliveries.values() if one.expires_at > now
        ],
        Kind.CURSORS: lambda: [
            CursorRow(consumer=consumer, cursor=cursor) for consumer, cursor in state.cursors.items()
        ],
    }
    return readers[kind]()


def _feed(state: State) -> FeedRow:
    return FeedRow(
        salt=state.salt,
        timeline=state.timeline,
        position=state.position,
        chain=state.chain,
        at=state.last_at,
        longest_credential=state.longest_credential,
        longest_session=state.longest_session,
    )


def _account(account: Account) -> AccountRow:
    return AccountRow(
        subject=account.subject,
        name=account.name,
        password_hash=account.password_hash,
        created_at=account.created_at,
        password_changed_at=account.password_changed_at,
    )


def _cut_off(place: tuple[Scope, str], mark: CutOffMark) -> CutOffRow:
    return CutOffRow(
        scope=place[0], id=place[1], position=mark.over.position, at=mark.over.at, until=mark.until
    )


def _session(state: State, session: Session) -> SessionRow:
    kept = state.data.get(session.session_id, SessionData(b"", 0))
    return SessionRow(session=session, data=kept.data, version=kept.version)


def _put(state: State, record: AnyRecord) -> None:
    match record:
        case FeedRow():
            _put_feed(state, record)
        case SessionRow():
            _put_session(state, record)
        case AccountRow():
            _put_account(state, record)
        case KeyRow() | EventRow() | CanaryRow():
            _put_numbered(state, record)
        case CutOffRow():
            state.cut_offs[record.scope, record.id] = CutOffMark(
                Over(record.at, record.position), record.until
            )
        case AssertionRow():
            state.assertions[record.digest] = record.until
        case OneTimeRow() | ConsentRow() | DeliveryRow() | CursorRow():
            _put_granted(state, record)
        case ClientRow() | SubjectRow() | EntryRow() | VerifierRow() | AttemptsRow() | FamiliarRow():
            _put_whole(state, record)
        case _:
            assert_never(record)


def _put_whole(
    state: State, record: ClientRow | SubjectRow | EntryRow | VerifierRow | AttemptsRow | FamiliarRow
) -> None:
    match record:
        case ClientRow(client=client):
            state.clients[client.client_id] = client
        case SubjectRow(record=subject):
            state.subjects[subject.subject] = subject
        case EntryRow(entry=entry):
            state.entries[entry.position] = entry
        case VerifierRow(record=verifier):
            place = Reporter(client_id=verifier.client_id, name=verifier.name, instance=verifier.instance)
            state.verifiers[place] = verifier
        case AttemptsRow():
            state.attempts[record.place] = Attempts(record.count, record.last_at)
        case FamiliarRow():
            state.familiar[record.place] = record.since


def _put_granted(state: State, record: OneTimeRow | ConsentRow | DeliveryRow | CursorRow) -> None:
    match record:
        case OneTimeRow(record=one):
            state.put_one_time(one, alias=one.alias)
        case ConsentRow(consent=consent):
            state.consents[consent.subject, consent.client_id] = consent
        case DeliveryRow(delivery=delivery):
            state.deliveries[delivery.delivery_id] = delivery
        case CursorRow():
            state.cursors[record.consumer] = record.cursor


def _put_feed(state: State, record: FeedRow) -> None:
    state.salt, state.timeline = record.salt, record.timeline
    state.position, state.chain, state.last_at = record.position, record.chain, record.at
    state.longest_credential, state.longest_session = record.longest_credential, record.longest_session


def _put_session(state: State, record: SessionRow) -> None:
    session = record.session
    state.sessions[session.session_id] = session
    state.by_subject.setdefault(session.subject, set()).add(session.session_id)
    if session.parent_session_id is not None:
        state.children.setdefault(session.parent_session_id, set()).add(session.session_id)
    state.data.pop(session.session_id, None)
    if record.version:
        state.data[session.session_id] = SessionData(record.data, record.version)


def _put_account(state: State, record: AccountRow) -> None:
    _remove(state, Kind.ACCOUNTS, record.subject)
    holder = state.names.get(record.name)
    if holder is not None:
        _remove(state, Kind.ACCOUNTS, holder)
    state.names[record.name] = record.subject
    state.accounts[record.subject] = Account(
        subject=record.subject,
        name=record.name,
        password_hash=record.password_hash,
        created_at=record.created_at,
        password_changed_at=record.password_changed_at,
    )


def _put_numbered(state: State, record: KeyRow | EventRow | CanaryRow) -> None:
    _remove(state, record.kind, record.key)
    match record:
        case KeyRow():
            state.keys.append(record.stored)
        case EventRow():
            state.events.append((record.number, record.event))
            state.written_events = max(state.written_events, record.number)
        case CanaryRow():
            state.canaries.append(Canary(record.number, record.position, record.at))


def _remove(state: State, kind: Kind, key: str) -> None:
    removers: dict[Kind, Callable[[], object]] = {
        Kind.FEED: lambda: None,
        Kind.KEYS: lambda: _keep_keys(state, key),
        Kind.CLIENTS: lambda: state.clients.pop(ClientId(key), None),
        Kind.SUBJECTS: lambda: state.subjects.pop(Subject(key), None),
        Kind.ACCOUNTS: lambda: _remove_account(state, Subject(key)),
        Kind.ENTRIES: lambda: state.entries.pop(Position(int(key)), None),
        Kind.CUT_OFFS: lambda: _remove_cut_off(state, key),
        Kind.SESSIONS: lambda: _remove_session(state, SessionId(key)),
        Kind.ATTEMPTS: lambda: state.attempts.pop(key, None),
        Kind.FAMILIAR: lambda: state.familiar.pop(key, None),
        Kind.EVENTS: lambda: _keep_events(state, int(key)),
        Kind.VERIFIERS: lambda: _remove_verifier(state, key),
        Kind.CANARIES: lambda: _keep_canaries(state, int(key)),
        Kind.ASSERTIONS: lambda: state.assertions.pop(bytes.fromhex(key), None),
        Kind.ONE_TIMES: lambda: _remove_one_time(state, key),
        Kind.CONSENTS: lambda: _remove_consent(state, key),
        Kind.DELIVERIES: lambda: state.deliveries.pop(key, None),
        Kind.CURSORS: lambda: state.cursors.pop(key, None),
    }
    removers[kind]()


def _remove_one_time(state: State, key: str) -> None:
    kind, digest = one_time_place(key)
    state.drop_one_time(OneTimeKind(kind), digest)


def _remove_consent(state: State, key: str) -> None:
    subject, client_id = consent_place(key)
    state.consents.pop((Subject(subject), ClientId(client_id)), None)


def _keep_keys(state: State, but: str) -> None:
    state.keys[:] = [key for key in state.keys if key.key_id != but]


def _keep_events(state: State, but: int) -> None:
    state.events[:] = [numbered for numbered in state.events if numbered[0] != but]


def _keep_canaries(state: State, but: int) -> None:
    state.canaries[:] = [canary for canary in state.canaries if canary.number != but]


def _remove_account(state: State, subject: Subject) -> None:
    account = state.accounts.pop(subject, None)
    if account is not None:
        state.names.pop(account.name, None)


def _remove_cut_off(state: State, key: str) -> None:
    scope, id_ = cut_off_place(key)
    state.cut_offs.pop((Scope(scope), id_), None)


def _remove_session(state: State, session_id: SessionId) -> None:
    session = state.sessions.pop(session_id, None)
    state.data.pop(session_id, None)
    if session is None:
        return
    state.by_subject.get(session.subject, set()).discard(session_id)
    if session.parent_session_id is not None:
        state.children.get(session.parent_session_id, set()).discard(session_id)


def _remove_verifier(state: State, key: str) -> None:
    client_id, name, instance = verifier_place(key)
    state.verifiers.pop(Reporter(client_id=ClientId(client_id), name=name, instance=instance), None)
