"""The session service: create, check, renew."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, assert_never

from keyfob.base.clock import Clock
from keyfob.base.errors import Cause, Denied, InvalidRequest
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, Position, SessionId, Strategy, Subject, new_session_id
from keyfob.base.opaque import OpaqueKeys, OpaqueKind, OpaqueToken
from keyfob.revocation.entry import Entry
from keyfob.sessions.policy import SessionPolicy
from keyfob.sessions.rules import Standing, standing
from keyfob.sessions.session import Session
from keyfob.sessions.store import (
    MAX_DATA,
    Added,
    CutOff,
    Found,
    LimitReached,
    Renewal,
    Renewed,
    SessionData,
    SessionStore,
    Unknown,
)

MAX_USER_AGENT = 256  # characters kept of a User-Agent header


class OpaqueKeyring(Protocol):
    """What sessions need of the key ring."""

    def current_opaque(self) -> OpaqueKeys:
        """Return the keys of new logins."""
        ...

    def opaque_keys(self, key_id: bytes) -> OpaqueKeys | None:
        """Return the keys of a key id, if they are known."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What is known of a login when its session is created. `kind` is that of its opaque token, None for none.

    Of its subject's roles it has those in `role_limit`; None: all.
    """

    session_id: SessionId
    subject: Subject
    client_id: ClientId
    strategy: Strategy
    kind: OpaqueKind | None
    as_of: Position
    ends_at: datetime
    audience: tuple[str, ...]
    scopes: tuple[str, ...] = ()
    amr: tuple[str, ...] = ()
    acr: str | None = None
    auth_time: datetime | None = None
    persistent: bool = False
    parent_session_id: SessionId | None = None
    parent_client_id: ClientId | None = None
    user_agent: str = ""
    address: str = ""
    role_limit: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """That the user proved again who they are: when, and how."""

    auth_time: datetime
    amr: tuple[str, ...] = ()
    acr: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A new session, its token if it has one, and the entries of older sessions that made room for it."""

    session: Session
    token: OpaqueToken | None
    ended: tuple[Entry, ...] = field(default=())


