"""Races: what must come out when many do the same at the same moment.

    @pytest.fixture(scope="module")
    def processes():
        processes = ProcessRacers()
        yield processes
        processes.close()

    class TestMyRaces(StoreRaces):
        @pytest.fixture
        async def store(self, clock): ...          # as for every contract class

        @pytest.fixture
        def racers(self, store, processes):        # the default: threads on one store
            processes.open(partial(open_my_store, URL))
            return processes

Raise `rounds` for a soak.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import ClassVar

import pytest
from msgspec.structs import replace

from keyfob.accounts.rules import FREE_ATTEMPTS
from keyfob.base.identifiers import ClientId, Position, SessionId, Subject
from keyfob.clients.change import ClientChange
from keyfob.clients.client import Client
from keyfob.clients.store import UsedAssertion
from keyfob.revocation.canary import canary_id
from keyfob.revocation.entry import Reach, Scope
from keyfob.revocation.reports import Denial
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.policy import AtLimit
from keyfob.sessions.session import Session
from keyfob.sessions.store import (
    Added,
    AlreadyEnded,
    CutOff,
    Ended,
    LimitReached,
    Renewal,
    Renewed,
    Replayed,
    Reused,
    Rotated,
    Seen,
    Unknown,
)
from keyfob.testing.account_store_contract import an_account
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.key_store_contract import a_key
from keyfob.testing.race_verbs import (
    LIMIT,
    add_account,
    add_key,
    attempt,
    change_client,
    end,
    log_in_or_end,
    log_in_within_the_limit,
    present,
    present_or_renew,
    renew,
    report_denials,
    revoke_canary,
    set_password,
    take_assertion,
    touch_or_end,
    write_data,
)
from keyfob.testing.racers import Racers, ThreadRacers
from keyfob.testing.renewal_contract import renewal
from keyfob.testing.report_store_contract import ORDERS, PERIOD, a_canary, a_report
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import (
    ALICE,
    WINDOW,
    Store,
    StoreContract,
    a_session,
    an_event,
    assert_chained,
    entries,
    found,
    is_live,
    position,
    put_new,
    revocation,
)

RACERS = 8


class StoreRaces(StoreContract):
    """Every verb that says who won, carried out by eight at once, `rounds` times."""

    rounds: ClassVar[int] = 12

    @pytest.fixture
    def racers(self, store: Store) -> Racers | Iterator[Racers]:
        """Give the racers."""
        return ThreadRacers(store)

    async def test_one_of_many_rotations_wins(self, store: Store, clock: FrozenClock, racers: Racers) -> None:
        for _ in range(self.rounds):
            session = await put_new(store, clock)
            outcomes = racers.race(present, [(session.session_id, 0, clock.now())] * RACERS)
            assert Counter(map(type, outcomes)) == {Rotated: 1, Replayed: RACERS - 1}
            after = await found(store, session.session_id)
            secrets = {
                outcome.session.digest for outcome in outcomes if isinstance(outcome, Rotated | Replayed)
            }
            assert secrets == {after.digest}
            assert after.generation == 1
            assert after.replayed_rotations == 1
            assert await is_live(store, session.session_id, clock.now())

    async def test_old_and_new_secrets_at_once_leave_one(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        for _ in range(self.rounds):
            session = await put_new(store, clock)
            await rotate(store, session.session_id, 0, clock.now())
            clock.advance(WINDOW - timedelta(seconds=1))
            orders = [(session.session_id, number % 2, clock.now()) for number in range(RACERS)]
            outcomes = racers.race(present, orders)
            assert not any(isinstance(outcome, Rotated | Reused | Unknown) for outcome in outcomes)
            assert (await found(store, session.session_id)).generation == 1
            clock.advance(WINDOW)
            outcomes = racers.race(present, [(session.session_id, 1, clock.now())] * RACERS)
            assert Counter(map(type, outcomes)) == {Rotated: 1, Replayed: RACERS - 1}

    async def test_one_of_many_thieves_ends_the_session(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        for _ in range(self.rounds):
            session = await put_new(store, clock)
            await rotate(store, session.session_id, 0, clock.now())
            before = await position(store)
            clock.advance(WINDOW)
            outcomes = racers.race(present, [(session.session_id, 0, clock.now())] * RACERS)
            assert Counter(map(type, outcomes)) == {Reused: 1, Unknown: RACERS - 1}
            assert await position(store) == before + 1

    async def test_one_of_many_renewals_wins(self, store: Store, clock: FrozenClock, racers: Racers) -> None:
        for _ in range(self.rounds):
            session = await put_new(store, clock)
            order = (session.session_id, renewal(session, at=clock.now()), clock.now())
            outcomes = racers.race(renew, [order] * RACERS)
            assert Counter(map(type, outcomes)) == {Renewed: 1, Unknown: RACERS - 1}

    async def test_a_renewal_and_rotations_leave_one_secret(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        for _ in range(self.rounds):
            session = await put_new(store, clock)
            orders: list[tuple[SessionId, int | Renewal, datetime]] = [
                (session.session_id, 0 if number % 2 else renewal(session, at=clock.now()), clock.now())
                for number in range(RACERS)
            ]
            outcomes = racers.race(present_or_renew, orders)
            counts = Counter(map(type, outcomes))
            assert counts[Rotated] + counts[Renewed] == 1
            assert counts[Reused] == 0
            assert (await found(store, session.session_id)).generation == 1

    async def test_a_session_is_ended_by_one(self, store: Store, clock: FrozenClock, racers: Racers) -> None:
        for _ in range(self.rounds):
            session = await put_new(store, clock)
            before = await position(store)
            order = revocation(Scope.SESSION, session.session_id, clock.now())
            outcomes = racers.race(end, [(order, clock.now())] * RACERS)
            assert Counter(map(type, outcomes)) == {Ended: 1, AlreadyEnded: RACERS - 1}
            positions = {
                outcome.entry.position if isinstance(outcome, Ended) else outcome.position
                for outcome in outcomes
            }
            assert positions == {before + 1} == {await position(store)}

    async def test_touching_never_revives(self, store: Store, clock: FrozenClock, racers: Racers) -> None:
        for _ in range(self.rounds):
            session = await put_new(store, clock)
            clock.advance(1)
            orders: list[tuple[Seen | Revocation, datetime]] = [
                (Seen(session.session_id, clock.now() + timedelta(milliseconds=number)), clock.now())
                if number % 2
                else (revocation(Scope.SESSION, session.session_id, clock.now()), clock.now())
                for number in range(RACERS)
            ]
            outcomes = racers.race(touch_or_end, orders)
            assert sum(isinstance(outcome, Ended) for outcome in outcomes) == 1
            assert not await is_live(store, session.session_id, clock.now())
            late = Seen(session.session_id, clock.now() + timedelta(seconds=1))
            assert await store.sessions.touch([late]) == 0

    async def test_no_login_survives_the_end_of_its_subject(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        for round_ in range(self.rounds):
            subject = Subject(f"subject-{round_}")
            orders: list[Session | tuple[Revocation, datetime]] = [
                a_session(store, clock, subject)
                if number % 2
                else (revocation(Scope.SUBJECT, subject, clock.now()), clock.now())
                for number in range(RACERS)
            ]
            outcomes = racers.race(log_in_or_end, orders)
            last = max(outcome.entry.position for outcome in outcomes if isinstance(outcome, Ended))
            logins = [outcome for outcome in outcomes if isinstance(outcome, tuple)]
            assert len(logins) == RACERS // 2
            for session, outcome in logins:
                answer = await store.sessions.find(session.session_id)
                if outcome == CutOff():
                    assert answer is None
                    continue
                assert answer is not None
                assert (answer.session.ended_at is None) == (session.as_of >= last)

    async def test_no_child_survives_its_parent(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        for _ in range(self.rounds):
            parent = await put_new(store, clock)
            orders: list[Session | tuple[Revocation, datetime]] = [
                replace(a_session(store, clock), parent_session_id=parent.session_id)
                if number % 4
                else (revocation(Scope.SESSION, parent.session_id, clock.now()), clock.now())
                for number in range(RACERS)
            ]
            outcomes = racers.race(log_in_or_end, orders)
            for outcome in outcomes:
                if isinstance(outcome, tuple) and outcome[1] == Added():
                    assert not await is_live(store, outcome[0].session_id, clock.now())

    async def test_the_cap_is_never_exceeded_by_denying(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        for round_ in range(self.rounds):
            subject = Subject(f"subject-{round_}")
            orders = [(a_session(store, clock, subject), AtLimit.DENY) for _ in range(RACERS)]
            outcomes = racers.race(log_in_within_the_limit, orders)
            assert Counter(map(type, outcomes)) == {Added: LIMIT, LimitReached: RACERS - LIMIT}
            listed = await store.sessions.list(subject, now=clock.now(), after=None, limit=RACERS)
            assert len(listed.sessions) == LIMIT

    async def test_the_cap_is_never_exceeded_by_ending_the_oldest(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        for round_ in range(self.rounds):
            subject = Subject(f"subject-{round_}")
            orders = [(a_session(store, clock, subject), AtLimit.END_OLDEST) for _ in range(RACERS)]
            outcomes = racers.race(log_in_within_the_limit, orders)
            ended = [
                entry.id for outcome in outcomes if isinstance(outcome, Added) for entry in outcome.ended
            ]
            assert len(ended) == len(set(ended)) == RACERS - LIMIT
            listed = await store.sessions.list(subject, now=clock.now(), after=None, limit=RACERS)
            assert len(listed.sessions) == LIMIT
            assert not set(ended) & {session.session_id for session in listed.sessions}

    async def test_one_of_many_keys_is_added(self, store: Store, clock: FrozenClock, racers: Racers) -> None:
        newest = None
        for round_ in range(self.rounds):
            clock.advance(1)
            orders = [(a_key(clock, f"{round_}-{number}"), newest) for number in range(RACERS)]
            outcomes = racers.race(add_key, orders)
            assert Counter(outcomes) == {True: 1, False: RACERS - 1}
            keys = await store.keys.all()
            assert len(keys) == round_ + 1
            newest = keys[-1].key_id
            assert newest == orders[outcomes.index(True)][0].key_id

    async def test_attempts_at_once_are_as_many_as_in_turn(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        for round_ in range(self.rounds):
            order = ([f"account-{round_}", "address"], clock.advance(timedelta(days=1)))
            outcomes = racers.race(attempt, [order] * RACERS)
            assert Counter(outcomes) == {0.0: FREE_ATTEMPTS, 1.0: RACERS - FREE_ATTEMPTS}

    async def test_a_name_is_taken_by_one(self, store: Store, clock: FrozenClock, racers: Racers) -> None:
        for round_ in range(self.rounds):
            accounts = [
                an_account(clock, Subject(f"usr_{round_}_{number}"), f"name-{round_}")
                for number in range(RACERS)
            ]
            outcomes = racers.race(add_account, accounts)
            assert Counter(outcomes) == {True: 1, False: RACERS - 1}
            winner = await store.accounts.find_by_name(f"name-{round_}")
            assert winner == accounts[outcomes.index(True)]

    async def test_a_password_is_changed_by_one(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        account = an_account(clock)
        await add_account(store, account)
        present_hash = account.password_hash
        for round_ in range(self.rounds):
            orders = [(f"hash-{round_}-{number}", present_hash, clock.now()) for number in range(RACERS)]
            outcomes = racers.race(set_password, orders)
            assert sum(outcome is not None for outcome in outcomes) == 1
            changed = await store.accounts.find(ALICE)
            assert changed is not None
            present_hash = changed.password_hash
        assert await position(store) == self.rounds

    async def test_an_assertion_is_taken_by_one(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        for round_ in range(self.rounds):
            used = UsedAssertion(round_.to_bytes(32, "big"), clock.now() + WINDOW)
            assert Counter(racers.race(take_assertion, [used] * RACERS)) == {True: 1, False: RACERS - 1}

    async def test_no_change_of_a_client_is_lost(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        for round_ in range(self.rounds):
            client_id = ClientId(f"client-{round_}")
            await store.clients.add(
                Client(client_id=client_id, created_at=clock.now()), an_event(clock.now())
            )
            changes = [ClientChange(new_secret=bytes([number]) * 32) for number in range(RACERS - 1)]
            changes.append(ClientChange(public_keys=b"{}"))
            outcomes = racers.race(change_client, [(client_id, change, clock.now()) for change in changes])
            assert None not in outcomes
            left = await store.clients.find(client_id)
            assert left is not None
            # Each found what the one before it left: the last two secrets stand, in the order of some line of all changes.
            assert (len(left.secret_digests), left.public_keys) == (2, b"{}")
            pairs = {one.client.secret_digests for one in outcomes if one is not None}
            seconds = [pair[1] for pair in pairs if len(pair) > 1]
            assert len(seconds) == len(set(seconds)) == RACERS - 2

    async def test_data_is_written_by_one(self, store: Store, clock: FrozenClock, racers: Racers) -> None:
        for _ in range(self.rounds):
            session = await put_new(store, clock)
            orders = [(session.session_id, str(number).encode(), clock.now()) for number in range(RACERS)]
            outcomes = racers.race(write_data, orders)
            assert Counter(outcomes) == {True: 1, False: RACERS - 1}
            kept = await store.sessions.read_data(session.session_id)
            assert kept is not None
            assert kept.data == str(outcomes.index(True)).encode()

    async def test_positions_have_no_gap_whatever_happens_at_once(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        for round_ in range(self.rounds):
            session = await put_new(store, clock)
            now = clock.now()
            scopes = [
                revocation(Scope.SESSION, session.session_id, now),
                revocation(Scope.SUBJECT, f"subject-{round_}", now - timedelta(seconds=round_)),
                revocation(Scope.SUBJECT, ALICE, now, reach=Reach.CLAIMS),
                revocation(Scope.TOKEN, f"jti-{round_}", now + timedelta(seconds=round_)),
            ]
            orders = [(scopes[number % len(scopes)], now) for number in range(RACERS)]
            outcomes = racers.race(end, orders)
            assert sum(isinstance(outcome, Ended) for outcome in outcomes) == RACERS - 1
            clock.advance(1)
        found_entries = await entries(store)
        assert_chained(found_entries)
        head = await store.feed.head()
        assert head.position == Position(len(found_entries)) == self.rounds * (RACERS - 1)
        assert head.chain == found_entries[-1].chain

    async def test_one_canary_is_revoked_a_period(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        for number in range(self.rounds):
            await store.reports.report(ORDERS, a_report(clock), now=clock.now())  # somebody listens
            revoked = [
                entry for entry in racers.race(revoke_canary, [clock.now()] * RACERS) if entry is not None
            ]
            assert [entry.id for entry in revoked] == [canary_id(number + 1)]
            clock.advance(PERIOD)
        assert await position(store) == self.rounds

    async def test_no_report_takes_from_another(
        self, store: Store, clock: FrozenClock, racers: Racers
    ) -> None:
        canaries = []
        for _ in range(RACERS):
            canaries.append(await a_canary(store, clock))
            clock.advance(PERIOD)
        orders = [(a_report(clock, Denial(canary.position, canary.at)), clock.now()) for canary in canaries]
        assert racers.race(report_denials, orders) == [True] * RACERS
        (record,) = (await store.reports.reports()).verifiers
        assert [lag.number for lag in record.lags] == list(range(1, RACERS + 1))
