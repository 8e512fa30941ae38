"""The authority for synchronous callers: the same names, without `await`.

It runs the asynchronous authority on an event loop in a daemon thread. Every method may be called from any thread, and not from a
running event loop of the caller's, which it would block. `keyfob.sync.home` says what becomes of it in a fork.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Self, TypeVar, Unpack

from keyfob.authority.authority import Authority as AsyncAuthority
from keyfob.authority.endings import Devices
from keyfob.authority.issued import Issued
from keyfob.authority.options import OpenOptions
from keyfob.authority.preview import RevocationPreview
from keyfob.authority.sign_in import Device, LoginOptions
from keyfob.authority.sign_in import SignIn as AsyncSignIn
from keyfob.base.clock import Clock
from keyfob.base.errors import StoreUnavailable
from keyfob.base.principal import Principal
from keyfob.clients.client import Client
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.sessions.policy import SessionPolicy
from keyfob.sessions.store import SessionData, SessionPage
from keyfob.stores.store import Store
from keyfob.sync.home import Home
from keyfob.sync.parts import Accounts, ApiKeys, Clients, MachineTokens, Sessions, Visits
from keyfob.tokens.access_token import AccessToken
from keyfob.verifier.blocking_guard import BlockingGuard, Ended
from keyfob.verifier.loop_thread import LoopThread
from keyfob.verifier.policy import require

T = TypeVar("T")

IN_MEMORY = "memory://"


class SignIn:
    """One attempt to sign in; see `keyfob.authority.sign_in.SignIn`."""

    def __init__(self, attempt: AsyncSignIn, home: Home) -> None:
        self._attempt = attempt
        self._home = home

    def login(self, subject: str, **options: Unpack[LoginOptions]) -> Issued:
        """Sign *subject* in, whose identity the caller has checked since the attempt began."""
        return self._home.call(lambda _: self._attempt.login(subject, **options))


class Authority:
    """An authority that blocks the calling thread instead of being awaited. Arguments and errors are those of the asynchronous one.

    Safe under threads, and under a server that forks: one that was opened by the URL of a store on disk or on a server is closed before the
    fork and opened again in whichever process calls it next. Any other, and one that is in use during the fork, stays with the parent;
    every method then raises `ConfigurationError` in the child.
    """

    def __init__(self, home: Home) -> None:
        """For `open`, which says what goes together."""
        self._home = home
        inner = home.now()
        self.issuer = inner.issuer
        self.clock: Clock = inner.clock
        self.policy: SessionPolicy = inner.policy
        self.access_lifetime: timedelta = inner.access_lifetime
        self.accounts = Accounts(home.call, lambda authority: authority.accounts)
        self.clients = Clients(home.call, lambda authority: authority.clients)
        self.sessions = Sessions(home.call, lambda authority: authority.sessions)
        self.api_keys = ApiKeys(home.call, lambda authority: authority.api_keys)
        self.machine_tokens = MachineTokens(home.call, lambda authority: authority.machine_tokens)
        self.visits = Visits(home.call, lambda authority: authority.visits)

    @classmethod
    def open(
        cls,
        store: str | Store = IN_MEMORY,
        *,
        master_key: bytes | str | None = None,
        **options: Unpack[OpenOptions],
    ) -> Self:
        """Open an authority on a store; see `keyfob.Authority.open`.

        Raises:
            ConfigurationError: something does not fit.
            StoreUnavailable: the store does not answer.
        """
        reopens = isinstance(store, str) and store != IN_MEMORY
        return cls(
            Home(lambda: AsyncAuthority.open(store, master_key=master_key, **options), reopens=reopens)
        )

    @property
    def staleness(self) -> float:
        """Seconds since this process was known to be level with its own feed."""
        return self._home.now().feed.staleness()

    def close(self) -> None:
        """Close the authority and end its thread. Twice is once; in a forked child that never opened it, it does nothing.

        A call that is under way in another thread raises `StoreUnavailable`.
        """
        self._home.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def sign_in(self, *, as_of: int | None = None) -> Iterator[SignIn]:
        """Begin an attempt to sign in, before anything is read about the subject."""

        async def begun(inner: AsyncAuthority) -> AsyncSignIn:
            return await inner.sign_in(as_of=as_of).__aenter__()

        with self._home.in_use():
            attempt = self._home.call(begun)
            try:
                yield SignIn(attempt, self._home)
            finally:
                self._home.call(lambda _: attempt.__aexit__(None, None, None))

    @contextmanager
    def guard(
        self, principal: Principal, *, max_staleness: timedelta | None = None, ended: Ended
    ) -> Iterator[BlockingGuard]:
        """Call *ended* with the cause when *principal* is covered, expires, or the store is silent for *max_staleness* (5 s by default).

        There is no task to cancel here: *ended* is called in the authority's thread, must not wait, and makes the caller stop.

        Raises:
            Denied: that is so already.
        """

        def make(inner: AsyncAuthority, thread: LoopThread) -> BlockingGuard:
            return BlockingGuard(
                inner.guard(principal, max_staleness=max_staleness), loop=thread.loop, ended=ended
            )

        with self._home.in_use(), self._home.guard(make) as standing:
            yield standing

    def login(self, subject: str, **options: Unpack[LoginOptions]) -> Issued:
        """Sign *subject* in, for callers that have read nothing about it yet."""
        return self._home.call(lambda inner: inner.login(subject, **options))

    def authenticate(
        self,
        token: str,
        *,
        audience: str | None = None,
        roles: Collection[str] = (),
        scopes: Collection[str] = (),
        max_auth_age: timedelta | None = None,
    ) -> Principal:
        """Check a session token or an access token: in memory where that answers, without the other thread."""
        principal = self.authenticate_cached(token)
        if principal is not None and (audience is None or audience in principal.audience):
            require(principal, self.clock.time(), roles=roles, scopes=scopes, max_auth_age=max_auth_age)
            return principal
        return self._home.call(
            lambda inner: inner.authenticate(
                token, audience=audience, roles=roles, scopes=scopes, max_auth_age=max_auth_age
            )
        )

    def authenticate_cached(self, token: str) -> Principal | None:
        """Answer from memory, whatever the audience, or None: then `authenticate` finds out. No I/O, and no other thread."""
        return self._home.now().authenticate_cached(token)

    def introspect(self, token: str, *, caller: Client | None = None) -> Mapping[str, object]:
        """Say what a token is worth right now."""
        return self._home.call(lambda inner: inner.introspect(token, caller=caller))

    def refresh(self, token: str, *, device: Device | None = None) -> Issued:
        """Exchange a refresh token for fresh credentials."""
        return self._home.call(lambda inner: inner.refresh(token, device=device))

    def renew(self, principal: Principal) -> Issued:
        """Give the session of *principal* fresh credentials."""
        return self._home.call(lambda inner: inner.renew(principal))

    def change_password(self, principal: Principal, current: str, new: str, *, address: str = "") -> Issued:
        """Change the password of *principal*'s account, end its other sessions, and renew its own."""
        return self._home.call(lambda inner: inner.change_password(principal, current, new, address=address))

    def mint(self, principal: Principal, audience: str, *, lifetime: timedelta | None = None) -> AccessToken:
        """Issue an access token for *audience* from a checked credential."""
        return self._home.call(lambda inner: inner.mint(principal, audience, lifetime=lifetime))

    def logout(self, token: str, *, devices: Devices = "this") -> Entry | None:
        """End the session of *token*, the others of its subject, or all."""
        return self._home.call(lambda inner: inner.logout(token, devices=devices))

    def end_session(self, principal: Principal, session_id: str) -> Entry | None:
        """End a session of *principal*'s own."""
        return self._home.call(lambda inner: inner.end_session(principal, session_id))

    def revoke(
        self,
        scope: Scope | str,
        id: str = "",  # noqa: A002 - the field's word
        *,
        reach: Reach | str = Reach.END,
        reason: str = "",
        actor: str = "system",
        spared: str | None = None,
    ) -> Entry:
        """Revoke."""
        return self._home.call(
            lambda inner: inner.revoke(scope, id, reach=reach, reason=reason, actor=actor, spared=spared)
        )

    def preview_revocation(
        self,
        scope: Scope | str,
        id: str = "",  # noqa: A002 - the field's word
        *,
        reach: Reach | str = Reach.END,
    ) -> RevocationPreview:
        """Say what `revoke` would do now."""
        return self._home.call(lambda inner: inner.preview_revocation(scope, id, reach=reach))

    def set_roles(
        self, subject: str, roles: Iterable[str], *, actor: str = "system", reason: str = ""
    ) -> Entry | None:
        """Set the roles of *subject*."""
        return self._home.call(lambda inner: inner.set_roles(subject, roles, actor=actor, reason=reason))

    def list_sessions(
        self, subject: str | None = None, *, after: str | None = None, limit: int = 100
    ) -> SessionPage:
        """Return live sessions, newest first."""
        return self._home.call(lambda inner: inner.list_sessions(subject, after=after, limit=limit))

    def read_data(self, session_id: str) -> SessionData | None:
        """Return the application's data of a live session."""
        return self._home.call(lambda inner: inner.read_data(session_id))

    def write_data(self, session_id: str, data: bytes, *, version: int) -> bool:
        """Write the application's data of a session in place of *version*; say whether it was written."""
        return self._home.call(lambda inner: inner.write_data(session_id, data, version=version))

    def csrf_token(self, session_id: str) -> str:
        """Return the CSRF token of a session."""
        return self._home.now().csrf_token(session_id)

    def csrf_matches(self, session_id: str, token: str) -> bool:
        """Say, in constant time, whether *token* is the CSRF token of the session."""
        return self._home.now().csrf_matches(session_id, token)

    def call(self, work: Callable[[AsyncAuthority], Coroutine[object, object, T]]) -> T:
        """Do *work* with the asynchronous authority, on its loop, and return what it returns: for what has no method here.

        Raises:
            ConfigurationError: the authority was opened before a fork, and cannot be opened again here.
            StoreUnavailable: it is closed.
        """
        return self._home.call(work)

    def submit(self, work: Callable[[AsyncAuthority], Coroutine[object, object, T]]) -> Future[T]:
        """Begin *work*, as `call`, and return at once; a cancelled future means that the authority was closed meanwhile."""
        return self._home.submit(work)

    async def acall(self, work: Callable[[AsyncAuthority], Coroutine[object, object, T]]) -> T:
        """Do as `call`, for callers on an event loop of their own, which goes on meanwhile.

        Whoever gives up waiting cancels the work.
        """
        future = self._home.submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise StoreUnavailable("this authority was closed meanwhile") from None
