"""A model of the one rule: every interleaving of small histories, at the granularity of one read or one transaction.

The rule itself is the real one (`LiveEntries`); around it stand the steps in which an authority logs in, reads into a cache, mints, revokes
and changes roles. Each guard of the design can be switched off, and the model must then find a violation: one that it could not see would
mean that it is too weak.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache

import pytest

from keyfob.base.identifiers import ClientId, Position, SessionId, Subject, Timeline
from keyfob.base.principal import Principal
from keyfob.revocation.entry import CHAIN_START, Entry, Head, Reach, Scope
from keyfob.revocation.live_entries import LiveEntries
from keyfob.testing.frozen_clock import START

GUARDS = frozenset(
    {
        "as_of before the row is read",
        "as_of before the password is checked",
        "as_of before the roles are read",
        "durable cut-off",
        "spared row raised",
        "derived keeps the smaller as_of",
        "roles changed leave an entry",
        "the entry comes with the rows",
        "claims set no cut-off",
    }
)
OLD = "old-session"  # stands when the history begins, with as_of 0
NEW = "new-session"  # of the login in flight


@dataclass(frozen=True)
class Row:
    as_of: int
    is_ended: bool = False


@dataclass(frozen=True)
class Credential:
    session: str
    as_of: int
    role: str


@dataclass
class World:
    entries: list[Entry] = field(default_factory=list)
    cut_off: int = 0
    rows: dict[str, Row] = field(default_factory=lambda: {OLD: Row(as_of=0)})
    role: str = "admin"
    password: int = 1
    credentials: list[Credential] = field(default_factory=list)
    notes: dict[str, object] = field(default_factory=dict)
    must_be_over: set[str] = field(default_factory=set)
    must_live: set[str] = field(default_factory=set)

    def copy(self) -> World:
        return World(
            list(self.entries),
            self.cut_off,
            dict(self.rows),
            self.role,
            self.password,
            list(self.credentials),
            dict(self.notes),
            set(self.must_be_over),
            set(self.must_live),
        )

    @property
    def head(self) -> int:
        return len(self.entries)

    def append(self, reach: Reach, *, spared: str | None = None) -> int:
        self.entries.append(
            Entry(
                position=Position(self.head + 1),
                at=START,
                scope=Scope.SUBJECT,
                id="alice",
                reach=reach,
                until=None,
                chain=CHAIN_START,
                spared=None if spared is None else SessionId(spared),
            )
        )
        return self.head

    def is_live(self, session: str) -> bool:
        """What the store says of a session: its row, under the durable cut-off."""
        row = self.rows.get(session)
        return row is not None and not row.is_ended and row.as_of >= self.cut_off


Step = Callable[[World], None]
Guards = frozenset[str]


def logging_in(guards: Guards) -> list[Step]:
    """A login whose password waits in argon2's queue while others act."""

    def take(world: World) -> None:
        world.notes["login.as_of"] = world.head

    def check(world: World) -> None:
        world.notes["login.password"] = world.password

    def write(world: World) -> None:
        as_of = world.notes["login.as_of"]
        if as_of < world.cut_off:
            return
        world.rows[NEW] = Row(as_of=as_of)

    def issue(world: World) -> None:
        if NEW in world.rows:
            world.credentials.append(Credential(NEW, world.rows[NEW].as_of, world.role))

    if "as_of before the password is checked" in guards:
        return [take, check, write, issue]
    return [check, take, write, issue]


def caching(guards: Guards) -> list[Step]:
    """A session is read from the store into a cache."""

    def take(world: World) -> None:
        world.notes["cache.as_of"] = world.head

    def read(world: World) -> None:
        world.notes["cache.live"] = world.is_live(OLD)

    def read_roles(world: World) -> None:
        world.notes["cache.role"] = world.role

    def keep(world: World) -> None:
        if world.notes["cache.live"]:
            world.credentials.append(Credential(OLD, world.notes["cache.as_of"], world.notes["cache.role"]))

    if "as_of before the row is read" not in guards:
        return [read, take, read_roles, keep]
    if "as_of before the roles are read" not in guards:
        return [read_roles, take, read, keep]
    return [take, read, read_roles, keep]


def minting(guards: Guards) -> list[Step]:
    """A token is made for another audience, from a credential that was cached."""

    def mint(world: World) -> None:
        for credential in list(world.credentials):
            if credential.session == OLD:
                keeps = "derived keeps the smaller as_of" in guards
                as_of = credential.as_of if keeps else world.head
                world.credentials.append(Credential(OLD, as_of, credential.role))

    return [*caching(guards), mint]


