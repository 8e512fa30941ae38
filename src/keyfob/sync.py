"""The authority for synchronous callers: the same names, without `await`.

It runs the asynchronous authority on an event loop in a daemon thread. Every method may be called from any thread, and not from a
running event loop of the caller's, which it would block. After a fork the thread does not exist in the child; a call there says so:
open the authority after the fork (gunicorn: in `post_fork`).
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Self, TypeVar, Unpack

from keyfob.authority.authority import Authority as AsyncAuthority
from keyfob.authority.endings import Devices
from keyfob.authority.issued import Issued
from keyfob.authority.opening import Opening
from keyfob.authority.options import OpenOptions
from keyfob.authority.preview import RevocationPreview
from keyfob.authority.sign_in import Device, LoginOptions
from keyfob.authority.sign_in import SignIn as AsyncSignIn
from keyfob.base.clock import Clock
from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.base.principal import Principal
from keyfob.clients.client import Client
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.sessions.store import SessionData, SessionPage
from keyfob.stores.store import Store
from keyfob.tokens.access_token import AccessToken
from keyfob.verifier.policy import require

T = TypeVar("T")


class SignIn:
    """One attempt to sign in; see `keyfob.authority.sign_in.SignIn`."""

    def __init__(
        self, attempt: AsyncSignIn, run: Callable[[Coroutine[object, object, Issued]], Issued]
    ) -> None:
        self._attempt = attempt
        self._run = run

    def login(self, subject: str, **options: Unpack[LoginOptions]) -> Issued:
        """Sign *subject* in, whose identity the caller has checked since the attempt began."""
        return self._run(self._attempt.login(subject, **options))


class Authority:
    """An authority that blocks the calling thread instead of being awaited. Arguments and errors are those of the asynchronous one."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, thread: threading.Thread, inner: AsyncAuthority
    ) -> None:
        self._loop = loop
        self._thread = thread
        self._inner = inner
        self._pid = os.getpid()
        self._closing = threading.Lock()
        self._closed = False
        self.issuer = inner.issuer
        self.clock: Clock = inner.clock

    @classmethod
    def open(
        cls,
        store: str | Store = "memory://",
        *,
        master_key: bytes | str | None = None,
        **options: Unpack[OpenOptions],
    ) -> Self:
        """Open an authority on a store; see `keyfob.Authority.open`.

        Raises:
            ConfigurationError: something does not fit.
            StoreUnavailable: the store does not answer.
        """
        opening = AsyncAuthority.open(store, master_key=master_key, **options)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_serve, args=(loop,), name="keyfob-authority", daemon=True)
        thread.start()
        try:
            inner = asyncio.run_coroutine_threadsafe(_awaited(opening), loop).result()
        except BaseException:
            _stop(loop, thread)
            raise
        return cls(loop, thread, inner)

    @property
    def staleness(self) -> float:
        """Seconds since this process was known to be level with its own feed."""
        return self._inner.feed.staleness()

    def close(self) -> None:
        """Close the authority and end its thread. Twice is once; in a forked child it does nothing.

        A call that is under way in another thread raises `StoreUnavailable`.
        """
        if self._pid != os.getpid():
            return
        with self._closing:
            if self._closed:
                return
            self._closed = True
        try:
            asyncio.run_coroutine_threadsafe(self._inner.close(), self._loop).result()
        finally:
            _stop(self._loop, self._thread)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def sign_in(self) -> Iterator[SignIn]:
        """Begin an attempt to sign in, before anything is read about the subject."""
        attempt = self._inner.sign_in()
        self._run(attempt.__aenter__())
        try:
            yield SignIn(attempt, self._run)
        finally:
            self._run(attempt.__aexit__(None, None, None))

    def login(self, subject: str, **options: Unpack[LoginOptions]) -> Issued:
        """Sign *subject* in, for callers that have read nothing about it yet."""
        return self._run(self._inner.login(subject, **options))

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
        return self._run(
            self._inner.authenticate(
                token, audience=audience, roles=roles, scopes=scopes, max_auth_age=max_auth_age
            )
        )

    def authenticate_cached(self, token: str) -> Principal | None:
        """Answer from memory, whatever the audience, or None: then `authenticate` finds out. No I/O, and no other thread."""
        if (
            self._pid != os.getpid() or self._closed
        ):  # what is in memory is no longer kept level with the feed
            return None
        return self._inner.authenticate_cached(token)

    def introspect(self, token: str, *, caller: Client | None = None) -> Mapping[str, object]:
        """Say what a token is worth right now."""
        return self._run(self._inner.introspect(token, caller=caller))

    def refresh(self, token: str, *, device: Device | None = None) -> Issued:
        """Exchange a refresh token for fresh credentials."""
        return self._run(self._inner.refresh(token, device=device))

    def renew(self, principal: Principal) -> Issued:
        """Give the session of *principal* fresh credentials."""
        return self._run(self._inner.renew(principal))

    def change_password(self, principal: Principal, current: str, new: str, *, address: str = "") -> Issued:
        """Change the password of *principal*'s account, end its other sessions, and renew its own."""
        return self._run(self._inner.change_password(principal, current, new, address=address))

    def mint(self, principal: Principal, audience: str, *, lifetime: timedelta | None = None) -> AccessToken:
        """Issue an access token for *audience* from a checked credential."""
        return self._run(self._inner.mint(principal, audience, lifetime=lifetime))

    def logout(self, token: str, *, devices: Devices = "this") -> Entry | None:
        """End the session of *token*, the others of its subject, or all."""
        return self._run(self._inner.logout(token, devices=devices))

    def end_session(self, principal: Principal, session_id: str) -> Entry | None:
        """End a session of *principal*'s own."""
        return self._run(self._inner.end_session(principal, session_id))

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
        return self._run(
            self._inner.revoke(scope, id, reach=reach, reason=reason, actor=actor, spared=spared)
        )

    def preview_revocation(
        self,
        scope: Scope | str,
        id: str = "",  # noqa: A002 - the field's word
        *,
        reach: Reach | str = Reach.END,
    ) -> RevocationPreview:
        """Say what `revoke` would do now."""
        return self._run(self._inner.preview_revocation(scope, id, reach=reach))

    def set_roles(
        self, subject: str, roles: Iterable[str], *, actor: str = "system", reason: str = ""
    ) -> Entry | None:
        """Set the roles of *subject*."""
        return self._run(self._inner.set_roles(subject, roles, actor=actor, reason=reason))

    def list_sessions(
        self, subject: str | None = None, *, after: str | None = None, limit: int = 100
    ) -> SessionPage:
        """Return live sessions, newest first."""
        return self._run(self._inner.list_sessions(subject, after=after, limit=limit))

    def read_data(self, session_id: str) -> SessionData | None:
        """Return the application's data of a live session."""
        return self._run(self._inner.read_data(session_id))

    def csrf_token(self, session_id: str) -> str:
        """Return the CSRF token of a session."""
        return self._inner.csrf_token(session_id)

    def csrf_matches(self, session_id: str, token: str) -> bool:
        """Say, in constant time, whether *token* is the CSRF token of the session."""
        return self._inner.csrf_matches(session_id, token)

    def call(self, work: Callable[[AsyncAuthority], Coroutine[object, object, T]]) -> T:
        """Do *work* with the asynchronous authority, on its loop, and return what it returns: for what has no method here.

        Raises:
            ConfigurationError: the authority was opened before a fork.
            StoreUnavailable: it is closed.
        """
        return self._run(work(self._inner))

    def submit(self, work: Callable[[AsyncAuthority], Coroutine[object, object, T]]) -> Future[T]:
        """Begin *work*, as `call`, and return at once; a cancelled future means that the authority was closed meanwhile."""
        return self._submit(work(self._inner))

    async def acall(self, work: Callable[[AsyncAuthority], Coroutine[object, object, T]]) -> T:
        """Do as `call`, for callers on an event loop of their own, which goes on meanwhile.

        Whoever gives up waiting cancels the work.
        """
        future = self._submit(work(self._inner))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise StoreUnavailable("this authority was closed meanwhile") from None

    def _run(self, work: Coroutine[object, object, T]) -> T:
        try:
            return self._submit(work).result()
        except CancelledError:
            raise StoreUnavailable("this authority was closed meanwhile") from None

    def _submit(self, work: Coroutine[object, object, T]) -> Future[T]:
        if self._pid != os.getpid():
            work.close()
            raise ConfigurationError(
                "this authority was opened before a fork; open one in each process after it"
            )
        with self._closing:  # nothing reaches the loop once it is told to stop: nobody would answer
            if self._closed:
                work.close()
                raise StoreUnavailable("this authority is closed")
            return asyncio.run_coroutine_threadsafe(work, self._loop)


async def _awaited(opening: Opening[AsyncAuthority]) -> AsyncAuthority:
    return await opening


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.wait(left) if left else asyncio.sleep(0))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
