"""The session service: create, check, renew."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from keyfob.base.errors import Cause, ConfigurationError, Denied
from keyfob.base.events import Event
from keyfob.base.identifiers import (
    FIRST_PARTY,
    Position,
    SessionId,
    Strategy,
    Subject,
    is_session_id,
)
from keyfob.base.opaque import OpaqueKeys, OpaqueKind, OpaqueToken
from keyfob.revocation.entry import Reach, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.activity import Activity
from keyfob.sessions.policy import AtLimit, Lifetimes, SessionPolicy
from keyfob.sessions.sessions import MAX_USER_AGENT, Created, Login, Sessions
from keyfob.stores.memory import open_memory_store
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock

MICROSECOND = timedelta(microseconds=1)
OLD = OpaqueKeys(key_id=b"key1", tag_key=b"t" * 32, rotation_key=b"r" * 32)
NEW = OpaqueKeys(key_id=b"key2", tag_key=b"u" * 32, rotation_key=b"s" * 32)


class Ring:
    """Two pairs of keys, one of them current."""

    def __init__(self) -> None:
        self.current = OLD

    def current_opaque(self) -> OpaqueKeys:
        return self.current

    def opaque_keys(self, key_id: bytes) -> OpaqueKeys | None:
        return {pair.key_id: pair for pair in (OLD, NEW)}.get(key_id)


class Desk:
    def __init__(self, **policy: Any) -> None:
        self.clock = FrozenClock()
        self.store: Store = open_memory_store(self.clock)
        self.ring = Ring()
        self.policy = SessionPolicy(**policy)
        self.sessions = Sessions(
            self.store.sessions, self.ring, salt=b"s" * 32, policy=self.policy, clock=self.clock
        )

    def login(
        self,
        strategy: Strategy = Strategy.SESSION,
        kind: OpaqueKind | None = OpaqueKind.SESSION,
        **more: Any,
    ) -> Login:
        session_id, ends_at = self.sessions.new_id(Subject("alice"), strategy)
        return Login(
            session_id=session_id,
            subject=Subject("alice"),
            client_id=FIRST_PARTY,
            strategy=strategy,
            kind=kind,
            as_of=Position(0),
            ends_at=ends_at,
            audience=("web",),
            **more,
        )

    async def signed_in(self) -> tuple[Created, OpaqueToken]:
        created = await self.sessions.create(self.login())
        assert created.token is not None
        return created, created.token

    async def cause(self, token: OpaqueToken) -> Cause | None:
        try:
            await self.sessions.check(token)
        except Denied as denied:
            return denied.cause
        return None


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize("strategy", list(Strategy))
def test_an_id_says_when_the_session_ends_and_keeps_a_subject_together(
    desk: Desk, strategy: Strategy
) -> None:
    made = [desk.sessions.new_id(Subject("alice"), strategy) for _ in range(5)]
    assert {ends_at for _, ends_at in made} == {desk.clock.now() + desk.policy.lifetimes[strategy].absolute}
    assert all(is_session_id(session_id) for session_id, _ in made)
    assert len({session_id for session_id, _ in made}) == 5
    assert len({session_id[:12] for session_id, _ in made}) == 1


async def test_a_session_remembers_its_login(desk: Desk) -> None:
    desk.clock.advance(5)
    earlier = desk.clock.now() - timedelta(seconds=4)
    login = desk.login(
        scopes=("x",),
        amr=("pwd",),
        acr="2",
        auth_time=earlier,
        persistent=True,
        user_agent="u" * (MAX_USER_AGENT + 1),
        address="192.0.2.7",
    )
    created = await desk.sessions.create(login)
    assert created.ended == ()
    assert created.token is not None
    found = await desk.store.sessions.find(login.session_id)
    assert found is not None
    assert found.session == created.session
    session = created.session
    assert session.created_at == session.last_seen_at == desk.clock.now()
    assert session.auth_time == earlier
    assert session.user_agent == "u" * MAX_USER_AGENT
    assert (session.generation, session.chain_generation, session.digest) == (0, 0, created.token.digest)
    [event] = (await desk.store.audit.list(subject=None, code="login", after=None, limit=9)).events
    assert (event.actor, event.address, event.facts) == ("alice", "192.0.2.7", {"strategy": "session"})


async def test_the_strategy_jwt_has_a_row_and_no_token(desk: Desk) -> None:
    created = await desk.sessions.create(desk.login(Strategy.JWT, None))
    assert created.token is None
    assert created.session.digest is None
    with pytest.raises(Denied, match="only a login"):
        await desk.sessions.renew(created.session)


async def test_every_token_is_fresh_and_new_logins_have_todays_keys(desk: Desk) -> None:
    _, one = await desk.signed_in()
    desk.ring.current = NEW
    _, two = await desk.signed_in()
    assert (one.keys, two.keys) == (OLD, NEW)
    assert one.digest != two.digest
    for token in (one, two):
        assert desk.sessions.parse(token.text(), OpaqueKind.SESSION) == token
        assert await desk.cause(token) is None


@pytest.mark.parametrize("kind", [OpaqueKind.REFRESH, OpaqueKind.API_KEY])
async def test_a_token_of_another_kind_is_malformed(desk: Desk, kind: OpaqueKind) -> None:
    _, token = await desk.signed_in()
    with pytest.raises(Denied) as denied:
        desk.sessions.parse(token.text(), kind)
    assert denied.value.cause is Cause.MALFORMED


async def test_only_the_secret_of_the_row_opens_it(desk: Desk) -> None:
    created, token = await desk.signed_in()
    minted = OpaqueToken.mint(OpaqueKind.SESSION, created.session.session_id, OLD)
    for other in (
        minted,
        structs.replace(token, generation=1),
        structs.replace(token, session_id=SessionId("0" * 32)),
        structs.replace(token, kind=OpaqueKind.REFRESH),
    ):
        assert await desk.cause(other) is Cause.UNKNOWN_SESSION


async def test_a_wrong_secret_does_not_learn_that_a_session_was_ended(desk: Desk) -> None:
    created, _ = await desk.signed_in()
    desk.clock.advance(timedelta(hours=13))
    minted = OpaqueToken.mint(OpaqueKind.SESSION, created.session.session_id, OLD)
    assert await desk.cause(minted) is Cause.UNKNOWN_SESSION


async def test_a_renewal_begins_a_new_chain_with_todays_keys(desk: Desk) -> None:
    created, token = await desk.signed_in()
    desk.ring.current = NEW
    renewed, fresh, entry = await desk.sessions.renew(created.session)
    assert fresh.keys == NEW
    assert (fresh.generation, renewed.generation, renewed.chain_generation) == (1, 1, 1)
    assert (entry.scope, entry.id, entry.reach) == (Scope.SESSION, renewed.session_id, Reach.CLAIMS)
    assert renewed.as_of == entry.position
    for at, expected in ((timedelta(seconds=30) - MICROSECOND, None), (MICROSECOND, Cause.UNKNOWN_SESSION)):
        desk.clock.advance(at)
        assert await desk.cause(token) is expected
        assert await desk.cause(fresh) is None


async def test_a_renewal_of_what_was_renewed_meanwhile_fails(desk: Desk) -> None:
    created, _ = await desk.signed_in()
    await desk.sessions.renew(created.session)
    with pytest.raises(Denied) as denied:
        await desk.sessions.renew(created.session)
    assert denied.value.cause is Cause.UNKNOWN_SESSION


async def test_only_the_last_token_before_a_renewal_is_good(desk: Desk) -> None:
    created, first = await desk.signed_in()
    renewed, second, _ = await desk.sessions.renew(created.session)
    _, third, _ = await desk.sessions.renew(renewed)
    assert [await desk.cause(token) for token in (first, second, third)] == [
        Cause.UNKNOWN_SESSION,
        None,
        None,
    ]


async def test_the_oldest_sessions_make_room() -> None:
    desk = Desk(sessions_per_subject=2)
    made = []
    for _ in range(4):
        made.append(await desk.signed_in())
        desk.clock.advance(1)
    assert [len(created.ended) for created, _ in made] == [0, 0, 1, 1]
    assert [entry.id for created, _ in made for entry in created.ended] == [
        created.session.session_id for created, _ in made[:2]
    ]
    causes = [await desk.cause(token) for _, token in made]
    assert causes == [Cause.REVOKED, Cause.REVOKED, None, None]


async def test_at_the_limit_a_login_is_denied_and_changes_nothing() -> None:
    desk = Desk(sessions_per_subject=2, at_limit=AtLimit.DENY)
    made = [await desk.signed_in() for _ in range(2)]
    with pytest.raises(Denied) as denied:
        await desk.signed_in()
    assert denied.value.cause is Cause.SESSION_LIMIT
    assert [await desk.cause(token) for _, token in made] == [None, None]
    assert (await desk.store.feed.head()).position == 0
    # Sessions that idled out do not count.
    desk.clock.advance(timedelta(minutes=30))
    await desk.signed_in()


def test_a_policy_names_every_strategy_and_keeps_its_bounds() -> None:
    lifetimes = SessionPolicy().lifetimes
    with pytest.raises(ConfigurationError, match="every strategy"):
        SessionPolicy(lifetimes={Strategy.SESSION: lifetimes[Strategy.SESSION]})
    day = timedelta(hours=24)
    jwt = {**lifetimes, Strategy.JWT: Lifetimes(idle=None, absolute=day)}
    assert SessionPolicy(lifetimes=jwt).longest_session == timedelta(days=30)
    jwt[Strategy.JWT] = Lifetimes(idle=None, absolute=day + MICROSECOND)
    with pytest.raises(ConfigurationError, match="24 hours"):
        SessionPolicy(lifetimes=jwt)


@pytest.mark.parametrize(
    ("idle", "absolute"),
    [
        (timedelta(0), timedelta(hours=1)),
        (-MICROSECOND, timedelta(hours=1)),
        (None, timedelta(0)),
        (timedelta(hours=1), -MICROSECOND),
    ],
    ids=str,
)
def test_no_session_is_over_before_it_begins(idle: timedelta | None, absolute: timedelta) -> None:
    lifetimes = SessionPolicy().lifetimes
    with pytest.raises(ConfigurationError, match="above 0"):
        SessionPolicy(lifetimes={**lifetimes, Strategy.HYBRID: Lifetimes(idle=idle, absolute=absolute)})
    tight = {**lifetimes, Strategy.HYBRID: Lifetimes(idle=MICROSECOND, absolute=MICROSECOND)}
    assert SessionPolicy(lifetimes=tight).lifetimes == tight


@pytest.mark.parametrize(
    ("idle", "interval"),
    [(None, 60), (timedelta(minutes=30), 60), (timedelta(minutes=4), 60), (timedelta(seconds=236), 59)],
    ids=str,
)
def test_activity_is_written_four_times_within_a_short_idle_limit(
    idle: timedelta | None, interval: int
) -> None:
    assert SessionPolicy().touch_interval_within(idle) == timedelta(seconds=interval)


async def test_a_later_note_of_activity_replaces_an_earlier_one_and_is_written_once(desk: Desk) -> None:
    created, _ = await desk.signed_in()
    session_id = created.session.session_id
    activity = Activity(desk.store.sessions)
    assert await activity.write() == 0
    for seconds in (60, 70):
        activity.note(session_id, created.session.created_at + timedelta(seconds=seconds))
    desk.clock.advance(70)
    assert await activity.write() == 1
    assert await activity.write() == 0
    found = await desk.store.sessions.find(session_id)
    assert found is not None
    assert found.session.last_seen_at == desk.clock.now()


async def test_activity_revives_nothing(desk: Desk) -> None:
    created, token = await desk.signed_in()
    activity = Activity(desk.store.sessions)
    desk.clock.advance(timedelta(minutes=30))
    activity.note(created.session.session_id, desk.clock.now())
    activity.note(SessionId("0" * 32), desk.clock.now())
    assert await activity.write() == 0
    assert await desk.cause(token) is Cause.IDLE


async def test_a_login_with_an_old_position_is_void_if_a_cut_off_came_after_it(desk: Desk) -> None:
    login = desk.login()
    order = Revocation(scope=Scope.SUBJECT, id="alice", event=Event(at=desk.clock.now(), code="revoked"))
    await desk.store.sessions.end(order, now=desk.clock.now())
    with pytest.raises(Denied) as denied:
        await desk.sessions.create(login)
    assert denied.value.cause is Cause.REVOKED
    await desk.sessions.create(replace(login, as_of=Position(1)))