def changing_the_password(guards: Guards) -> list[Step]:
    """Everything of the subject ends, the entry and the rows in one step."""

    def end(world: World) -> None:
        world.password += 1
        world.must_be_over |= set(world.rows)
        if "login.password" in world.notes:
            world.must_be_over.add(NEW)
        world.rows = {session: replace(row, is_ended=True) for session, row in world.rows.items()}
        if "the entry comes with the rows" not in guards:
            return  # and the process was killed before it wrote the entry
        position = world.append(Reach.END)
        if "durable cut-off" in guards:
            world.cut_off = position

    return [end]


def logging_out_others(guards: Guards) -> list[Step]:
    """Everything of the subject ends but one session."""

    def end(world: World) -> None:
        position = world.append(Reach.END, spared=OLD)
        if "durable cut-off" in guards:
            world.cut_off = position
        world.must_be_over |= set(world.rows) - {OLD}
        if "login.password" in world.notes:
            world.must_be_over.add(NEW)
        world.must_live.add(OLD)
        if "spared row raised" in guards:
            world.rows[OLD] = replace(world.rows[OLD], as_of=position)

    return [end]


def demoting(guards: Guards) -> list[Step]:
    """The role is lowered; nobody is logged out."""

    def demote(world: World) -> None:
        world.role = "reader"
        world.must_live.add(OLD)
        if "roles changed leave an entry" in guards:
            position = world.append(Reach.CLAIMS)
            if "claims set no cut-off" not in guards:
                world.cut_off = position

    return [demote]


HISTORIES = [
    (logging_in, changing_the_password),
    (logging_in, logging_out_others),
    (caching, changing_the_password),
    (caching, demoting),
    (minting, demoting),
    (minting, changing_the_password),
    (logging_in, demoting, changing_the_password),
    (caching, logging_out_others, demoting),
    (logging_in, caching, changing_the_password),
    (logging_in, minting, demoting),
]


def interleavings(processes: list[list[Step]], world: World) -> Iterator[World]:
    """Run every order in which the steps of *processes* can happen."""
    if not any(processes):
        yield world
        return
    for index, steps in enumerate(processes):
        if steps:
            branch = world.copy()
            steps[0](branch)
            yield from interleavings(
                [rest[1:] if other == index else rest for other, rest in enumerate(processes)], branch
            )


def violations(world: World) -> Iterator[str]:
    """What is wrong once every verifier holds every entry."""
    live = holding(tuple(world.entries))
    for session in world.must_be_over:
        if world.is_live(session):
            yield f"{session} lives on in the store"
    for session in world.must_live - world.must_be_over:
        if not world.is_live(session):
            yield f"{session} died in the store"
    for credential in world.credentials:
        is_accepted = live.cause(principal_of(credential)) is None
        if is_accepted and credential.session in world.must_be_over:
            yield f"a credential of {credential.session} is accepted"
        if is_accepted and credential.role != world.role:
            yield f"{credential.role} is accepted, and the role is {world.role}"


@cache
def holding(entries: tuple[Entry, ...]) -> LiveEntries:
    live = LiveEntries()
    live.replace(Head(timeline=Timeline("t"), position=Position(len(entries)), chain=CHAIN_START), entries)
    return live


@cache
def principal_of(credential: Credential) -> Principal:
    return Principal(
        subject=Subject("alice"),
        client_id=ClientId("web"),
        strategy=None,
        audience=(),
        issued_at=START,
        expires_at=START,
        as_of=Position(credential.as_of),
        session_id=SessionId(credential.session),
        timeline=Timeline("t"),
    )


def explore(guards: Guards) -> tuple[int, set[str]]:
    """Return how many histories there are, and what is wrong in any of them."""
    count, found = 0, set()
    for history in HISTORIES:
        for world in interleavings([process(guards) for process in history], World()):
            count += 1
            found |= set(violations(world))
    return count, found


def test_with_every_guard_no_history_violates_anything():
    count, found = explore(GUARDS)
    assert found == set()
    assert count > 500


@pytest.mark.parametrize("guard", sorted(GUARDS))
def test_without_any_one_guard_some_history_is_wrong(guard):
    _, found = explore(GUARDS - {guard})
    assert found, f"the model does not see what {guard!r} is for"
