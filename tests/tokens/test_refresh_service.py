"""The refresh service on a store in memory: which token is taken for what."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import FIRST_PARTY, Position, Strategy, Subject
from keyfob.base.opaque import OpaqueKeys, OpaqueKind, OpaqueToken
from keyfob.sessions.policy import SessionPolicy
from keyfob.sessions.session import Session
from keyfob.sessions.sessions import Created, Login, Sessions
from keyfob.stores.memory import open_memory_store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.tokens.refresh import LONG_CHAIN, Refresh, Refreshed, TheftDetected, leads_to

KEYS = OpaqueKeys(key_id=b"key1", tag_key=b"t" * 32, rotation_key=b"r" * 32)


class Ring:
    """One pair of keys."""

    def current_opaque(self) -> OpaqueKeys:
        return KEYS

    def opaque_keys(self, key_id: bytes) -> OpaqueKeys | None:
        return KEYS if key_id == KEYS.key_id else None


class Desk:
    def __init__(self) -> None:
        self.clock = FrozenClock()
        self.store = open_memory_store(self.clock).sessions
        policy = SessionPolicy()
        self.sessions = Sessions(self.store, Ring(), salt=b"s" * 32, policy=policy, clock=self.clock)
        self.refresh = Refresh(self.store, self.sessions, policy=policy, clock=self.clock)

    async def login(
        self, strategy: Strategy = Strategy.HYBRID, kind: OpaqueKind | None = OpaqueKind.REFRESH
    ) -> Created:
        session_id, ends_at = self.sessions.new_id(Subject("alice"), strategy)
        return await self.sessions.create(
            Login(
                session_id=session_id,
                subject=Subject("alice"),
                client_id=FIRST_PARTY,
                strategy=strategy,
                kind=kind,
                as_of=Position(0),
                ends_at=ends_at,
                audience=("orders",),
            )
        )

    async def rotate(self, token: OpaqueToken) -> Refreshed | TheftDetected:
        return await self.refresh.rotate(await self.refresh.present(token.text()))


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_token_is_presented_without_any_effect(desk: Desk) -> None:
    created = await desk.login()
    assert created.token is not None
    for _ in range(3):
        presented = await desk.refresh.present(created.token.text())
        assert presented.token == created.token
        assert presented.session == created.session
        assert presented.as_of == 0
    assert "_secret" not in repr(presented)


async def test_each_token_of_a_chain_is_genuine_and_each_of_another_is_not(desk: Desk) -> None:
    created, stranger = await desk.login(), await desk.login()
    assert created.token is not None
    assert stranger.token is not None
    token = created.token
    chain = [token]
    for _ in range(3):
        desk.clock.advance(60)
        outcome = await desk.rotate(token)
        assert isinstance(outcome, Refreshed)
        token = outcome.token
        chain.append(token)
    session = outcome.session
    for genuine in chain:
        assert await leads_to(genuine, session)
    # One that nobody was given yet, one of another login, one with a generation that is not its own.
    for foreign in (
        token.successor(),
        stranger.token,
        replace(chain[0], generation=1),
        replace(chain[2], generation=1),
        replace(chain[3], generation=2),
    ):
        assert not await leads_to(foreign, session)


async def test_a_forged_generation_is_unknown_and_ends_nothing(desk: Desk) -> None:
    created = await desk.login()
    assert created.token is not None
    for forged in (
        replace(created.token, generation=1),
        replace(created.token, _secret=b"x" * 32),
        created.token.successor(),
    ):
        with pytest.raises(Denied) as denied:
            await desk.refresh.present(forged.text())
        assert denied.value.cause is Cause.UNKNOWN_SESSION
    assert isinstance(await desk.rotate(created.token), Refreshed)


@pytest.mark.parametrize(
    ("strategy", "kind"), [(Strategy.SESSION, OpaqueKind.SESSION), (Strategy.JWT, None)], ids=str
)
async def test_the_row_and_not_the_prefix_says_what_a_token_is(
    desk: Desk, strategy: Strategy, kind: OpaqueKind | None
) -> None:
    created = await desk.login(strategy, kind)
    relabelled = OpaqueToken.mint(OpaqueKind.REFRESH, created.session.session_id, KEYS)
    if created.token is not None:
        relabelled = replace(created.token, kind=OpaqueKind.REFRESH)
    with pytest.raises(Denied) as denied:
        await desk.refresh.present(relabelled.text())
    assert denied.value.cause is Cause.UNKNOWN_SESSION


async def test_a_session_without_a_secret_has_no_genuine_token(desk: Desk) -> None:
    created = await desk.login()
    assert created.token is not None
    assert not await leads_to(created.token, replace(created.session, digest=None))


@pytest.mark.parametrize("steps", [LONG_CHAIN - 1, LONG_CHAIN, LONG_CHAIN + 1])
async def test_a_long_chain_is_walked_to_its_end(steps: int) -> None:
    desk = Desk()
    created = await desk.login()
    assert created.token is not None
    token = created.token
    for _ in range(steps):
        token = token.successor()
    session: Session = replace(created.session, digest=token.digest, generation=steps)
    assert await leads_to(created.token, session)
    assert not await leads_to(replace(created.token, _secret=b"x" * 32), session)


async def test_a_chain_begins_anew_with_a_renewal(desk: Desk) -> None:
    created = await desk.login()
    assert created.token is not None
    renewed, token, _ = await desk.sessions.renew(created.session)
    assert not await leads_to(created.token, renewed)
    assert await leads_to(token, renewed)
    desk.clock.advance(60)
    assert isinstance(await desk.rotate(token), Refreshed)
    with pytest.raises(Denied):
        await desk.refresh.present(created.token.text())


async def test_what_was_presented_long_ago_is_judged_as_of_now(desk: Desk) -> None:
    created = await desk.login()
    assert created.token is not None
    presented = await desk.refresh.present(created.token.text())
    desk.clock.advance(timedelta(days=14))
    with pytest.raises(Denied) as denied:
        await desk.refresh.rotate(presented)
    assert denied.value.cause is Cause.IDLE


async def test_what_was_replaced_meanwhile_is_unknown(desk: Desk) -> None:
    created = await desk.login()
    assert created.token is not None
    presented = await desk.refresh.present(created.token.text())
    await desk.sessions.renew(created.session)
    with pytest.raises(Denied) as denied:
        await desk.refresh.rotate(presented)
    assert denied.value.cause is Cause.UNKNOWN_SESSION


async def test_theft_is_a_result_and_leaves_an_event(desk: Desk) -> None:
    created = await desk.login()
    assert created.token is not None
    first = await desk.rotate(created.token)
    assert isinstance(first, Refreshed)
    desk.clock.advance(30)
    stolen = await desk.rotate(created.token)
    assert isinstance(stolen, TheftDetected)
    assert stolen.entry.id == created.session.session_id
    assert stolen.session.ended_position == stolen.entry.position
    with pytest.raises(Denied) as denied:
        await desk.refresh.present(first.token.text())
    assert denied.value.cause is Cause.REVOKED
