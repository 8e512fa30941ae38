"""The account service on the memory store: sign-in, changes, and the entry that each of them emits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from keyfob.accounts.account import Account
from keyfob.accounts.accounts import Accounts
from keyfob.accounts.passwords import PasswordPolicy, Passwords
from keyfob.accounts.throttle import Throttle
from keyfob.base.errors import Conflict, Denied, InvalidRequest, NotFound, Unavailable
from keyfob.base.events import Event
from keyfob.base.identifiers import SessionId, Subject
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.stores.memory import open_memory_store
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock

CHEAP = PasswordPolicy(memory_kib=8, iterations=1, threads=1, queue=8)
RIGHT, NEW, WRONG = "correct horse battery", "a much better one", "quite another one"
HOME, ELSEWHERE = "192.0.2.7", "203.0.113.9"


@dataclass
class House:
    """The service, and what came out of it."""

    store: Store
    clock: FrozenClock
    passwords: Passwords
    accounts: Accounts
    applied: list[Entry] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    async def entries(self) -> list[Entry]:
        return list(await self.store.feed.read_after(0, 1000))


def build(store: Store, clock: FrozenClock, policy: PasswordPolicy = CHEAP) -> House:
    passwords = Passwords(policy)
    applied: list[Entry] = []
    events: list[Event] = []

    async def apply(entry: Entry) -> Entry:
        applied.append(entry)
        return entry

    async def record(event: Event) -> None:
        events.append(event)

    accounts = Accounts(
        store.accounts,
        Throttle(store.throttle, clock=clock),
        passwords=passwords,
        clock=clock,
        record=record,
        applied=apply,
    )
    return House(store, clock, passwords, accounts, applied, events)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    clock = FrozenClock()
    store = open_memory_store(clock)
    built = build(store, clock)
    yield built
    built.passwords.close()
    await store.close()


@pytest.fixture
async def alice(house: House) -> Account:
    return await house.accounts.add("Alice", RIGHT, roles=["buyer"])


async def denied(house: House, name: str, password: str, address: str = HOME) -> Denied:
    with pytest.raises(Denied) as refusal:
        await house.accounts.authenticate(name, password, address=address)
    assert refusal.value.code == "bad_credentials"
    return refusal.value


# Signing in


async def test_the_right_password_gives_the_account_whatever_the_case_of_the_name(
    house: House, alice: Account
) -> None:
    for name in ("alice", "ALICE", "Alice"):
        assert (await house.accounts.authenticate(name, RIGHT, address=HOME)).subject == alice.subject
    assert alice.roles == {"buyer"}
    assert RIGHT not in repr(alice)
    assert alice.password_hash not in repr(alice)


async def test_every_refusal_looks_the_same_and_costs_one_verification(
    house: House, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = await house.accounts.add("bob", RIGHT)
    await house.accounts.disable(bob.subject, actor="cli")
    engine = house.passwords.load()
    verifications: list[str] = []
    verify = engine.verify

    def counted(password_hash: str, password: str) -> bool:
        verifications.append(password_hash)
        return verify(password_hash, password)

    monkeypatch.setattr(engine, "verify", counted)
    attempts = [
        ("alice", WRONG),
        ("nobody", RIGHT),
        ("bob", RIGHT),  # disabled
        ("bob", WRONG),
        ("\x00", RIGHT),  # nobody's name
        ("", RIGHT),
        ("alice", ""),
        ("alice", "x" * 100_000),
        ("alice", "\ud800" * 10),
        (alice.subject, RIGHT),  # a subject is no login name
    ]
    refusals = set()
    for number, (name, password) in enumerate(attempts):
        refusal = await denied(house, name, password, address=f"192.0.2.{number}")
        refusals.add((refusal.code, type(refusal)))
        house.clock.advance(600)
    assert len(refusals) == 1
    assert len(verifications) == len(attempts)
    assert [event.code for event in house.events] == ["login_failed"] * len(attempts)
    assert [event.facts["why"] for event in house.events[:4]] == [
        "wrong_password",
        "unknown_name",
        "disabled",
        "wrong_password",
    ]


async def test_a_failed_login_is_recorded_without_password_or_unknown_name(
    house: House, alice: Account
) -> None:
    await denied(house, "hunter2-typed-here", WRONG)
    await denied(house, "alice", WRONG)
    unknown, wrong = house.events
    assert "hunter2" not in repr(unknown)
    assert unknown.subject is None
    assert WRONG not in repr(wrong)
    assert (wrong.subject, wrong.address) == (alice.subject, HOME)


async def test_a_password_typed_decomposed_is_the_same_password(house: House) -> None:
    await house.accounts.add("zoe", "Zoë's passphrase")
    assert await house.accounts.authenticate("zoe", "Zoe\u0308's passphrase", address=HOME)


async def test_a_login_with_old_parameters_hashes_anew_and_revokes_nothing(
    house: House, alice: Account
) -> None:
    stronger = build(house.store, house.clock, PasswordPolicy(memory_kib=16, iterations=1, threads=1))
    await stronger.accounts.authenticate("alice", RIGHT, address=HOME)
    renewed = await house.accounts.get(alice.subject)
    assert "$m=16,t=1,p=1$" in renewed.password_hash
    assert renewed.password_changed_at == alice.password_changed_at
    assert await house.entries() == []
    await stronger.accounts.authenticate("alice", RIGHT, address=HOME)
    assert (await house.accounts.get(alice.subject)).password_hash == renewed.password_hash
    stronger.passwords.close()


async def test_hashing_anew_never_undoes_a_change_of_password_under_way(house: House, alice: Account) -> None:
    stronger = build(house.store, house.clock, PasswordPolicy(memory_kib=16, iterations=1, threads=1))
    engine = stronger.passwords.load()
    hash_ = engine.hash
    loop = asyncio.get_running_loop()

    def change_first(password: str) -> str:
        change = house.accounts.set_password(alice.subject, NEW, actor="cli")
        asyncio.run_coroutine_threadsafe(change, loop).result(30)
        return hash_(password)

    engine.hash = change_first  # type: ignore[method-assign]
    await stronger.accounts.authenticate("alice", RIGHT, address=HOME)
    await denied(house, "alice", RIGHT)
    assert await house.accounts.authenticate("alice", NEW, address=HOME)
    stronger.passwords.close()


async def test_a_full_queue_refuses_before_anything_is_counted(house: House, alice: Account) -> None:
    full = build(house.store, house.clock, PasswordPolicy(memory_kib=8, iterations=1, threads=1, queue=0))
    with full.passwords.seat():
        for _ in range(20):
            with pytest.raises(Unavailable):
                await full.accounts.authenticate("alice", RIGHT, address=HOME)
    assert await full.accounts.authenticate("alice", RIGHT, address=HOME)
    full.passwords.close()


# Adding


async def test_a_name_is_taken_once_however_it_is_written(house: House, alice: Account) -> None:
    for name in ("alice", "ALICE"):
        with pytest.raises(Conflict) as refusal:
            await house.accounts.add(name, NEW)
        assert refusal.value.code == "name_taken"


async def test_of_several_that_add_one_name_at_once_one_wins(house: House) -> None:
    outcomes = await asyncio.gather(
        *(house.accounts.add("carol", RIGHT) for _ in range(6)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Account) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 5


@pytest.mark.meets("10.3.3")
async def test_a_name_used_again_gets_a_new_subject(house: House, alice: Account) -> None:
    await house.accounts.delete(alice.subject, actor="cli")
    again = await house.accounts.add("alice", RIGHT)
    assert again.subject != alice.subject
    assert (await house.accounts.get(again.subject)).roles == frozenset()


@pytest.mark.parametrize(
    ("name", "password", "roles", "code"),
    [
        ("", RIGHT, (), "invalid_name"),
        ("dora", "short", (), "password_length"),
        ("dora", "password123", (), "password_common"),
        ("dora the first", "Dora The First", (), "password_common"),
        ("dora", RIGHT, ("a b",), "invalid_role"),
    ],
)
async def test_what_breaks_a_rule_adds_nothing(
    house: House, name: str, password: str, roles: tuple[str, ...], code: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await house.accounts.add(name, password, roles=roles)
    assert refusal.value.code == code
    assert (await house.accounts.list()).accounts == []


# Each cause emits exactly one entry

Cause = Callable[[House, Account], Awaitable[object]]
CAUSES: dict[str, tuple[Cause, str, Reach]] = {
    "changed": (
        lambda house, alice: house.accounts.change_password(alice.subject, RIGHT, NEW, address=HOME),
        "password_changed",
        Reach.END,
    ),
    "set": (
        lambda house, alice: house.accounts.set_password(alice.subject, NEW, actor="cli"),
        "password_set",
        Reach.END,
    ),
    "roles": (
        lambda house, alice: house.accounts.set_roles(alice.subject, ["payer"], actor="cli"),
        "roles_changed",
        Reach.CLAIMS,
    ),
    "disabled": (
        lambda house, alice: house.accounts.disable(alice.subject, actor="cli"),
        "account_disabled",
        Reach.END,
    ),
    "deleted": (
        lambda house, alice: house.accounts.delete(alice.subject, actor="cli"),
        "account_deleted",
        Reach.END,
    ),
}


@pytest.mark.parametrize("cause", CAUSES)
async def test_each_cause_emits_exactly_one_entry_with_its_event_in_the_same_step(
    house: House, alice: Account, cause: str
) -> None:
    act, code, reach = CAUSES[cause]
    await act(house, alice)
    entries = await house.entries()
    assert [(one.scope, one.id, one.reach) for one in entries] == [(Scope.SUBJECT, alice.subject, reach)]
    assert house.applied == entries
    written = [event for event in (await house.store.audit.list(limit=50)).events if event.code == code]
    assert len(written) == 1
    assert written[0].subject == alice.subject


async def test_what_changes_nothing_emits_nothing(house: House, alice: Account) -> None:
    await house.accounts.authenticate("alice", RIGHT, address=HOME)
    await denied(house, "alice", WRONG)
    assert await house.accounts.set_roles(alice.subject, ["buyer"], actor="cli") is None
    assert await house.accounts.enable(alice.subject, actor="cli") is False
    with pytest.raises(Denied):
        await house.accounts.change_password(alice.subject, WRONG, NEW, address=HOME)
    with pytest.raises(InvalidRequest):
        await house.accounts.change_password(alice.subject, RIGHT, "short", address=HOME)
    with pytest.raises(NotFound):
        await house.accounts.set_password(Subject("usr_nobody"), NEW, actor="cli")
    assert await house.accounts.delete(Subject("usr_nobody"), actor="cli") is None
    assert await house.entries() == []


async def test_disabled_twice_is_once_and_enabled_it_may_sign_in_again(house: House, alice: Account) -> None:
    assert await house.accounts.disable(alice.subject, actor="cli") is not None
    assert await house.accounts.disable(alice.subject, actor="cli") is None
    await denied(house, "alice", RIGHT)
    assert await house.accounts.enable(alice.subject, actor="cli") is True
    assert await house.accounts.authenticate("alice", RIGHT, address=HOME)
    assert len(await house.entries()) == 1


async def test_a_change_of_password_spares_the_session_of_its_caller(house: House, alice: Account) -> None:
    own = SessionId("0" * 32)
    entry = await house.accounts.change_password(alice.subject, RIGHT, NEW, address=HOME, spared=own)
    assert entry.spared == own
    await denied(house, "alice", RIGHT)
    assert await house.accounts.authenticate("alice", NEW, address=HOME)


async def test_of_several_changes_from_one_password_one_is_made(house: House, alice: Account) -> None:
    outcomes = await asyncio.gather(
        *(
            house.accounts.change_password(alice.subject, RIGHT, f"{NEW} {number}", address=HOME)
            for number in range(4)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Entry) for outcome in outcomes) == 1
    assert all(isinstance(outcome, Entry | Conflict | Denied) for outcome in outcomes)
    assert len(await house.entries()) == 1


async def test_a_password_set_while_the_account_is_deleted_changes_nothing(
    house: House, alice: Account
) -> None:
    engine = house.passwords.load()
    hash_ = engine.hash
    loop = asyncio.get_running_loop()

    def delete_first(password: str) -> str:
        asyncio.run_coroutine_threadsafe(house.accounts.delete(alice.subject, actor="cli"), loop).result(30)
        return hash_(password)

    engine.hash = delete_first  # type: ignore[method-assign]
    with pytest.raises(NotFound):
        await house.accounts.set_password(alice.subject, NEW, actor="cli")
    assert [entry.id for entry in await house.entries()] == [alice.subject]
    await denied(house, "alice", NEW)


async def test_a_disabled_account_cannot_change_its_password(house: House, alice: Account) -> None:
    await house.accounts.disable(alice.subject, actor="cli")
    with pytest.raises(Denied):
        await house.accounts.change_password(alice.subject, RIGHT, NEW, address=HOME)
    assert len(await house.entries()) == 1


async def test_guesses_at_the_current_password_are_throttled_like_logins(
    house: House, alice: Account
) -> None:
    from keyfob.base.errors import RateLimited

    for _ in range(5):
        with pytest.raises(Denied):
            await house.accounts.change_password(alice.subject, WRONG, NEW, address=HOME)
    with pytest.raises(RateLimited):
        await house.accounts.change_password(alice.subject, RIGHT, NEW, address=HOME)
    assert await house.entries() == []


# Finding


async def test_an_account_is_found_by_name_and_by_subject(house: House, alice: Account) -> None:
    for text in ("alice", "ALICE", alice.subject):
        found = await house.accounts.find(text)
        assert found is not None
        assert found.subject == alice.subject
        assert await house.accounts.resolve(text) == alice.subject
    for text in ("bob", "usr_" + "a" * 26, "", "\x00"):
        assert await house.accounts.find(text) is None
        with pytest.raises(NotFound):
            await house.accounts.resolve(text)


async def test_a_subject_without_an_account_is_resolved_by_its_record(house: House) -> None:
    await house.accounts.set_roles(Subject("library:7"), ["reader"], actor="cli")
    assert await house.accounts.resolve("library:7") == "library:7"
    assert await house.accounts.find("library:7") is None
    with pytest.raises(NotFound):
        await house.accounts.get(Subject("library:7"))


async def test_accounts_are_listed_by_name_page_by_page(house: House) -> None:
    for name in ("c", "a", "b"):
        await house.accounts.add(name, RIGHT)
    first = await house.accounts.list(limit=2)
    assert [one.name for one in first.accounts] == ["a", "b"]
    second = await house.accounts.list(after=first.next, limit=2)
    assert [one.name for one in second.accounts] == ["c"]
    assert second.next is None


async def test_right_passwords_at_once_are_never_taken_for_guesses() -> None:
    clock = FrozenClock()
    policy = PasswordPolicy(memory_kib=8, iterations=1, threads=2, queue=64)
    house = build(open_memory_store(clock), clock, policy)
    await house.accounts.add("alice", RIGHT)
    for number in range(20):
        await house.accounts.add(f"user{number}", RIGHT)
    names = ["alice"] * 20 + [f"user{number}" for number in range(20)]
    accounts = await asyncio.gather(
        *(house.accounts.authenticate(name, RIGHT, address=ELSEWHERE) for name in names)
    )
    assert [account.name for account in accounts] == names


async def test_guesses_at_once_get_no_more_than_one_after_another() -> None:
    clock = FrozenClock()
    policy = PasswordPolicy(memory_kib=8, iterations=1, threads=2, queue=64)
    house = build(open_memory_store(clock), clock, policy)
    await house.accounts.add("alice", RIGHT)
    guesses = [house.accounts.authenticate("alice", WRONG, address=ELSEWHERE) for _ in range(30)]
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Denied"] * 5 + ["RateLimited"] * 25
