"""What every contract class builds on: a store of your own making, a clock that stands still, and records to put in.

    class TestMySessionStore(SessionStoreContract):
        @pytest.fixture
        async def store(self, clock: FrozenClock) -> AsyncIterator[Store]:
            store = await open_my_store(clock)
            yield store
            await store.close()

The tests are asynchronous: pytest-asyncio must run in its mode `auto`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import pytest
from msgspec.structs import replace

from keyfob.accounts.store import AccountStore, ThrottleStore
from keyfob.audit.store import AuditStore
from keyfob.base.events import Event
from keyfob.base.identifiers import (
    FIRST_PARTY,
    ClientId,
    Position,
    SessionId,
    Strategy,
    Subject,
    new_session_id,
)
from keyfob.base.opaque import OpaqueKind, TokenDigest
from keyfob.clients.store import ClientStore
from keyfob.grants.store import ConsentStore, GrantStore, OutboxStore
from keyfob.keys.store import KeyStore
from keyfob.revocation.entry import CHAIN_START, Entry, Reach, Scope, next_chain
from keyfob.revocation.reports import ReportStore
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.store import FeedStore
from keyfob.sessions.policy import AtLimit
from keyfob.sessions.rules import Standing, standing
from keyfob.sessions.session import Session
from keyfob.sessions.store import Added, CutOff, LimitReached, SessionStore
from keyfob.testing.frozen_clock import FrozenClock

ALICE = Subject("alice")
BOB = Subject("bob")
SHOP = ClientId("shop")
LIFETIME = timedelta(days=30)
IDLE = timedelta(days=14)
WINDOW = timedelta(seconds=30)
TICK = timedelta(microseconds=1)
PLENTY = 1000


class Store(Protocol):
    """What is tested: every port of one store, as `keyfob.stores.store.Store` holds them."""

    @property
    def sessions(self) -> SessionStore: ...
    @property
    def feed(self) -> FeedStore: ...
    @property
    def reads_at_once(self) -> bool: ...
    @property
    def keys(self) -> KeyStore: ...
    @property
    def accounts(self) -> AccountStore: ...
    @property
    def throttle(self) -> ThrottleStore: ...
    @property
    def clients(self) -> ClientStore: ...
    @property
    def audit(self) -> AuditStore: ...
    @property
    def reports(self) -> ReportStore: ...
    @property
    def grants(self) -> GrantStore: ...
    @property
    def consents(self) -> ConsentStore: ...
    @property
    def outbox(self) -> OutboxStore: ...
    @property
    def salt(self) -> bytes: ...
    @property
    def close(self) -> Callable[[], Awaitable[None]]: ...


class StoreContract:
    """The fixtures and the steps of all contract classes. Subclasses give `store`."""

    @pytest.fixture
    def clock(self) -> FrozenClock:
        """Return the clock that the store is to be opened with."""
        return FrozenClock()

    @pytest.fixture
    def store(self, clock: FrozenClock) -> AsyncIterator[Store] | Store:
        """Give an empty store on *clock*."""
        raise NotImplementedError("a contract class needs a fixture `store`")


def digest_of(generation: int, chain: str = "a") -> TokenDigest:
    """Return the digest of the secret of *generation* in the chain named *chain*."""
    return TokenDigest(hmac.digest(chain.encode(), str(generation).encode(), hashlib.sha256))


def an_event(at: datetime, code: str = "revoked", subject: Subject | None = ALICE) -> Event:
    """Return an event."""
    return Event(at=at, code=code, actor="tester", subject=subject, reason="contract", facts={"count": 1})


def a_session(store: Store, clock: FrozenClock, subject: Subject = ALICE) -> Session:
    """Return a fresh session of *subject* that holds a refresh token and knows nothing of the feed (`as_of` 0)."""
    now = clock.now()
    return Session(
        session_id=new_session_id(store.salt, subject, now + LIFETIME),
        subject=subject,
        client_id=FIRST_PARTY,
        strategy=Strategy.HYBRID,
        kind=OpaqueKind.REFRESH,
        digest=digest_of(0),
        created_at=now,
        expires_at=now + LIFETIME,
        last_seen_at=now,
        auth_time=now,
        idle_timeout=IDLE,
        as_of=Position(0),
    )


def a_full_session(store: Store, clock: FrozenClock) -> Session:
    """Return a session in which every field differs from its default."""
    now = clock.now()
    return replace(
        a_session(store, clock),
        generation=7,
        chain_generation=3,
        audience=("https://orders.example", "stock"),
        scopes=("orders:read", "orders:write"),
        amr=("pwd", "otp"),
        acr="urn:strong",
        persistent=True,
        user_agent='Mozilla/5.0 "ünïcode" \\ 🔑',
        address="2001:db8::1",
        rotated_at=now + TICK,
        replayed_since_rotation=True,
        replayed_rotations=2,
        window_closed=True,
        previous_digest=digest_of(6),
        previous_until=now + 3 * TICK,
        label="laptop 🔑",
        role_limit=("buyer",),
        parent_client_id=SHOP,
    )


def an_api_key(store: Store, clock: FrozenClock, subject: Subject = ALICE) -> Session:
    """Return a fresh API key of *subject*."""
    return replace(
        a_session(store, clock, subject),
        strategy=Strategy.SESSION,
        kind=OpaqueKind.API_KEY,
        idle_timeout=None,
        label="deploy",
        role_limit=(),
    )


async def put(
    store: Store, session: Session, *, limit: int = PLENTY, at_limit: AtLimit = AtLimit.DENY
) -> Added | LimitReached | CutOff:
    """Add *session*."""
    return await store.sessions.add(
        session, limit=limit, at_limit=at_limit, event=an_event(session.created_at, "login", session.subject)
    )


async def put_new(store: Store, clock: FrozenClock, subject: Subject = ALICE) -> Session:
    """Add a session that knows all of the feed, and return it."""
    session = replace(a_session(store, clock, subject), as_of=await position(store))
    assert await put(store, session) == Added()
    return session


async def put_child(store: Store, clock: FrozenClock, parent: Session, client_id: ClientId = SHOP) -> Session:
    """Add a session of *client_id* below *parent*, and return it."""
    child = replace(
        a_session(store, clock, parent.subject),
        client_id=client_id,
        parent_session_id=parent.session_id,
        parent_client_id=parent.client_id,
        as_of=await position(store),
    )
    assert await put(store, child) == Added()
    return child


async def found(store: Store, session_id: SessionId) -> Session:
    """Return the session, which must have a row."""
    answer = await store.sessions.find(session_id)
    assert answer is not None
    return answer.session


async def is_live(store: Store, session_id: SessionId, now: datetime) -> bool:
    """Say whether the session is live at *now*."""
    return standing(await found(store, session_id), now) is Standing.LIVE


async def position(store: Store) -> Position:
    """Return the head position."""
    return (await store.feed.head()).position


async def entries(store: Store) -> Sequence[Entry]:
    """Return all entries that are left."""
    return await store.feed.read_after(Position(0), PLENTY)


async def codes(store: Store) -> list[str]:
    """Return the codes of all events, oldest first."""
    page = await store.audit.list(limit=PLENTY)
    return [event.code for event in reversed(page.events)]


def revocation(
    scope: Scope,
    id: str,  # noqa: A002 - the wire's word
    at: datetime,
    *,
    reach: Reach = Reach.END,
    spared: SessionId | None = None,
) -> Revocation:
    """Return a revocation."""
    return Revocation(scope=scope, id=id, reach=reach, spared=spared, event=an_event(at))


def assert_chained(found: Sequence[Entry]) -> None:
    """Check that *found* is a whole feed from its beginning: no gap, no moment that goes back, and a chain that verifies."""
    chain = CHAIN_START
    last_at = None
    for number, entry in enumerate(found, 1):
        assert entry.position == number
        assert last_at is None or entry.at >= last_at
        chain = next_chain(
            chain,
            position=entry.position,
            at=entry.at,
            scope=entry.scope,
            id=entry.id,
            reach=entry.reach,
            spared=entry.spared,
            until=entry.until,
        )
        assert entry.chain == chain
        last_at = entry.at
