"""SQLite and Redis answer as the memory store does, whatever is asked of the two."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from msgspec.structs import replace
from redis.asyncio import Redis

from keyfob.base.identifiers import ClientId, Position, SessionId, Subject
from keyfob.base.opaque import OpaqueKind
from keyfob.revocation.entry import Reach, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.policy import AtLimit
from keyfob.sessions.store import Added, Renewal, Seen
from keyfob.stores.opening import open_store
from keyfob.stores.store import Store
from keyfob.testing.account_store_contract import an_account
from keyfob.testing.client_store_contract import a_client
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.redis_server import RedisServer
from keyfob.testing.store_contract import IDLE, LIFETIME, PLENTY, TICK, WINDOW, a_session, an_event, digest_of

SUBJECTS = st.sampled_from([Subject("alice"), Subject("bob")])
CLIENTS = st.sampled_from([ClientId("first-party"), ClientId("shop")])
STEPS = st.sampled_from([timedelta(0), TICK, timedelta(seconds=1), WINDOW, IDLE - TICK, IDLE, LIFETIME])
CHAINS = st.sampled_from(["a", "b", "c"])


class AgainstMemory(RuleBasedStateMachine):
    """Every rule asks both stores the same, and compares what they say. Subclasses open the other one."""

    sessions = Bundle("sessions")

    @initialize()
    def open(self) -> None:
        self.clock = FrozenClock()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.children: dict[SessionId, Subject] = {}
        self.memory = self.runner.run(open_store("memory://", clock=self.clock))
        self.other = self.runner.run(self.open_other())

    async def open_other(self) -> Store:
        raise NotImplementedError

    def teardown(self) -> None:
        if hasattr(self, "other"):
            self.runner.run(self.other.close())
            self.runner.close()
            self.folder.cleanup()

    def both(self, ask: Callable[[Store], Awaitable[object]]) -> object:
        answers = [self.runner.run(self._answer(ask, store)) for store in (self.memory, self.other)]
        assert answers[0] == answers[1]
        return answers[0]

    async def _answer(self, ask: Callable[[Store], Awaitable[object]], store: Store) -> object:
        try:
            return await ask(store)
        except ValueError as error:
            return str(error)

    def head(self) -> Position:
        return self.runner.run(self.memory.feed.head()).position

    @rule(
        target=sessions,
        subject=SUBJECTS,
        client=CLIENTS,
        parent=st.none() | sessions,
        kind=st.sampled_from([OpaqueKind.REFRESH, OpaqueKind.REFRESH, OpaqueKind.SESSION]),
        behind=st.sampled_from([0, 0, 0, 1, 5, -1]),
        at_limit=st.sampled_from(AtLimit),
        idle=st.sampled_from([None, IDLE]),
    )
    def add(self, subject, client, parent, kind, behind, at_limit, idle):
        if parent in self.children and self.children[parent] != subject:
            return multiple()  # wrong in two ways, of which each store names the one that it meets first
        session = replace(
            a_session(self.memory, self.clock, subject),
            client_id=client,
            parent_session_id=parent,
            kind=kind,
            idle_timeout=idle,
            as_of=Position(max(0, self.head() - behind)),
        )
        event = an_event(self.clock.now(), "login", subject)
        outcome = self.both(
            lambda store: store.sessions.add(session, limit=3, at_limit=at_limit, event=event)
        )
        if not isinstance(outcome, Added):
            return multiple()
        if parent is not None:
            self.children[session.session_id] = subject
        return session.session_id

    @rule(session_id=sessions)
    def find(self, session_id):
        self.both(lambda store: store.sessions.find(session_id))

    @rule(
        session_id=sessions,
        generation=st.integers(0, 6),
        chain=CHAINS,
        window=st.sampled_from([WINDOW, timedelta(0)]),
    )
    def rotate(self, session_id, generation, chain, window):
        now = self.clock.now()
        self.both(
            lambda store: store.sessions.rotate(
                session_id,
                digest_of(generation, chain),
                digest_of(generation + 1, chain),
                generation=generation,
                now=now,
                replay_window=window,
                event=an_event(now, "refresh_reused"),
            )
        )

    @rule(session_id=sessions, back=st.sampled_from([0, 0, 0, 1, 2]))
    def rotate_well(self, session_id, back):
        """Present the current token, its parent, or one before."""
        found = self.runner.run(self.memory.sessions.find(session_id))
        if found is None:
            return
        generation = max(0, found.session.generation - back)
        for chain in ("a", "b", "c"):
            if found.session.digest == digest_of(found.session.generation, chain):
                self.rotate(session_id, generation, chain, WINDOW)

    @rule(session_id=sessions, chain=CHAINS, right=st.booleans(), acr=st.sampled_from([None, "high"]))
    def renew(self, session_id, chain, right, acr):
        found = self.runner.run(self.memory.sessions.find(session_id))
        if found is None or found.session.digest is None:
            return
        now, generation = self.clock.now(), found.session.generation
        order = Renewal(
            presented=found.session.digest if right else digest_of(99),
            successor=digest_of(generation + 1, chain),
            generation=generation,
            previous_until=now + WINDOW,
            acr=acr,
        )
        event = an_event(now, "renewed")
        self.both(lambda store: store.sessions.renew(session_id, order, now=now, event=event))

    @rule(session_ids=st.lists(sessions, max_size=3), step=STEPS)
    def touch(self, session_ids, step):
        seen = [Seen(session_id, self.clock.now() + step) for session_id in session_ids]
        self.both(lambda store: store.sessions.touch(seen))

    @rule(session_id=sessions)
    def end_session(self, session_id):
        self._end(Scope.SESSION, session_id)

    @rule(subject=SUBJECTS, reach=st.sampled_from(Reach), spared=st.none() | sessions)
    def end_subject(self, subject, reach, spared):
        self._end(Scope.SUBJECT, subject, reach=reach, spared=spared)

    @rule(
        place=st.sampled_from(
            [(Scope.CLIENT, "shop"), (Scope.EVERYTHING, ""), (Scope.TOKEN, "jti"), (Scope.KEY, "kid")]
        )
    )
    def end_other(self, place):
        self._end(*place)

    def _end(
        self, scope: Scope, place: str, *, reach: Reach = Reach.END, spared: SessionId | None = None
    ) -> None:
        now = self.clock.now()
        order = Revocation(scope=scope, id=place, reach=reach, spared=spared, event=an_event(now))
        self.both(lambda store: store.sessions.end(order, now=now))

    @rule(subject=st.none() | SUBJECTS, limit=st.integers(1, 4))
    def list_sessions(self, subject, limit):
        async def walk(store: Store) -> object:
            listed, after = [], None
            while True:
                page = await store.sessions.list(subject, now=self.clock.now(), after=after, limit=limit)
                listed += page.sessions
                if (after := page.next) is None:
                    return listed

        self.both(walk)

    @rule(session_id=sessions, version=st.integers(0, 2), data=st.binary(max_size=4))
    def write_data(self, session_id, version, data):
        now = self.clock.now()
        self.both(lambda store: store.sessions.write_data(session_id, data, version=version, now=now))
        self.both(lambda store: store.sessions.read_data(session_id))

    @rule(limit=st.integers(0, 3))
    def delete_expired(self, limit):
        self.both(lambda store: store.sessions.delete_expired(self.clock.now(), limit))
        self.both(lambda store: store.feed.delete_expired(self.clock.now(), PLENTY))

    @rule(step=STEPS)
    def advance(self, step):
        self.clock.advance(step)

    @rule(credential=STEPS, session=STEPS)
    def extend_retention(self, credential, session):
        self.both(lambda store: store.feed.extend_retention(credential=credential, session=session))

    @rule(subject=SUBJECTS, verb=st.sampled_from(["add", "password", "roles", "disable", "enable", "delete"]))
    def change_account(self, subject, verb):
        now, event = self.clock.now(), an_event(self.clock.now(), verb)
        order = Revocation(scope=Scope.SUBJECT, id=subject, event=event)
        ask: dict[str, Callable[[Store], Awaitable[object]]] = {
            "add": lambda store: store.accounts.add(an_account(self.clock, subject, str(subject)), event),
            "password": lambda store: store.accounts.set_password(
                subject, "x", replaces=None, now=now, revocation=order
            ),
            "roles": lambda store: store.accounts.set_roles(subject, frozenset({"r"}), revocation=order),
            "disable": lambda store: store.accounts.set_disabled(subject, now=now, revocation=order),
            "enable": lambda store: store.accounts.set_enabled(subject, event),
            "delete": lambda store: store.accounts.delete(subject, revocation=order),
        }
        self.both(ask[verb])
        self.both(lambda store: store.accounts.find(subject))
        self.both(lambda store: store.accounts.find_subject(subject))

    @rule(adds=st.booleans())
    def change_client(self, adds):
        client, event = a_client(self.clock), an_event(self.clock.now())
        order = Revocation(scope=Scope.CLIENT, id=client.client_id, event=event)
        if adds:
            self.both(lambda store: store.clients.add(client, event))
        else:
            self.both(lambda store: store.clients.delete(client.client_id, revocation=order))

    @rule(keys=st.lists(st.sampled_from(["a", "b"]), max_size=3), step=STEPS)
    def attempt(self, keys, step):
        self.both(lambda store: store.throttle.attempt(keys, now=self.clock.now() + step))

    @rule(key=st.sampled_from(["a", "b"]), step=STEPS)
    def remember(self, key, step):
        now = self.clock.now()
        self.both(lambda store: store.throttle.remember(key, now=now - step))
        self.both(lambda store: store.throttle.is_remembered(key, now=now + step))

    @invariant()
    def feeds_and_trails_are_the_same(self):
        if not hasattr(self, "runner"):
            return

        async def look(store: Store) -> object:
            head = await store.feed.head()
            live = await store.feed.live(self.clock.now())
            trail = await store.audit.list(limit=PLENTY)
            return head.position, head.chain, list(live[1]), list(trail.events)

        self.both(look)


class SqliteAgainstMemory(AgainstMemory):
    async def open_other(self) -> Store:
        path = Path(self.folder.name) / "keyfob.db"
        return await open_store(f"sqlite:///{path}?synchronous=normal", clock=self.clock)


class RedisAgainstMemory(AgainstMemory):
    server: ClassVar[RedisServer]

    async def open_other(self) -> Store:
        """Open an empty store with the salt of the one in memory: the ids of sessions are made with it."""
        url = self.server.url
        async with Redis(port=self.server.port) as raw:
            await raw.flushall()
            await (await open_store(url, clock=self.clock)).close()
            await raw.hset("kf:{feed}:meta", "salt", self.memory.salt)
        return await open_store(url, clock=self.clock)


@pytest.fixture
def on_redis(redis_server: RedisServer) -> None:
    RedisAgainstMemory.server = redis_server


TestSqliteAgainstMemory = SqliteAgainstMemory.TestCase
TestSqliteAgainstMemory.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRedisAgainstMemory = pytest.mark.usefixtures("on_redis")(RedisAgainstMemory.TestCase)
TestRedisAgainstMemory.settings = settings(
    max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
