"""Who is to be accepted: sessions, entries and the rule, and nothing of stores, caches or signatures."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from keyfob.base import base64url
from keyfob.base.errors import Cause
from keyfob.base.principal import Principal
from keyfob.testing.frozen_clock import FrozenClock

LIMIT = 4
WINDOW = timedelta(seconds=30)
TOUCH = timedelta(seconds=60)
ACCESS = timedelta(minutes=10)
ISSUER = "https://auth.example"
ABSOLUTE = {"session": timedelta(hours=12), "jwt": timedelta(minutes=10), "hybrid": timedelta(days=30)}
IDLE = {"session": timedelta(minutes=30), "jwt": None, "hybrid": timedelta(days=14)}
SUBJECTS = ("alice", "bob")


@dataclass
class MEntry:
    position: int
    scope: str
    id: str
    reach: str
    spared: str | None = None


@dataclass(eq=False)
class MSession:
    id: str
    subject: str
    client: str
    strategy: str
    created: datetime
    as_of: int
    parent: MSession | None
    last_seen: datetime
    ended: bool = False
    listed_as_ended: bool = False  # its row says so, and not only a cut-off
    gone: bool = False
    chain: list[str] = field(
        default_factory=list
    )  # refresh tokens that lead to the current one, which is the last
    rotated_at: datetime | None = None
    replayed_since: bool = False
    replays: int = 0
    closed: bool = False
    token: str | None = None
    previous: str | None = None
    previous_until: datetime | None = None

    @property
    def family(self) -> str:
        return self.parent.id if self.parent else self.id

    @property
    def expires(self) -> datetime:
        return self.created + ABSOLUTE[self.strategy]


@dataclass(eq=False)
class MAccess:
    token: str
    session: MSession
    as_of: int
    expires: datetime
    roles: frozenset[str]
    kid: str
    jti: str


class Model:
    """What was issued, what was revoked, and the verdict on each credential at this moment."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FrozenClock()
        self.entries: list[MEntry] = []
        self.sessions: list[MSession] = []
        self.accesses: list[MAccess] = []
        self.session_tokens: dict[str, MSession] = {}
        self.refresh_tokens: dict[str, MSession] = {}
        self.roles: dict[str, frozenset[str]] = {}
        self.barred: set[str] = set()

    @property
    def now(self) -> datetime:
        return self.clock.now()

    @property
    def head(self) -> int:
        return len(self.entries)

    def emit(self, scope: str, target: str, reach: str = "end", spared: str | None = None) -> int:
        if scope in {"subject", "everything"} and reach == "end" and spared is not None:
            kept = [s for s in self.sessions if self.standing(s) is None]
            kept = [s for s in kept if s.id == spared or (s.parent and s.parent.id == spared)]
        else:
            kept = []
        ending = []
        if scope == "session" and reach == "end":
            ending = [s for s in self.sessions if s.id == target or (s.parent and s.parent.id == target)]
            ending = [s for s in ending if self.standing(s) is None]
        listed = list(ending)
        if scope == "subject" and reach == "end":
            own = [s for s in self.sessions if s.subject == target and s.family != spared]
            listed = [s for s in own if self.standing(s) is None]
        self.entries.append(MEntry(self.head + 1, scope, target, reach, spared))
        for session in kept:
            session.as_of = self.head
        for session in ending:
            session.ended = True
        for session in listed:
            session.listed_as_ended = True
        return self.head

    def is_over(self, session: MSession) -> bool:
        """Whether somebody has ended it: itself, its parent, or all of its subject, its client or the issuer."""
        cut = any(
            entry.reach == "end"
            and entry.position > session.as_of
            and (entry.scope, entry.id)
            in {("subject", session.subject), ("client", session.client), ("everything", "")}
            for entry in self.entries
        )
        return (
            session.ended or cut or (session.parent is not None and self.standing(session.parent) is not None)
        )

    def standing(self, session: MSession) -> Cause | None:
        if session.gone:
            return Cause.UNKNOWN_SESSION
        over = self.is_over(session)
        if self.now >= session.expires:
            return Cause.UNKNOWN_SESSION if over else Cause.EXPIRED
        if over:
            return Cause.REVOKED
        idle = IDLE[session.strategy]
        if idle is not None and self.now >= session.last_seen + idle:
            return Cause.IDLE
        return None

    def verdict_of_session_token(self, token: str) -> Cause | None:
        session = self.session_tokens[token]
        in_window = session.previous_until is not None and self.now < session.previous_until
        if session.gone or not (token == session.token or (token == session.previous and in_window)):
            return Cause.UNKNOWN_SESSION
        return self.standing(session)

    def verdict_of_refresh_token(self, token: str) -> Cause | None:
        session = self.refresh_tokens[token]
        return self.standing(session) if token in session.chain else Cause.UNKNOWN_SESSION

    def verdict_of_access(self, access: MAccess) -> Cause | None:
        if any(entry.scope == "key" and entry.id == access.kid for entry in self.entries):
            return Cause.UNKNOWN_KEY
        if self.now >= access.expires:
            return Cause.EXPIRED
        session = access.session
        lineage = {session.id} | ({session.parent.id} if session.parent else set())
        names = {
            ("token", access.jti),
            ("subject", session.subject),
            ("client", session.client),
            ("everything", ""),
            *(("session", each) for each in lineage),
            *(("client", above.client) for above in (session.parent,) if above),
        }
        covering = {
            entry.reach
            for entry in self.entries[access.as_of :]
            if (entry.scope, entry.id) in names and entry.spared not in lineage
        }
        if "end" in covering:
            return Cause.REVOKED
        return Cause.STALE_CLAIMS if covering else None

    def is_change(self, subject: str, roles: frozenset[str]) -> bool:
        """Whether somebody can have seen other roles: on the record, or, without one, none at all in a session."""
        if subject in self.roles:
            return self.roles[subject] != roles
        rows = [s for s in self.sessions if s.subject == subject and not s.gone and not s.listed_as_ended]
        return bool(roles) and bool(rows)


def claims_of(token: str) -> dict[str, Any]:
    return json.loads(base64url.decode(token.split(".")[1].encode()))


def principal_of(session: MSession) -> Any:
    return Principal(
        subject=session.subject,
        client_id=session.client,
        strategy=None,
        audience=(ISSUER,),
        issued_at=session.created,
        expires_at=session.expires,
        as_of=0,
        session_id=session.id,
    )
