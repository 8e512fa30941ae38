"""What an `AccountStore` must do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import ClassVar

import pytest

from keyfob.accounts.account import Account, SubjectRecord
from keyfob.base.identifiers import SessionId, Subject
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.revocation.revocation import Revocation
from keyfob.sessions.store import UNRECORDED, CutOff, Holder
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import (
    ALICE,
    BOB,
    Store,
    StoreContract,
    a_session,
    an_event,
    codes,
    entries,
    found,
    is_live,
    position,
    put,
    put_new,
    revocation,
)

ROLES = frozenset({"buyer", "keyfob:admin"})


def an_account(clock: FrozenClock, subject: Subject = ALICE, name: str = "alice@example") -> Account:
    """Return an account."""
    return Account(
        subject=subject,
        name=name,
        password_hash="$argon2id$first",
        created_at=clock.now(),
        password_changed_at=clock.now(),
        roles=ROLES,
    )


async def put_account(store: Store, account: Account) -> Account:
    """Add *account*."""
    assert await store.accounts.add(account, an_event(account.created_at, "user_added"))
    return account


def order(clock: FrozenClock, reach: Reach = Reach.END, subject: Subject = ALICE) -> Revocation:
    """Return a revocation of *subject*."""
    return revocation(Scope.SUBJECT, subject, clock.now(), reach=reach)


Change = Callable[[Store, FrozenClock, Revocation], Awaitable[Entry | None]]


async def _set_password(store: Store, clock: FrozenClock, revoke: Revocation) -> Entry | None:
    return await store.accounts.set_password(ALICE, "new", replaces=None, now=clock.now(), revocation=revoke)


async def _set_roles(store: Store, clock: FrozenClock, revoke: Revocation) -> Entry | None:
    return await store.accounts.set_roles(ALICE, frozenset(), revocation=revoke)


async def _set_disabled(store: Store, clock: FrozenClock, revoke: Revocation) -> Entry | None:
    return await store.accounts.set_disabled(ALICE, now=clock.now(), revocation=revoke)


async def _delete(store: Store, clock: FrozenClock, revoke: Revocation) -> Entry | None:
    return await store.accounts.delete(ALICE, revocation=revoke)


CHANGES = [_set_password, _set_roles, _set_disabled, _delete]


class AccountStoreContract(StoreContract):
    """Accounts, the records of subjects, and what a change of them revokes.

    A store whose `find` reads the record of the subject with the session (`Found.holder`) sets `reads_holder_along`.
    """

    reads_holder_along: ClassVar[bool] = False

    async def test_an_account_is_found_as_it_was_added(self, store: Store, clock: FrozenClock) -> None:
        account = replace(an_account(clock), disabled_at=clock.now())
        await put_account(store, account)
        assert await store.accounts.find(ALICE) == account
        assert await store.accounts.find_by_name(account.name) == account
        assert await store.accounts.find_subject(ALICE) == SubjectRecord(
            subject=ALICE, roles=ROLES, disabled_at=clock.now()
        )
        assert await codes(store) == ["user_added"]

    async def test_what_is_not_there_is_none(self, store: Store, clock: FrozenClock) -> None:
        await put_account(store, an_account(clock))
        assert await store.accounts.find(BOB) is None
        assert await store.accounts.find_by_name("bob@example") is None
        assert await store.accounts.find_by_name("ALICE@example") is None
        assert await store.accounts.find_subject(BOB) is None

    async def test_a_name_or_a_subject_is_taken_once(self, store: Store, clock: FrozenClock) -> None:
        await put_account(store, an_account(clock))
        await store.accounts.set_roles(BOB, ROLES, revocation=order(clock, Reach.CLAIMS, BOB))
        before = await codes(store)
        for taken in (
            an_account(clock, Subject("carol")),
            an_account(clock, name="other@example"),
            an_account(clock, BOB, "bob@example"),
        ):
            assert not await store.accounts.add(taken, an_event(clock.now(), "user_added"))
        assert await store.accounts.find(BOB) is None
        assert await codes(store) == before

    async def test_a_list_is_by_name_and_goes_on(self, store: Store, clock: FrozenClock) -> None:
        names = sorted(["a", "b", "B", "é", "z", "zz", "ß", "名"])
        for name in reversed(names):
            await put_account(store, an_account(clock, Subject(f"usr_{name}"), name))
        for limit in (1, 3, 8, 9):
            listed: list[str] = []
            after = None
            while True:
                page = await store.accounts.list(after=after, limit=limit)
                listed += [account.name for account in page.accounts]
                after = page.next
                if after is None:
                    break
            assert listed == names
        assert (await store.accounts.list(after="zzz", limit=1)).accounts[0].name == "ß"

    async def test_what_is_recorded_of_a_subject_is_found_with_its_session(
        self, store: Store, clock: FrozenClock
    ) -> None:
        session = await put_new(store, clock)
        assert await self._holder(store, session.session_id) == UNRECORDED
        await store.accounts.set_roles(ALICE, ROLES, revocation=order(clock, Reach.CLAIMS))
        assert await self._holder(store, session.session_id) == Holder(ROLES)
        await store.accounts.set_disabled(ALICE, now=clock.now(), revocation=order(clock))
        assert await self._holder(store, session.session_id) == Holder(ROLES, is_barred=True)
        await store.accounts.set_enabled(ALICE, an_event(clock.now(), "user_enabled"))
        assert await self._holder(store, session.session_id) == Holder(ROLES)

    async def _holder(self, store: Store, session_id: SessionId) -> Holder:
        """Return what is read with the session; where the store leaves it out, what is recorded."""
        read = await store.sessions.find(session_id)
        assert read is not None
        if read.holder is not None or self.reads_holder_along:
            assert read.holder is not None
            return read.holder
        record = await store.accounts.find_subject(ALICE)
        return UNRECORDED if record is None else Holder(record.roles, record.disabled_at is not None)

    # what revokes

    @pytest.mark.parametrize("change", CHANGES)
    async def test_a_change_revokes_in_the_same_step(
        self, store: Store, clock: FrozenClock, change: Change
    ) -> None:
        await put_account(store, an_account(clock))
        session, under_way = await put_new(store, clock), a_session(store, clock)
        clock.advance(1)
        entry = await change(store, clock, order(clock))
        assert entry is not None
        assert (entry.scope, entry.id, entry.reach, entry.at) == (
            Scope.SUBJECT,
            ALICE,
            Reach.END,
            clock.now(),
        )
        assert await entries(store) == [entry]
        assert (await found(store, session.session_id)).ended_position == entry.position
        assert await put(store, under_way) == CutOff()
        assert await codes(store) == ["user_added", "login", "revoked"]

    @pytest.mark.parametrize("change", CHANGES)
    async def test_a_change_takes_its_own_revocation_alone(
        self, store: Store, clock: FrozenClock, change: Change
    ) -> None:
        await put_account(store, an_account(clock))
        for wrong in (order(clock, subject=BOB), revocation(Scope.CLIENT, "alice", clock.now())):
            with pytest.raises(ValueError, match="its own subject"):
                await change(store, clock, wrong)
        assert await store.accounts.find(ALICE) == an_account(clock)
        assert await position(store) == 0

    async def test_a_password_is_set(self, store: Store, clock: FrozenClock) -> None:
        account = await put_account(store, an_account(clock))
        spared = await put_new(store, clock)
        now = clock.advance(1)
        revoke = replace(order(clock), spared=spared.session_id)
        entry = await store.accounts.set_password(
            ALICE, "second", replaces=account.password_hash, now=now, revocation=revoke
        )
        assert entry is not None
        assert await store.accounts.find(ALICE) == replace(
            account, password_hash="second", password_changed_at=now
        )
        assert await is_live(store, spared.session_id, now)

    async def test_a_password_is_set_by_one_who_knows_the_present_one(
        self, store: Store, clock: FrozenClock
    ) -> None:
        account = await put_account(store, an_account(clock))
        for subject, replaces in ((ALICE, "other"), (ALICE, ""), (BOB, None), (BOB, account.password_hash)):
            revoke = order(clock, subject=subject)
            assert not await store.accounts.set_password(
                subject, "x", replaces=replaces, now=clock.now(), revocation=revoke
            )
        assert await store.accounts.find(ALICE) == account
        assert await codes(store) == ["user_added"]
        assert await store.accounts.set_password(
            ALICE, "x", replaces=None, now=clock.now(), revocation=order(clock)
        )

    async def test_a_hash_is_replaced_without_revoking(self, store: Store, clock: FrozenClock) -> None:
        account = await put_account(store, an_account(clock))
        assert not await store.accounts.rehash_password(ALICE, "x", replaces="other")
        assert not await store.accounts.rehash_password(BOB, "x", replaces=account.password_hash)
        assert await store.accounts.rehash_password(ALICE, "x", replaces=account.password_hash)
        assert await store.accounts.find(ALICE) == replace(account, password_hash="x")
        assert await position(store) == 0
        assert await codes(store) == ["user_added"]

    async def test_roles_are_set(self, store: Store, clock: FrozenClock) -> None:
        account = await put_account(store, an_account(clock))
        session = await put_new(store, clock)
        entry = await store.accounts.set_roles(
            ALICE, frozenset({"clerk"}), revocation=order(clock, Reach.CLAIMS)
        )
        assert entry is not None
        assert entry.reach is Reach.CLAIMS
        assert await store.accounts.find(ALICE) == replace(account, roles=frozenset({"clerk"}))
        assert await is_live(store, session.session_id, clock.now())

    async def test_the_same_roles_change_nothing(self, store: Store, clock: FrozenClock) -> None:
        await put_account(store, an_account(clock))
        assert await store.accounts.set_roles(ALICE, ROLES, revocation=order(clock, Reach.CLAIMS)) is None
        assert await position(store) == 0
        assert await codes(store) == ["user_added"]

    async def test_roles_make_a_record(self, store: Store, clock: FrozenClock) -> None:
        assert await store.accounts.set_roles(ALICE, ROLES, revocation=order(clock, Reach.CLAIMS)) is None
        assert await store.accounts.find_subject(ALICE) == SubjectRecord(subject=ALICE, roles=ROLES)
        assert await store.accounts.find(ALICE) is None
        assert await position(store) == 0
        assert await codes(store) == ["revoked"]
        assert await store.accounts.set_roles(ALICE, frozenset(), revocation=order(clock, Reach.CLAIMS))
        assert await store.accounts.find_subject(ALICE) == SubjectRecord(subject=ALICE)

    async def test_the_first_roles_of_a_subject_that_is_signed_in_are_a_change(
        self, store: Store, clock: FrozenClock
    ) -> None:
        await put_new(store, clock)
        entry = await store.accounts.set_roles(ALICE, ROLES, revocation=order(clock, Reach.CLAIMS))
        assert entry is not None
        assert (entry.id, entry.reach) == (ALICE, Reach.CLAIMS)
        assert await store.accounts.find_subject(ALICE) == SubjectRecord(subject=ALICE, roles=ROLES)

    async def test_a_first_record_without_roles_is_no_change(self, store: Store, clock: FrozenClock) -> None:
        await put_new(store, clock)
        assert (
            await store.accounts.set_roles(ALICE, frozenset(), revocation=order(clock, Reach.CLAIMS)) is None
        )
        assert await position(store) == 0

    async def test_roles_leave_the_bar(self, store: Store, clock: FrozenClock) -> None:
        await store.accounts.set_disabled(ALICE, now=clock.now(), revocation=order(clock))
        await store.accounts.set_roles(ALICE, ROLES, revocation=order(clock, Reach.CLAIMS))
        assert await store.accounts.find_subject(ALICE) == SubjectRecord(
            subject=ALICE, roles=ROLES, disabled_at=clock.now()
        )

    @pytest.mark.parametrize("has_account", [True, False])
    async def test_a_subject_is_barred_once(
        self,
        store: Store,
        clock: FrozenClock,
        has_account: bool,  # noqa: FBT001 - parametrized
    ) -> None:
        if has_account:
            await put_account(store, an_account(clock))
        now = clock.advance(1)
        assert await store.accounts.set_disabled(ALICE, now=now, revocation=order(clock))
        later = clock.advance(1)
        assert await store.accounts.set_disabled(ALICE, now=later, revocation=order(clock)) is None
        record = await store.accounts.find_subject(ALICE)
        assert record == SubjectRecord(
            subject=ALICE, roles=ROLES if has_account else frozenset(), disabled_at=now
        )
        account = await store.accounts.find(ALICE)
        assert (account.disabled_at if account else None) == (now if has_account else None)
        assert await position(store) == 1

    async def test_a_bar_is_lifted_once(self, store: Store, clock: FrozenClock) -> None:
        event = an_event(clock.now(), "user_enabled")
        assert not await store.accounts.set_enabled(ALICE, event)
        account = await put_account(store, an_account(clock))
        assert not await store.accounts.set_enabled(ALICE, event)
        await store.accounts.set_disabled(ALICE, now=clock.now(), revocation=order(clock))
        assert await store.accounts.set_enabled(ALICE, event)
        assert not await store.accounts.set_enabled(ALICE, event)
        assert await store.accounts.find(ALICE) == account
        assert await codes(store) == ["user_added", "revoked", "user_enabled"]
        assert await position(store) == 1
        assert await store.accounts.set_disabled(ALICE, now=clock.now(), revocation=order(clock))

    async def test_an_account_is_deleted_once(self, store: Store, clock: FrozenClock) -> None:
        await put_account(store, an_account(clock))
        await put_account(store, an_account(clock, BOB, "bob@example"))
        assert await store.accounts.delete(ALICE, revocation=order(clock))
        assert await store.accounts.delete(ALICE, revocation=order(clock)) is None
        assert await store.accounts.find(ALICE) is None
        assert await store.accounts.find_by_name("alice@example") is None
        assert await store.accounts.find_subject(ALICE) is None
        assert await store.accounts.find(BOB) is not None
        assert await position(store) == 1
        await put_account(store, an_account(clock, Subject("alice2")))

    async def test_a_record_without_an_account_is_deleted(self, store: Store, clock: FrozenClock) -> None:
        await store.accounts.set_roles(ALICE, ROLES, revocation=order(clock, Reach.CLAIMS))
        assert await store.accounts.delete(ALICE, revocation=order(clock))
        assert await store.accounts.find_subject(ALICE) is None
