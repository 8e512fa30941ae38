"""What many callers ask for at once: few transactions, and whoever needs a row that somebody holds waits alone."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from keyfob.base.identifiers import SessionId, Subject
from keyfob.revocation.entry import Scope
from keyfob.sessions.session import Session
from keyfob.sessions.store import Ended, Renewed, Seen, Unknown
from keyfob.stores.postgres import open_postgres_store, read_url
from keyfob.stores.postgres.listening import CHANNEL
from keyfob.stores.postgres.locks import LockClass, lock_names
from keyfob.stores.postgres.touching import PORTION
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.renewal_contract import renewal
from keyfob.testing.store_contract import (
    ALICE,
    LIFETIME,
    a_session,
    an_event,
    assert_chained,
    entries,
    found,
    put,
    put_new,
    revocation,
)

PATIENCE = 20  # seconds
HOLD = "SELECT 1 FROM keyfob.sessions WHERE session_id = $1 FOR UPDATE"


@pytest.fixture
async def patient(postgres_url: str, clock: FrozenClock) -> AsyncIterator[Store]:
    """A store that waits for locks longer than these tests do: what waits behind one does not come to its answer."""
    long = timedelta(seconds=5 * PATIENCE)
    options = dataclasses.replace(
        read_url(postgres_url), lock_timeout=long, statement_timeout=long, deadline=long
    )
    store = await open_postgres_store(options, clock=clock)
    yield store
    await store.close()


async def renew(store: Store, session: Session, clock: FrozenClock) -> Renewed | Unknown:
    now = clock.now()
    return await store.sessions.renew(
        session.session_id, renewal(session, at=now), now=now, event=an_event(now, "session_renewed")
    )


async def people(store: Store, clock: FrozenClock, count: int) -> list[Session]:
    return [await put_new(store, clock, Subject(f"person-{number}")) for number in range(count)]


async def held(raw: Any, session: Session) -> None:
    await raw.execute(HOLD, bytes.fromhex(session.session_id))


async def test_renewals_of_one_turn_are_one_transaction_with_one_chain(
    store: Store, clock: FrozenClock, raw: Any
) -> None:
    sessions = await people(store, clock, 20)
    calls: list[str] = []
    await raw.add_listener(CHANNEL, lambda *call: calls.append(call[2]))
    outcomes = await asyncio.gather(*(renew(store, session, clock) for session in sessions))
    assert [outcome.entry.position for outcome in outcomes if isinstance(outcome, Renewed)] == list(
        range(1, 21)
    )
    assert_chained(await entries(store))
    for session, outcome in zip(sessions, outcomes, strict=True):
        assert isinstance(outcome, Renewed)
        kept = await found(store, session.session_id)
        assert (kept.as_of, kept.digest) == (outcome.entry.position, outcome.session.digest)
        assert outcome.entry.id == session.session_id
    await raw.fetchval("SELECT 1")  # what was notified comes before the answer
    assert len(calls) == 1
    assert len((await store.audit.list(code="session_renewed", limit=100)).events) == 20


async def test_of_two_renewals_by_one_token_at_once_one_wins(store: Store, clock: FrozenClock) -> None:
    session = await put_new(store, clock)
    outcomes = await asyncio.gather(*(renew(store, session, clock) for _ in range(4)))
    assert [type(outcome) for outcome in outcomes] == [Renewed, Unknown, Unknown, Unknown]


async def test_a_session_that_somebody_holds_holds_up_no_other_renewal(
    patient: Store, clock: FrozenClock, raw: Any
) -> None:
    first, *others = await people(patient, clock, 6)
    async with raw.transaction():
        await held(raw, first)
        waiting = asyncio.ensure_future(renew(patient, first, clock))
        outcomes = await asyncio.wait_for(
            asyncio.gather(*(renew(patient, other, clock) for other in others)), PATIENCE
        )
        assert all(isinstance(outcome, Renewed) for outcome in outcomes)
        assert not waiting.done()
    assert isinstance(await asyncio.wait_for(waiting, PATIENCE), Renewed)


async def test_a_renewal_that_waited_for_an_ending_is_refused(
    patient: Store, clock: FrozenClock, raw: Any
) -> None:
    session = await put_new(patient, clock)
    async with raw.transaction():
        await held(raw, session)
        ending = asyncio.ensure_future(
            patient.sessions.end(revocation(Scope.SESSION, session.session_id, clock.now()), now=clock.now())
        )
        await until_waiting(raw)
        renewing = asyncio.ensure_future(renew(patient, session, clock))
        await until_waiting(raw, 2)
    assert isinstance(await asyncio.wait_for(ending, PATIENCE), Ended)
    assert await asyncio.wait_for(renewing, PATIENCE) == Unknown()
    assert (await found(patient, session.session_id)).ended_at is not None


async def until_waiting(raw: Any, count: int = 1) -> None:
    # Not pg_stat_activity, of which a transaction sees one snapshot.
    query = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
    async with asyncio.timeout(PATIENCE):
        while await raw.fetchval(query) < count:
            await asyncio.sleep(0)


async def test_activity_of_several_callers_is_one_transaction_and_each_is_told_its_own(
    store: Store, clock: FrozenClock, raw: Any
) -> None:
    sessions = await people(store, clock, 6)
    gone = sessions[5]
    await store.sessions.end(revocation(Scope.SESSION, gone.session_id, clock.now()), now=clock.now())
    clock.advance(60)
    earlier, later = clock.now(), clock.now() + timedelta(seconds=5)

    def seen(at: Any, *numbers: int) -> list[Seen]:
        return [Seen(sessions[number].session_id, at) for number in numbers]

    moved = await asyncio.gather(
        store.sessions.touch(seen(earlier, 0, 1)),
        store.sessions.touch(seen(later, 1, 2)),
        store.sessions.touch(seen(earlier, 1, 2, 3)),  # behind what the one before it saw, but for one
        store.sessions.touch([*seen(later, 4, 5), Seen(SessionId("0" * 32), later)]),
    )
    assert moved == [2, 2, 1, 1]
    expected = [earlier, later, later, earlier, later]
    assert [(await found(store, one.session_id)).last_seen_at for one in sessions[:5]] == expected
    assert (await found(store, gone.session_id)).ended_at is not None
    versions = await raw.fetch(
        "SELECT DISTINCT xmin FROM keyfob.sessions WHERE last_seen_at >= $1",
        round(earlier.timestamp() * 1_000_000),
    )
    assert len(versions) == 1


async def test_a_session_that_somebody_holds_holds_up_nobody_else_s_activity(
    patient: Store, clock: FrozenClock, raw: Any
) -> None:
    first, second, third = await people(patient, clock, 3)
    clock.advance(60)
    async with raw.transaction():
        await held(raw, first)
        waiting = asyncio.ensure_future(
            patient.sessions.touch(
                [Seen(first.session_id, clock.now()), Seen(second.session_id, clock.now())]
            )
        )
        other = patient.sessions.touch([Seen(third.session_id, clock.now())])
        assert await asyncio.wait_for(other, PATIENCE) == 1
        assert not waiting.done()
    assert await asyncio.wait_for(waiting, PATIENCE) == 2


async def test_much_activity_at_once_is_written_in_steps(
    store: Store, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PORTION == 1_000
    monkeypatch.setattr("keyfob.stores.postgres.sessions.PORTION", 2)
    sessions = await people(store, clock, 5)
    clock.advance(60)
    uses = [Seen(session.session_id, clock.now()) for session in sessions]
    assert await store.sessions.touch(uses) == 5
    assert await store.sessions.touch(uses) == 0


async def test_a_session_that_somebody_holds_holds_up_no_other_ending(
    patient: Store, clock: FrozenClock, raw: Any
) -> None:
    store = patient
    first, *others = [await put_new(store, clock) for _ in range(12)]
    now = clock.now()

    def end(session_id: str) -> Any:
        return store.sessions.end(revocation(Scope.SESSION, session_id, now), now=now)

    async with raw.transaction():
        await held(raw, first)
        waiting = asyncio.ensure_future(end(first.session_id))
        ends = asyncio.gather(*(end(other.session_id) for other in others))
        outcomes = await asyncio.wait_for(ends, PATIENCE)
        assert all(isinstance(outcome, Ended) for outcome in outcomes)
        assert not waiting.done()
    assert isinstance(await asyncio.wait_for(waiting, PATIENCE), Ended)


async def test_a_login_that_somebody_holds_up_holds_up_no_other(
    patient: Store, clock: FrozenClock, raw: Any
) -> None:
    store = patient
    await store.feed.extend_retention(credential=LIFETIME, session=LIFETIME)
    other = a_session(store, clock, Subject("other"))
    async with raw.transaction():
        await lock_names(raw, LockClass.SUBJECT, [ALICE])
        waiting = asyncio.ensure_future(put(store, a_session(store, clock)))
        quick = asyncio.ensure_future(put(store, other))
        await asyncio.wait_for(quick, PATIENCE)
        assert not waiting.done()
    await asyncio.wait_for(waiting, PATIENCE)
