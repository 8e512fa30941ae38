"""What checks the credentials of an application: a verifier that follows an authority, or an authority in the same process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from keyfob.base.errors import Cause, Denied
from keyfob.base.principal import Principal
from keyfob.integrations.requirement import Requirement
from keyfob.verifier.blocking_guard import BlockingGuard, Ended
from keyfob.verifier.guard import Guard
from keyfob.verifier.loop_thread import LoopThread
from keyfob.verifier.policy import require
from keyfob.verifier.verifier import Verifier

if TYPE_CHECKING:  # a service that follows an authority loads none
    from keyfob.authority.authority import Authority
    from keyfob.sync import Authority as SyncAuthority


class Checking(Protocol):
    """Checks the credentials of requests, for callers with an event loop."""

    @property
    def issuer(self) -> str:
        """Whose credentials these are."""
        ...

    def check(self, token: str, requirement: Requirement) -> Awaitable[Principal]:
        """Return the principal of *token* if it meets *requirement*.

        Raises:
            Denied: the first cause in the order of contract.md.
            Unavailable: it could not be found out.
        """
        ...

    def csrf_matches(self, session_id: str, token: str) -> bool:
        """Say whether *token* is the CSRF token of the session."""
        ...


class Checks(Checking, Protocol):
    """The same, and connections that last."""

    def guard(
        self, principal: Principal, requirement: Requirement, *, task: asyncio.Task[object] | None = None
    ) -> Guard:
        """Return what cancels *task* (by default the one that enters it) when *principal* is revoked."""
        ...


class BlockingChecks(Protocol):
    """The same for callers without an event loop."""

    @property
    def issuer(self) -> str:
        """Whose credentials these are."""
        ...

    def check(self, token: str, requirement: Requirement) -> Principal:
        """Return the principal of *token* if it meets *requirement*, as `Checks.check`."""
        ...

    def guard(
        self, principal: Principal, requirement: Requirement, *, ended: Ended
    ) -> AbstractContextManager[BlockingGuard]:
        """Return what calls *ended*, in another thread, when *principal* is revoked while the block is entered."""
        ...

    def csrf_matches(self, session_id: str, token: str) -> bool:
        """Say whether *token* is the CSRF token of the session."""
        ...


class FollowedChecks:
    """The checks of a service that follows an authority."""

    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier
        self.issuer = verifier.issuer

    def check(self, token: str, requirement: Requirement) -> Awaitable[Principal]:
        """See `Checks`."""
        return self.verifier.authenticate(
            token,
            max_staleness=requirement.max_staleness,
            on_stale=requirement.on_stale,
            max_auth_age=requirement.max_auth_age,
            roles=requirement.roles,
            scopes=requirement.scopes,
        )

    def guard(
        self, principal: Principal, requirement: Requirement, *, task: asyncio.Task[object] | None = None
    ) -> Guard:
        """See `Checks`."""
        return self.verifier.guard(principal, max_staleness=requirement.max_staleness, task=task)

    def csrf_matches(self, session_id: str, token: str) -> bool:
        """Return False: the key of CSRF tokens never leaves the authority."""
        return False


class EmbeddedChecks:
    """The checks of an application that holds the authority. `on_stale` plays no part: what it cannot vouch for it denies."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.issuer: str = authority.issuer
        self.csrf_matches = authority.csrf_matches

    async def check(self, token: str, requirement: Requirement) -> Principal:
        """See `Checks`."""
        principal = await self.authority.authenticate(
            token,
            roles=requirement.roles,
            scopes=requirement.scopes,
            max_auth_age=requirement.max_auth_age,
        )
        limit = requirement.max_staleness
        if limit is not None and self.authority.feed.staleness() > limit.total_seconds():
            raise Denied(Cause.VERIFIER_STALE, "this process is behind the feed")
        return principal

    def guard(
        self, principal: Principal, requirement: Requirement, *, task: asyncio.Task[object] | None = None
    ) -> Guard:
        """See `Checks`."""
        return self.authority.guard(principal, max_staleness=requirement.max_staleness, task=task)


