"""Random histories as in `test_model_of_acceptance`, seen by verifiers that lag and restart.

A verifier hears some of what it has missed, now and then; only a heartbeat makes it level. Its verdict on every credential is exactly the model's
for the entries that it holds, and nothing that was over at its last level moment is ever accepted.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import Position
from keyfob.jwt import jws
from keyfob.revocation import wire
from keyfob.revocation.snapshot import SnapshotReader
from keyfob.verifier.checker import Checker
from keyfob.verifier.feed_view import FeedView
from keyfob.verifier.introspection import Introspection
from keyfob.verifier.jwks_source import JwksSource
from keyfob.verifier.session_uses import SessionUses
from keyfob.verifier.settings import FollowSettings
from keyfob.verifier.sources import Sources

from .acceptance_model import ISSUER, MAccess, MEntry, MSession
from .test_model_of_acceptance import Acceptance

STALENESS = timedelta(seconds=5)
CACHE_AGE = timedelta(minutes=5)
SETTINGS = FollowSettings(issuer=ISSUER, audiences=frozenset({ISSUER}), verdicts=4, sessions=64)


@dataclass
class Cached:
    """A session as the model believes that a verifier keeps it."""

    session: MSession
    as_of: int
    until: datetime
    roles: frozenset[str]


@dataclass
class Follower:
    """One verifier, with what the model knows about it."""

    view: FeedView
    keys: JwksSource
    checker: Checker
    introspection: Introspection
    known_keys: set[str] = field(default_factory=set)
    held: int = 0
    level_at: datetime | None = None
    over: set[str] = field(default_factory=set)  # sessions that were revoked when it was last level
    cached: dict[str, Cached] = field(default_factory=dict)

    def close(self) -> None:
        self.introspection.close()


class Asked:
    """An authority's introspection endpoint, without the network between."""

    def __init__(self, machine: Following, at: int) -> None:
        self._machine, self._at = machine, at

    def introspect(self, token: str) -> bytes:
        machine = self._machine
        return json.dumps(dict(machine.run(machine.authorities[self._at].introspect(token)))).encode()


