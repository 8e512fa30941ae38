"""Every interleaving of small histories with two subjects, two authorities and two verifiers that lag.

Each scenario names the guards of the design that it is about. With all of them on, no history violates anything; without any one of them some
history does. `test_rule_model` does the same for the authority alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import pytest

from keyfob.revocation.entry import Entry, Reach, Scope

from .rule_world import (
    ALL_OF_THE_RULE,
    CACHE_AGE,
    LIFETIME,
    Credential,
    Guards,
    Row,
    Step,
    World,
    entry_at,
    hear,
    histories,
    is_covered,
)

NEVER = 99
TARGETS = {
    Scope.TOKEN: "j1",
    Scope.SESSION: "s1",
    Scope.SUBJECT: "alice",
    Scope.CLIENT: "web",
    Scope.KEY: "k1",
    Scope.EVERYTHING: "",
}


def a_token(session: str, subject: str, *, jti: str, role: str = "reader", as_of: int = 0) -> Credential:
    return Credential(
        session=session,
        subject=subject,
        as_of=as_of,
        role=role,
        issued_at=0,
        until=LIFETIME,
        jti=jti,
        kid="k1",
    )


def a_world() -> World:
    tokens = (a_token("s1", "alice", jti="j1", role="admin"), a_token("s2", "bob", jti="j2"))
    return World(credentials=tokens)


# What can happen.


def end(world: World, scope: Scope, target: str, guards: Guards, *, spared: str | None = None) -> int:
    """Revoke: the entry, the rows and the cut-off in one step, and what is thereby over."""
    lifetime = LIFETIME if "the longest lifetime ever granted counts" in guards else world.notes["lifetime"]
    until: int | None = world.clock + max(lifetime, CACHE_AGE)
    if "an entry outlives what it covers" not in guards:
        until = world.clock + 1
    if scope is Scope.KEY:
        until = None
    position = world.append(scope, target, Reach.END, until=until, spared=spared)
    if scope in {Scope.SUBJECT, Scope.CLIENT, Scope.EVERYTHING}:
        world.cut_offs[(scope.value, target)] = position
    if scope in {Scope.TOKEN, Scope.KEY}:
        world.over_since.setdefault((scope.value, target), world.clock)
    over = {session for session, row in world.rows.items() if is_named(scope, target, session, row)}
    for session, row in world.rows.items():
        if session == spared:
            is_raised = "the spared row is raised" in guards
            world.rows[session] = replace(row, as_of=position) if is_raised else row
        elif session in over or row.parent in over:
            world.over_since.setdefault(("session", session), world.clock)
            world.rows[session] = replace(row, is_ended=True)
    return position


def is_named(scope: Scope, target: str, session: str, row: Row) -> bool:
    names = {Scope.SESSION: session, Scope.SUBJECT: row.subject, Scope.CLIENT: row.client}
    return scope is Scope.EVERYTHING or names.get(scope) == target


def ending(scope: Scope, target: str, guards: Guards) -> list[Step]:
    def step(world: World) -> None:
        end(world, scope, target, guards)
        world.kept = frozenset(
            session for session in world.rows if ("session", session) not in world.over_since
        )

    return [step]


def time(ticks: int) -> list[Step]:
    def tick(world: World) -> None:
        world.clock += 1

    return [tick] * ticks


def following(guards: Guards, *, loses: frozenset[int] = frozenset()) -> list[Step]:
    """The first verifier hears what the authority sends, later; what is lost on the way does not come."""

    def send(world: World) -> None:
        world.notes["sent"] = (world.entries, world.position, world.clock)

    def deliver(world: World) -> None:
        entries, position, _ = world.notes["sent"]
        held = world.verifiers[0]
        came = tuple(e for e in entries if e.position > held.position and e.position not in loses)
        if not came:
            return
        is_whole = [e.position for e in came] == list(range(held.position + 1, position + 1))
        if "positions are consecutive" in guards and not is_whole:
            hear(world, 0, entries=held.entries, level_at=-NEVER)
            return
        hear(world, 0, entries=held.entries + came, position=came[-1].position)

    def beat(world: World) -> None:
        entries, position, sent_at = world.notes["sent"]
        held = world.verifiers[0]
        at = sent_at if "staleness is by the signed time" in guards else world.clock
        if "a heartbeat past what is held is a gap" in guards and position > held.position:
            hear(world, 0, entries=held.entries, level_at=-NEVER)
            return
        if "a heartbeat carries the chain" in guards and entries != held.entries:
            hear(world, 0, entries=held.entries, level_at=-NEVER)
            return
        hear(world, 0, entries=held.entries, level_at=at, confirmed_at=sent_at)

    return [send, deliver, beat]


def altering(world: World) -> None:
    """A relay passes on another entry at the position of the first."""
    held = world.verifiers[0]
    other = entry_at(1, Scope.SESSION, "nobody", Reach.END, 0, LIFETIME, None)
    hear(world, 0, entries=(*held.entries, other), position=1)


def introspecting(guards: Guards) -> list[Step]:
    """A verifier asks an authority about a session, and keeps the answer."""

    def take(world: World) -> None:
        is_applied = "as_of is the applied position" in guards
        world.notes["as_of"] = world.notes.get("applied", world.position) if is_applied else world.position
        world.notes["before"] = world.clock

    def read(world: World) -> None:
        lags = "introspection reads the store, and no copy that lags" not in guards
        world.notes["live"] = lags or world.is_live("s1")

    def read_roles(world: World) -> None:
        world.notes["role"] = world.roles["alice"]

    def keep(world: World) -> None:
        from_before = "the age counts from before the read" in guards
        age = CACHE_AGE if "a cached session is read anew after its age" in guards else NEVER
        carries = "the answer carries its as_of" in guards
        if world.notes["live"]:
            kept = Credential(
                session="s1",
                subject="alice",
                as_of=world.notes["as_of"] if carries else max(world.position, world.verifiers[0].position),
                role=world.notes["role"],
                issued_at=0,
                until=age + (world.notes["before"] if from_before else world.clock),
            )
            world.cached[0] = (kept,)

    if "as_of is taken before the row is read" not in guards:
        return [read, take, read_roles, keep]
    if "roles are read after as_of" not in guards:
        return [read_roles, take, read, keep]
    return [take, read, read_roles, keep]


def demoting(guards: Guards) -> list[Step]:
    def demote(world: World) -> None:
        world.roles["alice"] = "reader"
        world.demoted_at["alice"] = world.clock
        world.kept = frozenset({"s1", "s2"})
        if "roles changed leave an entry" in guards:
            position = world.append(Scope.SUBJECT, "alice", Reach.CLAIMS, until=world.clock + LIFETIME)
            if "claims set no cut-off" not in guards:
                world.cut_offs[("subject", "alice")] = position

    return [demote]


def dropping(world: World) -> None:
    """The authority forgets what has run out."""
    world.entries = tuple(entry for entry in world.entries if not _has_run_out(entry, world))


def _has_run_out(entry: Entry, world: World) -> bool:
    return (
        entry.until is not None
        and entry.until <= entry_at(1, Scope.KEY, "", Reach.END, world.clock, 0, None).at
    )


def shortening(world: World) -> None:
    """A policy of shorter tokens comes into force; those that are out live as long as they were granted."""
    world.notes["lifetime"] = 0


def following_rows(guards: Guards) -> list[Step]:
    """A revocation where rows follow their entry (a cluster of stores)."""

    def append(world: World) -> None:
        world.notes["applied"] = world.position
        world.append(Scope.SUBJECT, "alice", Reach.END, until=world.clock + LIFETIME)
        world.over_since[("session", "s1")] = world.clock

    def apply(world: World) -> None:
        world.rows["s1"] = replace(world.rows["s1"], is_ended=True)
        world.notes["applied"] = world.position

    return [append, apply]


def going_back(guards: Guards) -> list[Step]:
    """A store is restored from a copy; what it had acknowledged since is lost, and known to be."""

    def lose(world: World) -> None:
        end(world, Scope.SUBJECT, "alice", guards)
        end(world, Scope.SESSION, "s9", guards)
        end(world, Scope.SESSION, "s9", guards)

    def issue(world: World) -> None:
        world.rows["s3"] = Row("bob", as_of=world.position)
        token = a_token("s3", "bob", jti="j3", as_of=world.position)
        world.credentials += (replace(token, issued_at=world.clock),)

    def restore(world: World) -> None:
        was = World()
        world.entries, world.position = was.entries, was.position
        world.rows, world.cut_offs = was.rows, {}
        if "a feed that went back gets another timeline" in guards:
            world.timeline = "t1"
            world.position += 1
            if "and ends everything" in guards:
                end(world, Scope.EVERYTHING, "", guards)
        world.over_since[("session", "s3")] = world.clock

    def go_on(world: World) -> None:
        for _ in range(3):
            end(world, Scope.SESSION, "s9", guards)

    return [lose, issue, restore, go_on]


def suspecting(guards: Guards) -> list[Step]:
    """Somebody who is behind reports a head that is lower than one that was signed."""

    def report(world: World) -> None:
        world.kept = frozenset({"s1", "s2"})
        behind = world.verifiers[1].position < world.position
        if behind and "who is behind is no evidence" not in guards:
            position = world.append(Scope.EVERYTHING, "", Reach.END, until=NEVER)
            world.cut_offs[("everything", "")] = position

    def revoke_a_token(world: World) -> None:
        end(world, Scope.TOKEN, "j1", guards)

    return [revoke_a_token, report]


def forging(*, ahead: int) -> list[Step]:
    """A thief of the signing key writes a token with whatever position it likes."""

    def forge(world: World) -> None:
        token = a_token("s1", "alice", jti="f1", role="reader", as_of=world.position + ahead)
        world.credentials += (replace(token, issued_at=world.clock, until=world.clock + LIFETIME),)

    return [forge]


def guarding(guards: Guards) -> list[Step]:
    """A WebSocket begins at the first verifier."""
    principal = a_token("s1", "alice", jti="j1", role="admin")

    def look(world: World) -> None:
        is_over = is_covered(world.verifiers[0], principal, ALL_OF_THE_RULE)
        world.notes["inside"] = world.notes.get("inside", True) and not is_over

    def register(world: World) -> None:
        world.notes["watched"] = principal

    return [register, look] if "a guard registers, then looks again" in guards else [look, register]


def checking(guards: Guards) -> list[Step]:
    """A thread keeps a verdict for as long as the change counter stands still."""

    def read_counter(world: World) -> None:
        world.notes["seen"] = world.notes.get("changes", 0)

    def look_up(world: World) -> None:
        world.notes["verdict"] = "inserted" not in world.notes

    first = "a reader reads the counter first" in guards
    return [read_counter, look_up] if first else [look_up, read_counter]


def applying(guards: Guards) -> list[Step]:
    def insert(world: World) -> None:
        world.notes["inserted"] = True

    def publish(world: World) -> None:
        world.notes["changes"] = 1

    def judge_what_is_kept(world: World) -> None:
        if world.notes.get("seen") == world.notes["changes"] and world.notes.get("verdict"):
            world.wrong.add("a verdict outlives an entry")

    first = "a writer inserts first" in guards
    return [*([insert, publish] if first else [publish, insert]), judge_what_is_kept]


def committing(who: str, scope: Scope, target: str, guards: Guards) -> list[Step]:
    """One of two authorities appends an entry, under a number that it took."""

    def take(world: World) -> None:
        world.notes["reads what comes after its position"] = True
        world.notes["next"] = world.notes.get("next", 0) + 1
        world.notes[who] = world.notes["next"]

    def commit(world: World) -> None:
        number = world.notes[who]
        world.entries += (entry_at(number, scope, target, Reach.END, world.clock, LIFETIME, None),)
        world.position = max(world.position, number)
        for session, row in world.rows.items():
            if row.subject == target:
                world.rows[session] = replace(row, is_ended=True)
                world.over_since[("session", session)] = world.clock

    def both(world: World) -> None:
        take(world)
        commit(world)

    return [both] if "positions are given in the order of commits" in guards else [take, commit]


def reading(guards: Guards) -> list[Step]:
    """The first verifier reads what comes after what it holds."""

    def read(world: World) -> None:
        held = world.verifiers[0]
        came = tuple(entry for entry in world.entries if entry.position > held.position)
        if came:
            position = max(entry.position for entry in came)
            hear(world, 0, entries=held.entries + came, position=position)

    return [read, read]


def renewing(guards: Guards) -> list[Step]:
    """A step-up: other privileges, and so another token."""

    def renew(world: World) -> None:
        as_of = world.position
        if "a renewal leaves an entry" in guards:
            as_of = world.append(Scope.SESSION, "s1", Reach.CLAIMS, until=world.clock + LIFETIME)
        if "a renewal raises the row" in guards:
            world.rows["s1"] = replace(world.rows["s1"], as_of=as_of)
        world.over_since[("token", "j1")] = world.clock

    def issue(world: World) -> None:
        token = a_token("s1", "alice", jti="new", role="admin", as_of=world.rows["s1"].as_of)
        world.credentials += (replace(token, issued_at=world.clock, until=world.clock + LIFETIME),)
        world.notes["fresh"] = ("new",)

    return [renew, issue]


def sparing(guards: Guards) -> list[Step]:
    """ "Log out my other devices": one of the two sessions of alice stays."""

    def act(world: World) -> None:
        world.rows["s3"] = Row("alice")
        end(world, Scope.SUBJECT, "alice", guards, spared="s1")
        world.kept = frozenset({"s1"})
        world.notes["fresh"] = ("j1",)

    return [act]


def signing_out_and_in(guards: Guards) -> list[Step]:
    """ "Sign out everywhere", and in again at once."""

    def out(world: World) -> None:
        end(world, Scope.SUBJECT, "alice", guards)

    def log_in(world: World) -> None:
        world.rows["s4"] = Row("alice", as_of=world.position)
        token = a_token("s4", "alice", jti="new", role="admin", as_of=world.position)
        world.credentials += (replace(token, issued_at=world.clock, until=world.clock + LIFETIME),)
        world.kept, world.notes["fresh"] = frozenset({"s4"}), ("new",)

    return [out, log_in]


def signing_in_elsewhere(guards: Guards) -> list[Step]:
    """Somebody who is signed in here opens another application: a child, its token, and an answer about it that is kept."""

    def take(world: World) -> None:
        world.notes["child.as_of"] = world.position

    def add(world: World) -> None:
        if "a child begins below a live parent" in guards and not world.is_live("s1"):
            return
        world.rows["c1"] = Row("alice", client="shop", as_of=world.notes["child.as_of"], parent="s1")
        if ("session", "s1") in world.over_since:
            world.over_since[("session", "c1")] = world.over_since[("session", "s1")]

    def issue(world: World) -> None:
        if "c1" not in world.rows:
            return
        token = replace(
            a_token("c1", "alice", jti="c", role="admin", as_of=world.notes["child.as_of"]),
            client="shop",
            parent="s1",
            parent_client="web",
            issued_at=world.clock,
        )
        world.credentials += (token,)
        world.cached[0] = (replace(token, jti=None, kid=None, until=world.clock + CACHE_AGE),)

    return [take, add, issue]


def ending_the_other_application(guards: Guards) -> list[Step]:
    """The client of the child is ended: the login that it came from goes on."""

    def step(world: World) -> None:
        end(world, Scope.CLIENT, "shop", guards)
        world.kept, world.notes["fresh"] = frozenset({"s1", "s2"}), ("j1", "j2")

    return [step]


@dataclass(frozen=True)
class Scenario:
    about: tuple[str, ...]
    processes: Callable[[Guards], list[list[Step]]]
    world: Callable[[], World] = a_world


def cut_off(scope: Scope) -> Scenario:
    """One verifier hears late, the other nothing; *scope* says what is revoked meanwhile."""
    return Scenario(
        about=("past its staleness a verifier denies", "staleness is by the signed time"),
        processes=lambda guards: [ending(scope, TARGETS[scope], guards), time(3), following(guards)],
    )


END_ALICE = partial(ending, Scope.SUBJECT, "alice")
SCENARIOS = {
    **{f"cut off from an entry of scope {scope.value}": cut_off(scope) for scope in Scope},
    "entries lost on the way": Scenario(
        about=("positions are consecutive",),
        # The chain would find it out as well, one heartbeat later: it is not what this is about.
        processes=lambda guards: [
            [*END_ALICE(guards), *ending(Scope.TOKEN, "j2", guards)],
            time(3),
            following(guards - {"a heartbeat carries the chain"}, loses=frozenset({1})),
        ],
    ),
    "the last entry lost on the way": Scenario(
        about=("a heartbeat past what is held is a gap",),
        # The same here.
        processes=lambda guards: [
            END_ALICE(guards),
            time(3),
            following(guards - {"a heartbeat carries the chain"}, loses=frozenset({1})),
        ],
    ),
    "an entry altered on the way": Scenario(
        about=("a heartbeat carries the chain",),
        processes=lambda guards: [[*END_ALICE(guards), altering], time(3), following(guards)],
    ),
    "introspection by an authority that lags": Scenario(
        about=(
            "as_of is taken before the row is read",
            "introspection reads the store, and no copy that lags",
            "the answer carries its as_of",
        ),
        processes=lambda guards: [introspecting(guards), END_ALICE(guards), following(guards)],
    ),
    "a cached session and an entry that is dropped": Scenario(
        about=("an entry outlives what it covers",),
        processes=lambda guards: [introspecting(guards), END_ALICE(guards), [*time(1), dropping]],
        world=World,
    ),
    "a cached session that grows old": Scenario(
        about=("a cached session is read anew after its age", "the age counts from before the read"),
        processes=lambda guards: [introspecting(guards), END_ALICE(guards), [*time(6), dropping]],
        world=World,
    ),
    "a policy that becomes shorter": Scenario(
        about=("the longest lifetime ever granted counts", "an entry outlives what it covers"),
        processes=lambda guards: [[shortening, *END_ALICE(guards)], [*time(3), dropping]],
    ),
    "rows that follow their entry": Scenario(
        about=("as_of is the applied position",),
        processes=lambda guards: [introspecting(guards), following_rows(guards)],
        world=World,
    ),
    "roles from a source": Scenario(
        about=("roles are read after as_of", "roles changed leave an entry", "claims set no cut-off"),
        processes=lambda guards: [introspecting(guards), demoting(guards), following(guards)],
        world=World,
    ),
    "a store that went back": Scenario(
        about=(
            "a feed that went back gets another timeline",
            "a token of another timeline is covered",
            "and ends everything",
        ),
        processes=lambda guards: [going_back(guards), time(1), reading(guards)],
        world=World,
    ),
    "somebody who is behind": Scenario(
        about=("who is behind is no evidence",),
        processes=lambda guards: [suspecting(guards), following(guards)],
    ),
    "a thief of a key, whose subject is ended": Scenario(
        about=("a position past a signed head is a forgery",),
        processes=lambda guards: [forging(ahead=50), END_ALICE(guards), time(1), following(guards)],
    ),
    "a thief of a key that is revoked": Scenario(
        about=("key entries cover whatever as_of says",),
        processes=lambda guards: [
            [*ending(Scope.KEY, "k1", guards), *ending(Scope.SESSION, "s9", guards)],
            forging(ahead=0),
            following(guards),
        ],
    ),
    "a guard that begins": Scenario(
        about=("a guard registers, then looks again",),
        processes=lambda guards: [guarding(guards), END_ALICE(guards), following(guards)],
    ),
    "a verdict that is kept": Scenario(
        about=("a reader reads the counter first", "a writer inserts first"),
        processes=lambda guards: [checking(guards), applying(guards)],
    ),
    "two authorities that commit at once": Scenario(
        about=("positions are given in the order of commits",),
        processes=lambda guards: [
            committing("A", Scope.SUBJECT, "alice", guards),
            committing("B", Scope.SUBJECT, "bob", guards),
            reading(guards),
        ],
    ),
    "a renewal": Scenario(
        about=("a renewal leaves an entry", "a renewal raises the row"),
        processes=lambda guards: [renewing(guards), time(1), following(guards)],
    ),
    "the other devices": Scenario(
        about=("except spares", "the spared row is raised"),
        processes=lambda guards: [sparing(guards), time(1), following(guards)],
    ),
    "a login elsewhere, and its parent's client": Scenario(
        about=("a child is covered with its parent's client", "a child begins below a live parent"),
        processes=lambda guards: [
            signing_in_elsewhere(guards),
            ending(Scope.CLIENT, "web", guards),
            following(guards),
        ],
    ),
    "a login elsewhere, and its parent": Scenario(
        about=("a child is covered with its parent", "a child begins below a live parent"),
        processes=lambda guards: [
            signing_in_elsewhere(guards),
            ending(Scope.SESSION, "s1", guards),
            following(guards),
        ],
    ),
    "a login elsewhere, and its own client": Scenario(
        about=(),
        processes=lambda guards: [
            signing_in_elsewhere(guards),
            ending_the_other_application(guards),
            following(guards),
        ],
    ),
    "out everywhere and in again": Scenario(
        about=("at as_of an entry does not cover",),
        processes=lambda guards: [signing_out_and_in(guards), time(1), following(guards)],
    ),
}
GUARDS = frozenset(guard for scenario in SCENARIOS.values() for guard in scenario.about)


def explore(scenario: Scenario, guards: Guards) -> tuple[int, set[str]]:
    """Return how many histories there are, and what is wrong in any of them."""
    count, found = 0, set[str]()
    world = scenario.world()
    world.notes.setdefault("lifetime", LIFETIME)
    for history in histories(scenario.processes(guards), world, guards):
        count += 1
        found |= history.wrong
    return count, found


@pytest.mark.parametrize("name", SCENARIOS)
def test_with_every_guard_no_history_violates_anything(name, record_property):
    count, found = explore(SCENARIOS[name], GUARDS)
    record_property("histories", count)
    assert found == set()
    assert count >= 5


@pytest.mark.parametrize(
    ("name", "guard"), [(name, guard) for name, scenario in SCENARIOS.items() for guard in scenario.about]
)
def test_without_any_one_guard_some_history_is_wrong(name, guard):
    _, found = explore(SCENARIOS[name], GUARDS - {guard})
    assert found, f"the model does not see what {guard!r} is for"


def test_the_rule_that_the_model_writes_out_is_guarded_everywhere():
    assert ALL_OF_THE_RULE <= GUARDS