class FollowedBlockingChecks:
    """The checks of a service that follows an authority and has no event loop."""

    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier
        self.issuer = verifier.issuer
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None

    def check(self, token: str, requirement: Requirement) -> Principal:
        """See `BlockingChecks`."""
        return self.verifier.authenticate_blocking(
            token,
            max_staleness=requirement.max_staleness,
            on_stale=requirement.on_stale,
            max_auth_age=requirement.max_auth_age,
            roles=requirement.roles,
            scopes=requirement.scopes,
        )

    def guard(
        self, principal: Principal, requirement: Requirement, *, ended: Ended
    ) -> AbstractContextManager[BlockingGuard]:
        """See `BlockingChecks`. The guards stand on one event loop of this process."""
        guard = self.verifier.guard(principal, max_staleness=requirement.max_staleness)
        return BlockingGuard(guard, loop=self._loop_thread().loop, ended=ended)

    def csrf_matches(self, session_id: str, token: str) -> bool:
        """Return False: the key of CSRF tokens never leaves the authority."""
        return False

    def _loop_thread(self) -> LoopThread:
        with self._lock:
            if self._thread is None:
                self._thread = LoopThread("keyfob-guards")
            return self._thread


class EmbeddedBlockingChecks:
    """The checks of a synchronous application that holds the authority."""

    def __init__(self, authority: SyncAuthority) -> None:
        self.authority = authority
        self.issuer = authority.issuer
        self.csrf_matches = authority.csrf_matches

    def check(self, token: str, requirement: Requirement) -> Principal:
        """See `BlockingChecks`."""
        principal = self.authority.authenticate(
            token,
            roles=requirement.roles,
            scopes=requirement.scopes,
            max_auth_age=requirement.max_auth_age,
        )
        _require_level(self.authority, requirement)
        return principal

    def guard(
        self, principal: Principal, requirement: Requirement, *, ended: Ended
    ) -> AbstractContextManager[BlockingGuard]:
        """See `BlockingChecks`."""
        return self.authority.guard(principal, max_staleness=requirement.max_staleness, ended=ended)


class SharedChecks:
    """The checks of an application with an event loop that holds the authority of its synchronous part."""

    def __init__(self, authority: SyncAuthority) -> None:
        self.authority = authority
        self.issuer = authority.issuer
        self.csrf_matches = authority.csrf_matches

    async def check(self, token: str, requirement: Requirement) -> Principal:
        """See `Checking`. What memory answers takes neither the other thread nor a turn of the loop."""
        authority = self.authority
        principal = authority.authenticate_cached(token)
        if principal is None:
            principal = await authority.acall(lambda inner: inner.authenticate(token))
        require(
            principal,
            authority.clock.time(),
            roles=requirement.roles,
            scopes=requirement.scopes,
            max_auth_age=requirement.max_auth_age,
        )
        _require_level(authority, requirement)
        return principal


def _require_level(authority: SyncAuthority, requirement: Requirement) -> None:
    limit = requirement.max_staleness
    if limit is not None and authority.staleness > limit.total_seconds():
        raise Denied(Cause.VERIFIER_STALE, "this process is behind the feed")


def checks_of(source: Verifier | Authority) -> Checks:
    """Return the checks of *source*, for an application with an event loop."""
    return FollowedChecks(source) if isinstance(source, Verifier) else EmbeddedChecks(source)


def blocking_checks_of(source: Verifier | SyncAuthority) -> BlockingChecks:
    """Return the checks of *source*, for an application without an event loop."""
    return FollowedBlockingChecks(source) if isinstance(source, Verifier) else EmbeddedBlockingChecks(source)


def started(source: Verifier | SyncAuthority) -> Verifier | SyncAuthority:
    """Return *source* ready to check: a verifier that follows a feed is started, and level with it.

    Raises:
        ConfigurationError, AuthorityUnavailable: it cannot be.
    """
    if isinstance(source, Verifier) and source.follows:
        source.start()
        source.wait_until_level()
    return source
