"""Random histories of logins, refreshes, revocations and time, against a simple model of who is to be accepted.

The model knows sessions, entries and the rule, and nothing of stores, caches or signatures. After every step each credential that was ever
issued gets, at both authorities, exactly the verdict that the model gives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from keyfob.accounts.passwords import PasswordPolicy
from keyfob.authority.authority import Authority
from keyfob.base.errors import Cause, Conflict, Denied, NotFound
from keyfob.base.identifiers import Subject
from keyfob.sessions.policy import SessionPolicy
from keyfob.stores.memory import open_memory_store

from .acceptance_model import (
    ABSOLUTE,
    ACCESS,
    ISSUER,
    LIMIT,
    SUBJECTS,
    TOUCH,
    WINDOW,
    MAccess,
    Model,
    MSession,
    claims_of,
    principal_of,
)

MASTER_KEY = bytes(range(32))
CHEAP = PasswordPolicy(memory_kib=8, iterations=1, threads=1)


class Acceptance(Model, RuleBasedStateMachine):
    """The world, and the model beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.authorities: list[Authority] = []

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    def cause_of(self, work: Coroutine[Any, Any, Any]) -> tuple[Any, Cause | None]:
        try:
            return self.run(work), None
        except Denied as denied:
            return None, denied.cause

    @initialize()
    def open(self) -> None:
        async def opened() -> None:
            store = open_memory_store(self.clock)
            for _ in range(2):
                self.authorities.append(
                    await Authority.open(
                        store,
                        issuer=ISSUER,
                        master_key=MASTER_KEY,
                        clock=self.clock,
                        passwords=CHEAP,
                        policy=SessionPolicy(sessions_per_subject=LIMIT),
                    )
                )

        self.run(opened())

    def teardown(self) -> None:
        async def closed() -> None:
            for authority in self.authorities:
                await authority.close()

        self.run(closed())
        self.loop.close()

    # What is issued.

    def note_access(self, issued: Any, session: MSession, as_of: int) -> None:
        if issued.access_token is None:
            return
        claims = claims_of(issued.access_token)
        assert claims["as_of"] == as_of
        self.accesses.append(
            MAccess(
                token=issued.access_token,
                session=session,
                as_of=as_of,
                expires=min(self.now + ACCESS, session.expires),
                roles=self.roles.get(session.subject, frozenset()),
                kid=self.authorities[0].keys.signer().key_id,
                jti=claims["jti"],
            )
        )

    # The steps.

    @rule(
        at=st.integers(0, 1),
        subject=st.sampled_from(SUBJECTS),
        strategy=st.sampled_from(sorted(ABSOLUTE)),
        client=st.sampled_from(["first-party", "first-party", "shop"]),
        roles=st.sampled_from([None, None, frozenset({"a"}), frozenset({"b"})]),
        parent=st.integers(0, 2),
    )
    def login(
        self, at: int, subject: str, strategy: str, client: str, roles: frozenset[str] | None, parent: int
    ) -> None:
        authority = self.authorities[at]
        candidates = [s for s in self.sessions if s.subject == subject and s.parent is None]
        above = candidates[-1] if parent == 0 and candidates else None
        if above is not None:
            # A child is a hybrid, as logins at other applications are; its client may be another than its parent's.
            strategy, roles = "hybrid", None
        if client == "shop" and self.run(authority.clients.find("shop")) is None:
            self.run(authority.clients.add("shop", strategies=list(ABSOLUTE)))
        as_of = self.head
        issued, cause = self.cause_of(
            authority.login(
                subject,
                strategy=strategy,
                client_id=client,
                roles=roles,
                parent_session_id=above.id if above else None,
            )
        )
        if subject in self.barred:
            assert cause is Cause.REVOKED
            return
        if above is not None and self.standing(above) is not None:
            assert cause is Cause.REVOKED
            return
        assert cause is None
        if roles is not None and self.is_change(subject, roles):
            self.emit("subject", subject, "claims", issued.session_id)
        if roles is not None:
            self.roles[subject] = roles
        session = MSession(
            id=issued.session_id,
            subject=subject,
            client=client,
            strategy=strategy,
            created=self.now,
            as_of=as_of,
            parent=above,
            last_seen=self.now,
        )
        if above is None:
            self.make_room(subject)
        self.sessions.append(session)
        assert issued.expires_at == session.expires
        if issued.session_token:
            session.token = issued.session_token
            self.session_tokens[issued.session_token] = session
        if issued.refresh_token:
            session.chain = [issued.refresh_token]
            self.refresh_tokens[issued.refresh_token] = session
        self.note_access(issued, session, as_of)

    def make_room(self, subject: str) -> None:
        live = [s for s in self.sessions if s.subject == subject and s.parent is None]
        live = sorted((s for s in live if self.standing(s) is None), key=lambda s: (s.created, s.id))
        for oldest in live[: max(0, len(live) + 1 - LIMIT)]:
            self.emit("session", oldest.id)

    @precondition(lambda self: self.refresh_tokens)
    @rule(
        at=st.integers(0, 1), which=st.integers(0, 10**6), back=st.sampled_from([0, 0, 0, 1, 1, 2, 3, None])
    )
    def refresh(self, at: int, which: int, back: int | None) -> None:
        """With the current token, its parent, an earlier one, or any that ever was."""
        known = list(self.refresh_tokens)
        token = known[which % len(known)]
        session = self.refresh_tokens[token]
        if back is not None:
            token = session.chain[max(0, len(session.chain) - 1 - back)]
        expected = self.verdict_of_refresh_token(token)
        as_of = self.head
        answer, cause = self.cause_of(self.authorities[at].refresh(token))
        if expected is not None:
            assert cause is expected
            return
        behind = len(session.chain) - 1 - session.chain.index(token)
        window = timedelta(0) if session.closed else WINDOW
        is_young = session.rotated_at is not None and self.now - session.rotated_at < window
        if behind > 1 or (behind == 1 and not is_young):
            assert cause is Cause.REUSED
            self.emit("session", session.id)
            return
        assert cause is None
        if behind == 1:
            assert answer.refresh_token == session.chain[-1]
            if not session.replayed_since:
                session.replayed_since = True
                session.replays += 1
                session.closed = session.closed or session.replays >= 3
        elif is_young:
            assert answer.refresh_token == token
        else:
            assert answer.refresh_token not in self.refresh_tokens
            session.chain.append(answer.refresh_token)
            self.refresh_tokens[answer.refresh_token] = session
            session.rotated_at = self.now
            session.replays = session.replays if session.replayed_since else 0
            session.replayed_since = False
        session.last_seen = self.now
        self.note_access(answer, session, as_of)

    @precondition(lambda self: any(self.standing(s) is None for s in self.sessions))
    @rule(at=st.integers(0, 1), which=st.integers(0, 10**6))
    def renew(self, at: int, which: int) -> None:
        authority = self.authorities[at]
        live = [s for s in self.sessions if self.standing(s) is None]
        session = live[which % len(live)]
        principal = principal_of(session)
        issued = self.run(authority.renew(principal))
        position = self.emit("session", session.id, "claims")
        if session.strategy != "jwt":
            session.as_of = position
            session.last_seen = self.now
        if issued.session_token:
            session.previous, session.previous_until = session.token, self.now + WINDOW
            session.token = issued.session_token
            self.session_tokens[issued.session_token] = session
        if issued.refresh_token:
            session.chain = [issued.refresh_token]
            self.refresh_tokens[issued.refresh_token] = session
            session.rotated_at, session.replays, session.replayed_since = None, 0, False
        self.note_access(issued, session, position)

    @precondition(lambda self: self.sessions)
    @rule(
        at=st.integers(0, 1),
        which=st.integers(0, 10**6),
        devices=st.sampled_from(["this", "this", "others", "all"]),
    )
    def logout(self, at: int, which: int, devices: str) -> None:
        tokens = [*self.session_tokens, *self.refresh_tokens, *(access.token for access in self.accesses)]
        token = tokens[which % len(tokens)]
        if token in self.session_tokens:
            session, verdict = self.session_tokens[token], self.verdict_of_session_token(token)
        elif token in self.refresh_tokens:
            session, verdict = self.refresh_tokens[token], self.verdict_of_refresh_token(token)
        else:
            access = next(access for access in self.accesses if access.token == token)
            session, verdict = access.session, self.verdict_of_access(access)
            verdict = None if verdict is Cause.STALE_CLAIMS else verdict
            if devices == "this" and verdict is None and self.standing(session) is not None:
                verdict = self.standing(session)  # good until exp, but its session ran out meanwhile
        entry = self.run(self.authorities[at].logout(token, devices=devices))
        if verdict is not None:
            assert entry is None
        elif devices == "this":
            assert entry.position == self.emit("session", session.id)
        else:
            spared = session.family if devices == "others" else None
            assert entry.position == self.emit("subject", session.subject, spared=spared)

    @rule(
        at=st.integers(0, 1),
        scope=st.sampled_from(["token", "session", "session", "subject", "client", "key", "everything"]),
        reach=st.sampled_from(["end", "end", "claims"]),
        which=st.integers(0, 10**6),
        sparing=st.booleans(),
    )
    def revoke(self, at: int, scope: str, reach: str, which: int, sparing: bool) -> None:
        authority = self.authorities[at]
        spared: str | None = None
        sparing_id: str | None = None
        if scope in {"token", "key"}:
            reach = "end"
        if scope == "token":
            target = self.accesses[which % len(self.accesses)].jti if self.accesses else "some"
        elif scope == "session":
            target = self.sessions[which % len(self.sessions)].id if self.sessions else "0" * 32
        elif scope == "subject":
            target = SUBJECTS[which % len(SUBJECTS)]
            own = [s for s in self.sessions if s.subject == target]
            if sparing and own:
                chosen = own[which % len(own)]
                # A row that is gone has no parent any more.
                sparing_id, spared = chosen.id, chosen.id if chosen.gone else chosen.family
        elif scope == "client":
            target = ("first-party", "shop")[which % 2]
        else:
            target = authority.keys.signer().key_id if scope == "key" else ""
        named = next((s for s in self.sessions if s.id == target), None) if scope == "session" else None
        already = named is not None and not named.gone and self.standing(named) is not None
        try:
            entry = self.run(authority.revoke(scope, target, reach=reach, spared=sparing_id))
        except Conflict:
            assert already
            return
        assert not already
        assert entry.position == self.emit(scope, target, reach, spared)
        for each in self.authorities:
            self.run(each.keys.reload())

    @rule(at=st.integers(0, 1))
    def delete_the_shop(self, at: int) -> None:
        known = self.run(self.authorities[at].clients.find("shop")) is not None
        try:
            self.run(self.authorities[at].clients.delete("shop", actor="admin"))
        except NotFound:
            assert not known
            return
        assert known
        self.emit("client", "shop")

    @rule(
        at=st.integers(0, 1),
        subject=st.sampled_from(SUBJECTS),
        roles=st.sampled_from([frozenset({"a"}), frozenset({"b"}), frozenset[str]()]),
    )
    def set_roles(self, at: int, subject: str, roles: frozenset[str]) -> None:
        expected = self.is_change(subject, roles)
        entry = self.run(self.authorities[at].set_roles(subject, roles))
        self.roles[subject] = roles
        assert (entry is not None) is expected
        if entry is not None:
            self.emit("subject", subject, "claims")

    @rule(at=st.integers(0, 1), subject=st.sampled_from(SUBJECTS), lift=st.booleans())
    def bar(self, at: int, subject: str, lift: bool) -> None:
        accounts = self.authorities[at].accounts
        if lift:
            assert self.run(accounts.enable(Subject(subject), actor="admin")) is (subject in self.barred)
            self.barred.discard(subject)
            return
        entry = self.run(accounts.disable(Subject(subject), actor="admin"))
        assert (entry is None) is (subject in self.barred)
        if entry is not None:
            self.roles.setdefault(subject, frozenset())
            self.barred.add(subject)
            self.emit("subject", subject)

    @rule(by=st.sampled_from([1, 29, 30, 31, 61, 299, 600, 1739, 1800, 43_200, 14 * 86_400]))
    def advance(self, by: int) -> None:
        self.clock.advance(by)

    @rule()
    def clean(self) -> None:
        self.run(self.authorities[0]._parts.housekeeping.clean())
        for session in self.sessions:
            session.gone = session.gone or self.now >= session.expires

    @invariant()
    def every_verdict_is_the_models(self) -> None:
        for authority in self.authorities:
            self.run(authority.feed.beat())
            assert authority.feed.live.head.position == self.head
        used = [session for authority in self.authorities for session in self.compare_sessions(authority)]
        for authority in self.authorities:
            self.compare_tokens(authority)
            self.introspect_the_latest(authority)
            self.run(authority.activity.write())
        for session in used:
            if self.now - session.last_seen >= TOUCH:
                session.last_seen = self.now

    def compare_sessions(self, authority: Authority) -> list[MSession]:
        """Compare the verdicts on session tokens, and return the sessions that were thereby used."""
        used = []
        for token, session in self.session_tokens.items():
            expected = self.verdict_of_session_token(token)
            principal, cause = self.cause_of(authority.authenticate(token))
            assert cause is expected, (cause, expected)
            if principal is not None:
                assert principal.roles == self.roles.get(session.subject, frozenset())
                used.append(session)
        return used

    def compare_tokens(self, authority: Authority) -> None:
        for access in self.accesses:
            expected = self.verdict_of_access(access)
            principal, cause = self.cause_of(authority.authenticate(access.token))
            assert cause is expected, (cause, expected)
            assert principal is None or principal.roles == access.roles
        for token in self.refresh_tokens:
            expected = self.verdict_of_refresh_token(token)
            _, cause = self.cause_of(authority._parts.renewals._refresh.present(token))
            assert cause is expected, (cause, expected)

    def introspect_the_latest(self, authority: Authority) -> None:
        for access in self.accesses[-2:]:
            good = self.verdict_of_access(access) is None and self.standing(access.session) is None
            assert self.run(authority.introspect(access.token))["active"] is good
        for token in list(self.session_tokens)[-2:]:
            good = self.verdict_of_session_token(token) is None
            assert self.run(authority.introspect(token))["active"] is good


TestAcceptance = Acceptance.TestCase
TestAcceptance.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