class Following(Acceptance):
    """The world of `Acceptance`, and two verifiers in it."""

    def __init__(self) -> None:
        super().__init__()
        self.followers: list[Follower] = []

    def teardown(self) -> None:
        for follower in self.followers:
            follower.close()
        super().teardown()

    @initialize()
    def open(self) -> None:
        super().open()
        self.followers = [self.started(at) for at in range(2)]

    def started(self, at: int) -> Follower:
        """Return a verifier that begins with the snapshot of an authority."""
        view, keys = FeedView(self.clock), JwksSource()
        follower = Follower(
            view=view,
            keys=keys,
            checker=Checker(
                issuer=ISSUER,
                audiences=SETTINGS.audiences,
                keys=keys,
                view=view,
                uses=SessionUses(),
                settings=SETTINGS,
                on_miss=lambda: None,
            ),
            introspection=Introspection(
                Asked(self, at),
                issuer=ISSUER,
                audiences=SETTINGS.audiences,
                time=view.time,
                sources=Sources(self.clock.elapsed),
                max_cache_age=CACHE_AGE.total_seconds(),
            ),
        )
        self.take_snapshot(follower, at)
        return follower

    def take_snapshot(self, follower: Follower, at: int) -> None:
        feed = self.authorities[at].feed
        self.run(feed.beat())
        keys = self.authorities[at].keys.feed_public_keys()
        reader = SnapshotReader(lambda text, typ: jws.verify(text, keys, typ=typ, limit=wire.MAX_SIGNED))
        reader.feed(zlib.decompress(self.run(feed.snapshot()), 31))
        snapshot = reader.finish()
        follower.view.live.replace(snapshot.head.head, snapshot.table)
        follower.held = snapshot.head.head.position
        assert follower.held == self.head
        self.hear_keys(follower, at)
        self.beat(follower, snapshot.head.at)

    def hear_keys(self, follower: Follower, at: int) -> None:
        keys = self.authorities[at].keys
        follower.keys.anchor(wire.KeySets(access=keys.jwks(), feed=keys.feed_jwks()))
        follower.known_keys = set(keys.public_keys())

    def beat(self, follower: Follower, signed_at: datetime) -> None:
        """Hear a heartbeat that was signed then: the follower holds all that there was."""
        view = follower.view
        view.live.confirm(signed_at)
        view.level(signed_at.timestamp())
        view.live.drop_expired(signed_at)
        follower.level_at = max(signed_at, follower.level_at or signed_at)
        follower.over = {session.id for session in self.sessions if self.is_revoked(session)}

    def is_revoked(self, session: MSession) -> bool:
        """Whether somebody ended it; that it idled or ran out is another matter."""
        cut = any(
            entry.reach == "end"
            and entry.position > session.as_of
            and (entry.scope, entry.id)
            in {("subject", session.subject), ("client", session.client), ("everything", "")}
            for entry in self.entries
        )
        return session.ended or cut or (session.parent is not None and self.is_revoked(session.parent))

    # What happens to verifiers.

    @rule(which=st.integers(0, 1), at=st.integers(0, 1), count=st.sampled_from([1, 2, 1000]))
    def hear(self, which: int, at: int, count: int) -> None:
        """Hear the next entries; a heartbeat comes only after the last of them. What was dropped meanwhile is a gap."""
        follower = self.followers[which]
        store = self.authorities[at].store.feed
        entries = self.run(store.read_after(Position(follower.held), count))
        next_position = entries[0].position if entries else self.head + 1
        if next_position != follower.held + 1:
            self.begin_anew(follower, at)
            return
        follower.view.live.apply(entries)
        follower.held += len(entries)
        if follower.held == self.head:
            self.hear_keys(follower, at)
            self.beat(follower, self.now)

    @rule(which=st.integers(0, 1), at=st.integers(0, 1))
    def restart(self, which: int, at: int) -> None:
        self.followers[which].close()
        self.followers[which] = self.started(at)

    @rule(which=st.integers(0, 1), at=st.integers(0, 1))
    def resynchronise(self, which: int, at: int) -> None:
        """Begin anew with the snapshot, and keep the caches."""
        self.begin_anew(self.followers[which], at)

    def begin_anew(self, follower: Follower, at: int) -> None:
        follower.view.broken()
        self.take_snapshot(follower, at)

    @precondition(lambda self: self.session_tokens)
    @rule(which=st.integers(0, 1), number=st.integers(0, 10**6))
    def ask(self, which: int, number: int) -> None:
        """Ask about a session token, and keep the answer."""
        follower = self.followers[which]
        token = list(self.session_tokens)[number % len(self.session_tokens)]
        session, expected = self.session_tokens[token], self.verdict_of_session_token(token)
        as_of = self.head
        answer, cause = self.check(lambda: follower.introspection._ask(token))
        if expected is not None:
            assert cause is Cause.UNKNOWN_SESSION
            return
        assert cause is None
        assert answer.principal.as_of == as_of
        limits = [self.now + CACHE_AGE, session.expires]
        if answer.idle_at is not None:
            limits.append(datetime.fromtimestamp(answer.idle_at, tz=self.now.tzinfo))
        kept = Cached(session, as_of, min(limits), answer.principal.roles)
        assert kept.roles == self.roles.get(session.subject, frozenset())
        _, cause = self.check(lambda: follower.checker.finish(token, answer, None, None, None))
        assert cause is None  # it knew at least what the verifier knows
        follower.cached[token] = kept

    # What they answer.

    def check(self, call: Any) -> tuple[Any, Cause | None]:
        try:
            return call(), None
        except Denied as denied:
            return None, denied.cause

    def covering(self, follower: Follower, session: MSession, as_of: int, *, jti: str | None) -> Cause | None:
        """The rule over what the follower holds, without the entries of keys."""
        lineage = {session.id} | ({session.parent.id} if session.parent else set())
        names = {
            ("subject", session.subject),
            ("client", session.client),
            ("everything", ""),
            *(("session", each) for each in lineage),
            *(("client", above.client) for above in (session.parent,) if above),
            *((("token", jti),) if jti else ()),
        }

        def is_covering(entry: MEntry) -> bool:
            return (entry.scope, entry.id) in names and entry.spared not in lineage

        reaches = {entry.reach for entry in self.entries[as_of : follower.held] if is_covering(entry)}
        if "end" in reaches:
            return Cause.REVOKED
        return Cause.STALE_CLAIMS if reaches else None

    def expected_of_access(self, follower: Follower, access: MAccess) -> Cause | None:
        if access.kid not in follower.known_keys:
            return Cause.UNKNOWN_KEY
        if self.now >= access.expires:
            return Cause.EXPIRED
        if any(entry.scope == "key" and entry.id == access.kid for entry in self.entries[: follower.held]):
            return Cause.REVOKED
        covered = self.covering(follower, access.session, access.as_of, jti=access.jti)
        return covered or self.staleness_of(follower)

    def expected_of_session(self, follower: Follower, token: str) -> Cause | None:
        kept = follower.cached.get(token)
        if kept is None:
            return Cause.UNKNOWN_SESSION
        if self.now >= kept.session.expires:
            return Cause.EXPIRED
        covered = self.covering(follower, kept.session, kept.as_of, jti=None)
        if covered is not None:
            return covered
        return Cause.UNKNOWN_SESSION if self.now >= kept.until else self.staleness_of(follower)

    def staleness_of(self, follower: Follower) -> Cause | None:
        assert follower.level_at is not None
        return Cause.VERIFIER_STALE if self.now - follower.level_at > STALENESS else None

    @invariant()
    def every_verifier_says_what_it_can_know(self) -> None:
        for follower in self.followers:
            for access in self.accesses:
                principal = self.compare(follower, access.token, self.expected_of_access(follower, access))
                if principal is not None:
                    assert access.session.id not in follower.over
                    assert principal.roles == access.roles
            for token, session in self.session_tokens.items():
                principal = self.compare(follower, token, self.expected_of_session(follower, token))
                if principal is not None:
                    assert session.id not in follower.over
                    assert principal.roles == follower.cached[token].roles

    def compare(self, follower: Follower, token: str, expected: Cause | None) -> Any:
        principal, cause = self.check(lambda: follower.checker.check(token, None, None, None, None, None))
        assert cause is expected, (cause, expected)
        return principal


TestFollowing = Following.TestCase
TestFollowing.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
