"""The authority: the issuing side, which owns the store and the private keys."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Unpack

from keyfob.authority import csrf
from keyfob.authority.endings import Devices
from keyfob.authority.guarding import guard
from keyfob.authority.issued import Issued
from keyfob.authority.opening import Opening
from keyfob.authority.options import OpenOptions, Options
from keyfob.authority.parts import Parts
from keyfob.authority.preview import RevocationPreview
from keyfob.authority.sign_in import Device, LoginOptions, SignIn
from keyfob.authority.start import start
from keyfob.base.clock import Clock
from keyfob.base.errors import Cause, Denied, InvalidRequest
from keyfob.base.identifiers import SessionId, Subject, is_identifier
from keyfob.base.principal import Principal
from keyfob.clients.client import Client
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.sessions.store import SessionData, SessionPage
from keyfob.stores.store import Store
from keyfob.tokens.access_token import AccessToken
from keyfob.tokens.grant import grant_of_principal
from keyfob.verifier.guard import Guard
from keyfob.verifier.policy import require

MAX_PAGE = 1_000  # sessions in one list: a step of the store that holds the event loop for some milliseconds


class Authority:
    """Logs in, checks, refreshes, logs out and revokes, in all three strategies.

    Every method may be called concurrently, in this process and in others on the same store. When a call that revokes returns, the
    entry is durable, and in force in this process; in others within milliseconds. Every method raises `StoreUnavailable` when the store
    does not answer.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._closed = False
        options = parts.options
        self.issuer = options.issuer
        self.clock: Clock = options.clock
        self.policy = options.policy
        self.access_lifetime = options.access_lifetime
        self.reads_at_once = parts.store.reads_at_once and options.claims_source is None
        self.store = parts.store
        self.keys = parts.keys
        self.feed = parts.feed
        self.sessions = parts.sessions
        self.accounts = parts.accounts
        self.clients = parts.clients
        self.client_authentication = parts.client_authentication
        self.machine_tokens = parts.machine_tokens
        self.consents = parts.consents
        self.token_revocation = parts.token_revocation
        self.introspection = parts.introspection
        self.authorizations = parts.authorizations
        self.user_tokens = parts.user_tokens
        self.device_flow = parts.device_flow
        self.hand_offs = parts.hand_offs
        self.api_keys = parts.api_keys
        self.visits = parts.visits
        self.trail = parts.trail
        self.activity = parts.activity
        self.reports = parts.reports
        self.endings = parts.endings
        self.issuing = parts.issuing
        self.id_tokens = parts.id_tokens
        self.user_info = parts.user_info
        self.backchannel = parts.backchannel

    @classmethod
    def open(
        cls,
        store: str | Store = "memory://",
        *,
        master_key: bytes | str | None = None,
        **options: Unpack[OpenOptions],
    ) -> Opening[Authority]:
        """Open an authority on a store: `authority = await Authority.open(...)`, or `async with Authority.open(...) as authority`.

        *master_key* (32 bytes, or their base64url) seals the private keys. Without it, a SQLite store keeps one in the file
        `<database>.key` and a memory store makes one; other stores require it. `OpenOptions` says the rest; `issuer` is required.

        Raises:
            ConfigurationError: something does not fit; the message says how to mend it.
            StoreUnavailable: the store does not answer.
        """
        chosen = Options(**options)

        async def opened() -> Authority:
            return cls(await start(store, master_key=master_key, options=chosen))

        return Opening(opened)

    async def close(self) -> None:
        """Write what is noted, end the feed's followers, and close the store. Twice is once."""
        if self._closed:
            return
        self._closed = True
        await self._parts.housekeeping.stop()
        await self.feed.close()
        self._parts.passwords.close()
        await self.store.close()

    # Signing in

    def sign_in(self, *, as_of: int | None = None) -> SignIn:
        """Begin an attempt to sign in, before anything is read about the subject.

        `async with authority.sign_in() as attempt: ...` check the password, then `issued = await attempt.login(subject)`. Where the subject
        had signed in before, elsewhere, *as_of* is the position of then: 0 for a login older than the feed. What ended it since, ends this.
        """
        return SignIn(self._parts, as_of=as_of)

    async def login(self, subject: str, **options: Unpack[LoginOptions]) -> Issued:
        """Sign *subject* in, for callers that have read nothing about it yet; else see `sign_in`. `SignIn.login` says the rest."""
        async with self.sign_in() as attempt:
            return await attempt.login(subject, **options)

    # Checking

    def authenticate_cached(self, token: str) -> Principal | None:
        """Answer from this process's memory, whatever the audience, or None: then `authenticate` finds out. No I/O."""
        return self._parts.checks.cached(token)

    async def authenticate(
        self,
        token: str,
        *,
        audience: str | None = None,
        roles: Collection[str] = (),
        scopes: Collection[str] = (),
        max_auth_age: timedelta | None = None,
    ) -> Principal:
        """Check a session token or an access token; with *audience*, it must be among those of the credential.

        Raises:
            Denied: the first cause in the order of contract.md.
        """
        principal = await self._parts.checks.check(token, audience=audience)
        if roles or scopes or max_auth_age is not None:
            require(principal, self.clock.time(), roles=roles, scopes=scopes, max_auth_age=max_auth_age)
        return principal

    def guard(
        self,
        principal: Principal,
        *,
        max_staleness: timedelta | None = None,
        task: asyncio.Task[object] | None = None,
    ) -> Guard:
        """Return a guard that cancels the task inside it when *principal* is covered, expires, or the store is silent for *max_staleness*.

        As `Verifier.guard`; *max_staleness* is 5 s by default. `Guard.renew` takes a token that was authenticated just before.
        """
        parts = self._parts
        return guard(
            principal, feed=self.feed, checks=parts.checks, clock=self.clock, limit=max_staleness, task=task
        )

    async def introspect(self, token: str, *, caller: Client | None = None) -> Mapping[str, object]:
        """Say what a token is worth right now (RFC 7662), from the store; `{"active": False}` for anything else."""
        return await self._parts.introspection.introspect(token, caller=caller)

    # Refreshing and renewing

    async def refresh(self, token: str, *, device: Device | None = None) -> Issued:
        """Exchange a refresh token for fresh credentials with today's roles.

        Repeated within the replay window it gives the same refresh token again, with a new access token.

        Raises:
            Denied: `reused` (the session was ended: an earlier token came back), `revoked`, `expired`, `idle`, `unknown_session` or
                `malformed`; `wrong_type` for one that its client exchanges at the token endpoint, where it says who it is.
        """
        return await self._parts.renewals.refresh(token, address=device.address if device else "")

    async def renew(self, principal: Principal) -> Issued:
        """Give the session of *principal* fresh credentials, at a change of privilege; the old ones end or become stale.

        A session token before it stays good for the replay window, so that requests under way are answered.

        Raises:
            Denied: `unknown_session`, `expired`, `revoked` or `idle`.
        """
        return await self._parts.renewals.renew(principal)

    async def change_password(
        self, principal: Principal, current: str, new: str, *, address: str = ""
    ) -> Issued:
        """Change the password of *principal*'s account, end its other sessions, and renew its own.

        Raises:
            Denied: `bad_credentials` for a wrong *current* password; else as `renew`.
            InvalidRequest: *new* breaks a rule.
            RateLimited: too many attempts failed.
        """
        if principal.auth_time is None:
            raise Denied(Cause.REAUTHENTICATION_REQUIRED, "an API key is no login")
        own = principal.session_id
        spared = await self.endings.family_of(own) if own else None
        await self.accounts.change_password(principal.subject, current, new, address=address, spared=spared)
        return await self.renew(principal)

    async def mint(
        self, principal: Principal, audience: str, *, lifetime: timedelta | None = None
    ) -> AccessToken:
        """Issue an access token for *audience* from a checked credential, with its `as_of`.

        It lives for *lifetime*, but no longer than the credential, nor than `access_lifetime`: entries are kept for that long alone.

        Raises:
            Denied: `expired`.
        """
        return self.issuing.issue(
            grant_of_principal(principal, (audience,)),
            as_of=principal.as_of,
            timeline=self.feed.live.head.timeline,
            now=self.clock.now(),
            lifetime=min(lifetime or self.access_lifetime, self.access_lifetime),
        )

    # Ending

    async def logout(self, token: str, *, devices: Devices = "this") -> Entry | None:
        """End the session of *token* (`this`), the other sessions of its subject (`others`), or all of them (`all`).

        An unknown, ended or absent credential changes nothing, silently: None.
        """
        if devices not in {"this", "others", "all"}:
            raise InvalidRequest("invalid_request", "devices is this, others or all", status=422)
        return await self._parts.logout.logout(token, devices=devices)

    async def end_session(self, principal: Principal, session_id: str) -> Entry | None:
        """End a session of *principal*'s own; None, and nothing changed, if it is not one, or is over."""
        found = await self.store.sessions.find(SessionId(session_id))
        if found is None or found.session.subject != principal.subject:
            return None
        return await self.endings.end_session(
            found.session.session_id, code="session_ended", actor=principal.subject
        )

    async def revoke(
        self,
        scope: Scope | str,
        id: str = "",  # noqa: A002 - the field's word
        *,
        reach: Reach | str = Reach.END,
        reason: str = "",
        actor: str = "system",
        spared: str | None = None,
    ) -> Entry:
        """Revoke: the one function behind every order to.

        *scope* is `token`, `session`, `subject`, `client`, `key` or `everything`; *id* what it names. *spared* is a session of a subject
        that goes on, with its parent and its children. The reason stays in the audit trail.

        Raises:
            InvalidRequest: scope, id and reach do not fit together.
            NotFound: no such key.
            Conflict: `already_ended`, for a session that is over.
        """
        parsed_scope, parsed_reach = _parsed(scope, reach)
        return await self.endings.revoke(
            parsed_scope,
            id,
            reach=parsed_reach,
            reason=reason,
            actor=actor,
            spared=SessionId(spared) if spared else None,
        )

    async def preview_revocation(
        self,
        scope: Scope | str,
        id: str = "",  # noqa: A002 - the field's word
        *,
        reach: Reach | str = Reach.END,
    ) -> RevocationPreview:
        """Say what `revoke` would do now: which sessions, by when all verifiers deny, and who is behind. Changes nothing.

        Raises:
            InvalidRequest, NotFound: as `revoke`. A session that is over is no error here.
        """
        parsed_scope, parsed_reach = _parsed(scope, reach)
        return await self._parts.previews.preview(parsed_scope, id, reach=parsed_reach)

    async def set_roles(
        self, subject: str, roles: Iterable[str], *, actor: str = "system", reason: str = ""
    ) -> Entry | None:
        """Set the roles of *subject*; None if they were these already. Its credentials are re-read or refreshed from now on.

        Raises:
            InvalidRequest: a subject or a role that cannot be one.
        """
        if not is_identifier(subject):
            raise InvalidRequest("invalid_request", "subject must be 1 to 255 characters", status=422)
        return await self.accounts.set_roles(Subject(subject), roles, actor=actor, reason=reason)

    # Listing, application data, CSRF

    async def list_sessions(
        self, subject: str | None = None, *, after: str | None = None, limit: int = 100
    ) -> SessionPage:
        """Return up to *limit* live sessions of *subject*, or of everybody, newest first.

        Raises:
            InvalidRequest: *limit* is not 1 to 1000, or *after* is no earlier page's `next`.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidRequest("invalid_request", f"limit is 1 to {MAX_PAGE}", status=422)
        return await self.store.sessions.list(
            Subject(subject) if subject is not None else None, now=self.clock.now(), after=after, limit=limit
        )

    async def read_data(self, session_id: str) -> SessionData | None:
        """Return the application's data of a live session, None if it is not live."""
        return await self.sessions.read_data(SessionId(session_id))

    async def write_data(self, session_id: str, data: bytes, *, version: int) -> bool:
        """Write the application's data of a session in place of *version*, as `Sessions.write_data`; say whether it was written."""
        return await self.sessions.write_data(SessionId(session_id), data, version)

    def csrf_token(self, session_id: str) -> str:
        """Return the CSRF token of a session: bound to it, the same for as long as the CSRF key is current."""
        return csrf.token_of(self.keys.csrf_keys()[0], session_id)

    def csrf_matches(self, session_id: str, token: str) -> bool:
        """Say, in constant time, whether *token* is the CSRF token of the session."""
        return csrf.matches(self.keys.csrf_keys(), session_id, token)


def _parsed(scope: Scope | str, reach: Reach | str) -> tuple[Scope, Reach]:
    try:
        return Scope(scope), Reach(reach)
    except ValueError as error:
        raise InvalidRequest("invalid_revocation", str(error), status=422) from None
