"""A small world for the one rule: a store, two authorities, two verifiers that lag, and a clock that ticks.

The rule is written out once more here, so that each of its guards can be switched off; with all of them on, every verdict is compared with that
of the real `LiveEntries`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from typing import Any

from keyfob.base.identifiers import ClientId, KeyId, Position, SessionId, Subject, Timeline, TokenId
from keyfob.base.principal import Principal
from keyfob.revocation.entry import CHAIN_START, Entry, Head, Reach, Scope
from keyfob.revocation.live_entries import LiveEntries
from keyfob.testing.frozen_clock import START

STALENESS = 2  # ticks for which a verifier that hears nothing goes on
CACHE_AGE = 3  # ticks for which a session that was read is answered from memory
LIFETIME = 6  # ticks of an access token
TICK = timedelta(minutes=1)  # far above what clocks of two authorities may differ by

Guards = frozenset[str]


@dataclass(frozen=True)
class Row:
    """A session in the store."""

    subject: str
    client: str = "web"
    as_of: int = 0
    is_ended: bool = False
    parent: str | None = None


@dataclass(frozen=True)
class Credential:
    """An access token, or a session that was read into a verifier's cache. `kid` is None for the latter."""

    session: str
    subject: str
    as_of: int
    role: str
    issued_at: int
    until: int  # its exp, or the moment from which it is to be read anew
    client: str = "web"
    jti: str | None = None
    kid: str | None = None
    timeline: str = "t0"
    parent: str | None = None
    parent_client: str | None = None


@dataclass(frozen=True)
class Held:
    """What one verifier holds."""

    entries: tuple[Entry, ...] = ()
    position: int = 0
    timeline: str = "t0"
    level_at: int = 0
    confirmed_at: int = 0


@dataclass
class World:
    """Everything there is, and the truth that nobody in it sees."""

    clock: int = 0
    timeline: str = "t0"
    entries: tuple[Entry, ...] = ()  # of the store; some may have been dropped
    position: int = 0
    cut_offs: dict[tuple[str, str], int] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=lambda: {"s1": Row("alice"), "s2": Row("bob")})
    roles: dict[str, str] = field(default_factory=lambda: {"alice": "admin", "bob": "reader"})
    verifiers: tuple[Held, ...] = (Held(), Held())
    credentials: tuple[Credential, ...] = ()
    cached: dict[int, tuple[Credential, ...]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    # The truth.
    over_since: dict[tuple[str, str], int] = field(
        default_factory=dict
    )  # what was ended, and when it was acknowledged
    kept: frozenset[str] = frozenset()  # sessions that nobody wanted ended
    demoted_at: dict[str, int] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)

    def branch(self) -> World:
        """Return a copy that shares nothing that a step can change."""
        other = copy(self)
        for name in ("cut_offs", "rows", "roles", "cached", "notes", "over_since", "demoted_at", "wrong"):
            setattr(other, name, copy(getattr(self, name)))
        return other

    def append(
        self, scope: Scope, target: str, reach: Reach, *, until: int | None, spared: str | None = None
    ) -> int:
        """Append an entry, and return its position."""
        self.position += 1
        self.entries += (entry_at(self.position, scope, target, reach, self.clock, until, spared),)
        return self.position

    def is_live(self, session: str) -> bool:
        """What the store says of a session: its row, under the durable cut-offs."""
        row = self.rows.get(session)
        if row is None or row.is_ended or (row.parent is not None and not self.is_live(row.parent)):
            return False
        scopes = (("subject", row.subject), ("client", row.client), ("everything", ""))
        return all(row.as_of >= self.cut_offs.get(scope, 0) for scope in scopes)

    def ended_at(self, credential: Credential) -> int | None:
        """When the first of what ends *credential* was acknowledged; None if nothing does."""
        scopes = (
            ("session", credential.session),
            ("token", credential.jti),
            ("key", credential.kid),
        )
        moments = [self.over_since[scope] for scope in scopes if scope in self.over_since]
        return min(moments, default=None)


@cache
def entry_at(
    position: int,
    scope: Scope,
    target: str,
    reach: Reach,
    at: int,
    until: int | None,
    spared: str | None,
) -> Entry:
    return Entry(
        position=Position(position),
        at=START + at * TICK,
        scope=scope,
        id=target,
        reach=reach,
        until=None if until is None else START + until * TICK,
        chain=CHAIN_START,
        spared=None if spared is None else SessionId(spared),
    )


@cache
def principal_of(credential: Credential) -> Principal:
    return Principal(
        subject=Subject(credential.subject),
        client_id=ClientId(credential.client),
        strategy=None,
        audience=(),
        issued_at=START + credential.issued_at * TICK,
        expires_at=START + credential.until * TICK,
        as_of=Position(credential.as_of),
        session_id=SessionId(credential.session),
        timeline=Timeline(credential.timeline),
        token_id=None if credential.jti is None else TokenId(credential.jti),
        parent_session_id=None if credential.parent is None else SessionId(credential.parent),
        parent_client_id=None if credential.parent_client is None else ClientId(credential.parent_client),
        key_id=None if credential.kid is None else KeyId(credential.kid),
    )


@cache
def live_of(held: Held) -> LiveEntries:
    live = LiveEntries()
    head = Head(timeline=Timeline(held.timeline), position=Position(held.position), chain=CHAIN_START)
    live.replace(head, held.entries)
    live.confirm(START + held.confirmed_at * TICK)
    return live