class Sessions:
    """Creates, checks and renews sessions. It holds no state of its own."""

    def __init__(
        self,
        store: SessionStore,
        keys: OpaqueKeyring,
        *,
        salt: bytes,
        policy: SessionPolicy,
        clock: Clock,
    ) -> None:
        self._store = store
        self._keys = keys
        self._salt = salt
        self._policy = policy
        self._clock = clock

    def new_id(self, subject: Subject, strategy: Strategy) -> tuple[SessionId, datetime]:
        """Make the id of a session that begins now, and its absolute end."""
        ends_at = self._clock.now() + self._policy.lifetimes[strategy].absolute
        return self.new_id_until(subject, ends_at), ends_at

    def new_id_until(self, subject: Subject, ends_at: datetime) -> SessionId:
        """Make the id of a session whose absolute end is *ends_at*."""
        return new_session_id(self._salt, subject, ends_at)

    async def create(self, login: Login) -> Created:
        """Add the session of *login*. Its token is always fresh, whatever the request carried.

        Raises:
            Denied: `session_limit` if the policy is to deny; `revoked` if a cut-off came after `login.as_of`.
        """
        now = self._clock.now()
        token = (
            OpaqueToken.mint(login.kind, login.session_id, self._keys.current_opaque())
            if login.kind
            else None
        )
        session = Session(
            session_id=login.session_id,
            subject=login.subject,
            client_id=login.client_id,
            strategy=login.strategy,
            kind=login.kind,
            digest=token.digest if token else None,
            created_at=now,
            expires_at=login.ends_at,
            last_seen_at=now,
            auth_time=login.auth_time or now,
            idle_timeout=self._policy.lifetimes[login.strategy].idle,
            as_of=login.as_of,
            parent_session_id=login.parent_session_id,
            parent_client_id=login.parent_client_id,
            audience=login.audience,
            scopes=login.scopes,
            amr=login.amr,
            acr=login.acr,
            persistent=login.persistent,
            user_agent=login.user_agent[:MAX_USER_AGENT],
            address=login.address,
            role_limit=login.role_limit,
        )
        outcome = await self._store.add(
            session,
            limit=self._policy.sessions_per_subject,
            at_limit=self._policy.at_limit,
            event=Event(
                at=now,
                code="visit" if login.kind is OpaqueKind.ANONYMOUS else "login",
                actor=login.subject,
                subject=login.subject,
                session_id=login.session_id,
                client_id=login.client_id,
                address=login.address or None,
                facts={"strategy": login.strategy.value},
            ),
        )
        match outcome:
            case Added(ended):
                return Created(session=session, token=token, ended=tuple(ended))
            case LimitReached():
                raise Denied(Cause.SESSION_LIMIT, f"{self._policy.sessions_per_subject} sessions are live")
            case CutOff():
                raise Denied(Cause.REVOKED, "the subject was cut off while the login was under way")
            case _:
                assert_never(outcome)

    async def read_data(self, session_id: SessionId) -> SessionData | None:
        """Return the application's data of a live session, None if it is not live."""
        return await self._store.read_data(session_id)

    async def write_data(self, session_id: SessionId, data: bytes, version: int) -> bool:
        """Write the application's data of a session in place of *version*: compare and set. Say whether it was written.

        Of concurrent calls with one *version* one writes. False where another wrote before, or the session is over: `read_data` says
        which. At exactly `MAX_DATA` bytes it is written.

        Raises:
            InvalidRequest: `session_data_too_large`.
        """
        if len(data) > MAX_DATA:
            raise InvalidRequest(
                "session_data_too_large",
                f"The data of a session has at most {MAX_DATA} bytes, not {len(data)}.",
                status=413,
            )
        return await self._store.write_data(session_id, data, version=version, now=self._clock.now())

    def parse(self, text: str, kind: OpaqueKind) -> OpaqueToken:
        """Read *text* as a token of *kind*, without any I/O.

        Raises:
            Denied: `malformed`.
        """
        token = OpaqueToken.parse(text, self._keys.opaque_keys)
        if token.kind is not kind:
            raise Denied(Cause.MALFORMED, f"a {token.kind.value} token where a {kind.value} token belongs")
        return token

    async def check(self, token: OpaqueToken) -> Found:
        """Read the session of a session token from the store and check it.

        1. The row exists and is of the token's kind.
        2. The digest is the current one, or the one before a renewal that is still good.
        3. Its absolute end, that it was ended, its idle limit.

        Raises:
            Denied: `unknown_session`, `expired`, `revoked` or `idle`.
        """
        found = await self._store.find(token.session_id)
        if found is None or found.session.kind is not token.kind:
            raise Denied(Cause.UNKNOWN_SESSION, "no such session")
        now = self._clock.now()
        if not _is_secret_of(token, found.session, now):
            raise Denied(Cause.UNKNOWN_SESSION, "another secret")
        self.require_live(found.session, now)
        return found

    def require_live(self, session: Session, now: datetime) -> None:
        """Refuse a session that is over at *now*.

        Raises:
            Denied: `expired` at its absolute end (`unknown_session` if it had been ended before), `revoked` or `idle`.
        """
        stands = standing(session, now, idle_timeout=self.idle_timeout(session))
        match stands:
            case Standing.LIVE:
                return
            case Standing.EXPIRED:
                cause = Cause.EXPIRED if session.ended_at is None else Cause.UNKNOWN_SESSION
                raise Denied(cause, f"absolute end {session.expires_at.isoformat()}")
            case Standing.ENDED:
                raise Denied(Cause.REVOKED, f"ended by the entry at position {session.ended_position}")
            case Standing.IDLE:
                raise Denied(Cause.IDLE, f"not used since {session.last_seen_at.isoformat()}")
            case _:
                assert_never(stands)

    def idle_timeout(self, session: Session) -> timedelta | None:
        """Return today's idle limit for the strategy of *session*; an API key has none."""
        return None if session.is_api_key else self._policy.lifetimes[session.strategy].idle

    async def renew(
        self, session: Session, *, window: timedelta | None = None, proof: Proof | None = None
    ) -> tuple[Session, OpaqueToken, Entry]:
        """Give a live session a fresh secret, at a change of privilege; *session* is as it was just read.

        A session token before it stays good for *window* (0: not at all; by default the replay window), a refresh token does not. With
        *proof*, its user has proved again who they are. Of concurrent calls one succeeds.

        Raises:
            Denied: `unknown_session` if its secret is no longer the one of *session*, or it is over.
        """
        now = self._clock.now()
        if session.kind is None or session.digest is None or session.is_api_key:
            raise Denied(Cause.UNKNOWN_SESSION, "only a login that has an opaque token can be renewed")
        token = OpaqueToken.mint(
            session.kind, session.session_id, self._keys.current_opaque(), generation=session.generation + 1
        )
        outcome = await self._store.renew(
            session.session_id,
            Renewal(
                presented=session.digest,
                successor=token.digest,
                generation=session.generation,
                previous_until=now + (self._policy.replay_window if window is None else window),
                auth_time=proof.auth_time if proof else None,
                amr=proof.amr if proof else None,
                acr=proof.acr if proof else None,
            ),
            now=now,
            event=Event(
                at=now,
                code="session_renewed",
                actor=session.subject,
                subject=session.subject,
                session_id=session.session_id,
                client_id=session.client_id,
            ),
        )
        match outcome:
            case Renewed(renewed, entry):
                return renewed, token, entry
            case Unknown():
                raise Denied(Cause.UNKNOWN_SESSION, "renewed or ended by another request")
            case _:
                assert_never(outcome)


def _is_secret_of(token: OpaqueToken, session: Session, now: datetime) -> bool:
    digest = token.digest
    if session.digest is not None and hmac.compare_digest(session.digest, digest):
        return token.generation == session.generation
    if session.previous_digest is None or session.previous_until is None:
        return False
    return now < session.previous_until and hmac.compare_digest(session.previous_digest, digest)
