"""What a `SessionStore` must do when a secret is renewed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from msgspec import structs

from keyfob.base.opaque import OpaqueKind
from keyfob.revocation.entry import Reach, Scope
from keyfob.sessions.session import Session
from keyfob.sessions.store import (
    Added,
    CutOff,
    Ended,
    Renewal,
    Renewed,
    Replayed,
    Rotated,
    Unknown,
)
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import (
    IDLE,
    WINDOW,
    Store,
    StoreContract,
    a_session,
    an_event,
    codes,
    digest_of,
    entries,
    found,
    position,
    put,
    put_new,
    revocation,
)


def renewal(session: Session, *, at: datetime) -> Renewal:
    """Return the renewal of *session* by a new chain."""
    assert session.digest is not None
    return Renewal(
        presented=session.digest,
        successor=digest_of(session.generation + 1, "b"),
        generation=session.generation,
        previous_until=at + WINDOW,
        auth_time=at,
        amr=("pwd", "otp"),
        acr="strong",
    )


class RenewalContract(StoreContract):
    """`renew`."""

    @pytest.mark.parametrize("kind", [OpaqueKind.SESSION, OpaqueKind.REFRESH])
    async def test_a_renewal_begins_a_new_chain(
        self, store: Store, clock: FrozenClock, kind: OpaqueKind
    ) -> None:
        session = structs.replace(a_session(store, clock), kind=kind)
        await put(store, session)
        now = clock.advance(60)
        order = renewal(session, at=now)
        outcome = await store.sessions.renew(
            session.session_id, order, now=now, event=an_event(now, "renewed")
        )
        assert isinstance(outcome, Renewed)
        entry = outcome.entry
        assert (entry.scope, entry.id, entry.reach) == (Scope.SESSION, session.session_id, Reach.CLAIMS)
        expected = structs.replace(
            session,
            digest=order.successor,
            generation=1,
            chain_generation=1,
            as_of=entry.position,
            previous_digest=digest_of(0),
            previous_until=now + WINDOW,
            auth_time=now,
            amr=("pwd", "otp"),
            acr="strong",
            last_seen_at=now,
        )
        assert outcome.session == expected
        assert await found(store, session.session_id) == expected
        assert await entries(store) == [entry]
        assert await codes(store) == ["login", "renewed"]

    async def test_a_renewal_keeps_what_it_does_not_name(self, store: Store, clock: FrozenClock) -> None:
        session = structs.replace(a_session(store, clock), amr=("pwd",), acr="low")
        await put(store, session)
        now = clock.advance(1)
        order = replace(renewal(session, at=now), auth_time=None, amr=None, acr=None)
        outcome = await store.sessions.renew(session.session_id, order, now=now, event=an_event(now))
        assert isinstance(outcome, Renewed)
        kept = outcome.session
        assert (kept.auth_time, kept.amr, kept.acr) == (session.auth_time, ("pwd",), "low")

    async def test_the_new_chain_rotates_and_the_old_is_unknown(
        self, store: Store, clock: FrozenClock
    ) -> None:
        session = await put_new(store, clock)
        await rotate(store, session.session_id, 0, clock.now())
        rotated = await found(store, session.session_id)
        now = clock.advance(1)
        outcome = await store.sessions.renew(
            session.session_id, renewal(rotated, at=now), now=now, event=an_event(now)
        )
        assert isinstance(outcome, Renewed)
        for generation in (0, 1):
            assert await rotate(store, session.session_id, generation, now) == Unknown()
        assert isinstance(await rotate(store, session.session_id, 2, now, chain="b"), Rotated)
        assert isinstance(await rotate(store, session.session_id, 2, now, chain="b"), Replayed)

    async def test_a_closed_window_stays_closed(self, store: Store, clock: FrozenClock) -> None:
        session = structs.replace(a_session(store, clock), window_closed=True, replayed_rotations=3)
        await put(store, session)
        outcome = await store.sessions.renew(
            session.session_id, renewal(session, at=clock.now()), now=clock.now(), event=an_event(clock.now())
        )
        assert isinstance(outcome, Renewed)
        assert outcome.session.window_closed
        assert outcome.session.replayed_rotations == 0

    async def test_a_second_renewal_of_the_same_token_is_unknown(
        self, store: Store, clock: FrozenClock
    ) -> None:
        session = await put_new(store, clock)
        order = renewal(session, at=clock.now())
        outcomes = [
            await store.sessions.renew(
                session.session_id, order, now=clock.now(), event=an_event(clock.now())
            )
            for _ in range(2)
        ]
        assert [type(outcome) for outcome in outcomes] == [Renewed, Unknown]
        assert await position(store) == 1

    @pytest.mark.parametrize(
        "wrong", [{"generation": 1}, {"presented": digest_of(1)}, {"presented": digest_of(0, "z")}]
    )
    async def test_a_renewal_by_another_token_is_unknown(
        self, store: Store, clock: FrozenClock, wrong: dict[str, object]
    ) -> None:
        session = await put_new(store, clock)
        order = replace(renewal(session, at=clock.now()), **wrong)  # type: ignore[arg-type]  # parametrized
        outcome = await store.sessions.renew(
            session.session_id, order, now=clock.now(), event=an_event(clock.now())
        )
        assert outcome == Unknown()
        assert await found(store, session.session_id) == session

    async def test_what_is_over_is_not_renewed(self, store: Store, clock: FrozenClock) -> None:
        session = await put_new(store, clock)
        order = renewal(session, at=clock.now())
        late = session.created_at + IDLE
        assert (
            await store.sessions.renew(session.session_id, order, now=late, event=an_event(late)) == Unknown()
        )
        await store.sessions.end(revocation(Scope.EVERYTHING, "", clock.now()), now=clock.now())
        outcome = await store.sessions.renew(
            session.session_id, order, now=clock.now(), event=an_event(clock.now())
        )
        assert outcome == Unknown()
        assert await codes(store) == ["login", "revoked"]

    async def test_without_a_secret_nothing_is_renewed(self, store: Store, clock: FrozenClock) -> None:
        session = structs.replace(a_session(store, clock), kind=None, digest=None)
        await put(store, session)
        order = Renewal(
            presented=digest_of(0), successor=digest_of(1), generation=0, previous_until=clock.now()
        )
        outcome = await store.sessions.renew(
            session.session_id, order, now=clock.now(), event=an_event(clock.now())
        )
        assert outcome == Unknown()

    async def test_a_renewed_session_is_cut_off_by_what_comes_later(
        self, store: Store, clock: FrozenClock
    ) -> None:
        session = await put_new(store, clock)
        outcome = await store.sessions.renew(
            session.session_id, renewal(session, at=clock.now()), now=clock.now(), event=an_event(clock.now())
        )
        assert isinstance(outcome, Renewed)
        ended = await store.sessions.end(
            revocation(Scope.CLIENT, session.client_id, clock.now()), now=clock.now()
        )
        assert isinstance(ended, Ended)
        assert (await found(store, session.session_id)).ended_position == ended.entry.position
        assert (
            await put(store, structs.replace(a_session(store, clock), as_of=outcome.entry.position))
            == CutOff()
        )
        assert (
            await put(store, structs.replace(a_session(store, clock), as_of=ended.entry.position)) == Added()
        )