def is_covered(held: Held, credential: Credential, guards: Guards) -> bool:
    """The rule, as far as *guards* go."""
    if "a token of another timeline is covered" in guards and credential.timeline != held.timeline:
        return True
    is_ahead = credential.kid is not None and credential.as_of > held.position
    is_forged = is_ahead and held.confirmed_at > credential.issued_at
    if is_forged and "a position past a signed head is a forgery" in guards:
        return True
    return any(_covers(entry, credential, guards) for entry in held.entries)


def _covers(entry: Entry, credential: Credential, guards: Guards) -> bool:
    if entry.scope is Scope.KEY and "key entries cover whatever as_of says" in guards:
        return entry.id == credential.kid
    if entry.position < credential.as_of:
        return False
    if entry.position == credential.as_of and "at as_of an entry does not cover" in guards:
        return False
    is_spared = entry.spared is not None and entry.spared in {credential.session, credential.parent}
    if is_spared and "except spares" in guards:
        return False
    with_parent = "a child is covered with its parent" in guards
    with_client = "a child is covered with its parent's client" in guards
    names = {
        Scope.TOKEN: {credential.jti},
        Scope.SESSION: {credential.session, credential.parent if with_parent else None},
        Scope.SUBJECT: {credential.subject},
        Scope.CLIENT: {credential.client, credential.parent_client if with_client else None},
        Scope.KEY: {credential.kid},
        Scope.EVERYTHING: {""},
    }
    return entry.id in names[entry.scope]


def accepts(held: Held, credential: Credential, clock: int, guards: Guards) -> bool:
    """What a verifier answers."""
    if "past its staleness a verifier denies" in guards and clock - held.level_at > STALENESS:
        return False
    if clock >= credential.until:
        return False
    covered = is_covered(held, credential, guards)
    if guards >= ALL_OF_THE_RULE:
        is_denied = live_of(held).cause(principal_of(credential)) is not None
        assert is_denied is covered, (held, credential)
    return not covered


ALL_OF_THE_RULE = frozenset(
    {
        "a token of another timeline is covered",
        "a position past a signed head is a forgery",
        "key entries cover whatever as_of says",
        "at as_of an entry does not cover",
        "except spares",
        "a child is covered with its parent",
        "a child is covered with its parent's client",
    }
)

Step = Callable[[World], None]
Process = Callable[[Guards], list[Step]]


def judge(world: World, guards: Guards) -> None:
    """Note what is accepted though it was over, or too powerful, for longer than a verifier may be stale."""
    for index, held in enumerate(world.verifiers):
        for credential in world.credentials + world.cached.get(index, ()):
            if not accepts(held, credential, world.clock, guards):
                continue
            ended_at = world.ended_at(credential)
            if ended_at is not None and world.clock - ended_at > STALENESS:
                world.wrong.add("something ended is accepted past the bound")
            demoted_at = world.demoted_at.get(credential.subject)
            is_old = credential.role != world.roles[credential.subject]
            if is_old and demoted_at is not None and world.clock - demoted_at > STALENESS:
                world.wrong.add("roles of yesterday are accepted past the bound")


def hear(world: World, which: int, *, entries: tuple[Entry, ...], **changes: Any) -> None:
    """Let one verifier hold *entries*, and tell what is guarded there."""
    held = world.verifiers[which]
    world.verifiers = tuple(
        replace(each, entries=entries, **changes) if index == which else each
        for index, each in enumerate(world.verifiers)
    )
    is_new = entries != held.entries
    watched = world.notes.get("watched")
    if is_new and which == 0 and watched and is_covered(world.verifiers[0], watched, ALL_OF_THE_RULE):
        world.notes["inside"] = False


def heal(world: World) -> None:
    """Let a moment pass, and every verifier hear everything."""
    world.clock += 1
    for which, held in enumerate(world.verifiers):
        entries = world.entries
        if world.notes.get("reads what comes after its position"):
            entries = held.entries + tuple(e for e in world.entries if e.position > held.position)
        hear(
            world,
            which,
            entries=entries,
            position=world.position,
            timeline=world.timeline,
            level_at=world.clock,
            confirmed_at=world.clock,
        )


def judge_the_end(world: World, guards: Guards) -> None:
    """Note what is wrong once all are level."""
    for session in world.rows:
        if world.is_live(session) and ("session", session) in world.over_since:
            world.wrong.add("an ended session lives on in the store")
        if session in world.kept and not world.is_live(session):
            world.wrong.add("a session that nobody ended is over")
    for index, held in enumerate(world.verifiers):
        for credential in world.credentials + world.cached.get(index, ()):
            is_accepted = accepts(held, credential, world.clock, guards)
            if is_accepted and world.ended_at(credential) is not None:
                world.wrong.add("something ended is accepted by a verifier that is level")
            if is_accepted and credential.role != world.roles[credential.subject]:
                world.wrong.add("roles of yesterday are accepted by a verifier that is level")
            is_young = world.clock < credential.until and world.ended_at(credential) is None
            if not is_accepted and is_young and credential.jti in world.notes.get("fresh", ()):
                world.wrong.add("a fresh credential is refused")
    if world.notes.get("inside") and ("session", "s1") in world.over_since:
        world.wrong.add("a guard outlives its principal")


def histories(processes: list[list[Step]], world: World, guards: Guards) -> Iterator[World]:
    """Run every order in which the steps of *processes* can happen, judging after each."""
    if not any(processes):
        heal(world)
        judge_the_end(world, guards)
        yield world
        return
    for index, steps in enumerate(processes):
        if steps:
            branch = world.branch()
            steps[0](branch)
            judge(branch, guards)
            rest = [each[1:] if other == index else each for other, each in enumerate(processes)]
            yield from histories(rest, branch, guards)
