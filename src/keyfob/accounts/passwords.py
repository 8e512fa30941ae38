"""Password hashing: argon2id, on a bounded number of threads behind a bounded queue.

One hash takes about 30 ms of one core and 19 MiB, so it never runs on the event loop, and no more of them are under way or waiting
than the policy has seats for. Whoever finds no seat is told at once, and when to come back.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from keyfob.base import base64url
from keyfob.base.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from argon2 import PasswordHasher

_Result = TypeVar("_Result", bool, str)
_SALT = 16  # bytes (RFC 9106, section 3.1, recommends 16)
_TAG = 32  # bytes
_RETRY_AFTER = 1.0  # seconds; a full queue of the default policy is worked off in about that time


def available_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def default_threads() -> int:
    """Return how many hashes run at once by default: one core is left to the event loop, and at most 4 are taken."""
    return max(1, min(available_cores() - 1, 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordPolicy:
    """The cost of a hash, and how many may be under way.

    The default is the least that OWASP's password storage sheet recommends for argon2id. `threads` hashes run at once and `queue` more
    wait; the one after is refused.

    Raises:
        ConfigurationError: a bound is broken.
    """

    memory_kib: int = 19_456
    iterations: int = 2
    threads: int = field(default_factory=default_threads)
    queue: int = 32

    def __post_init__(self) -> None:
        if self.memory_kib < 8 or self.iterations < 1:  # the least that argon2 itself takes at one lane
            raise ConfigurationError(
                "passwords.memory_kib must be at least 8 and passwords.iterations at least 1"
            )
        if self.threads < 1 or self.queue < 0:
            raise ConfigurationError("passwords.threads must be at least 1 and passwords.queue at least 0")


class Passwords:
    """Hashes and verifies passwords. Safe to use from any number of tasks and threads."""

    def __init__(self, policy: PasswordPolicy | None = None) -> None:
        self._policy = policy or PasswordPolicy()
        self._seats = threading.BoundedSemaphore(self._policy.threads + self._policy.queue)
        self._making = threading.Lock()
        self._engine: _Engine | None = None

    @property
    def threads(self) -> int:
        """How many hashes run at once."""
        return self._policy.threads

    @contextmanager
    def seat(self) -> Iterator[Seat]:
        """Take a place among those who may hash, for as long as the block lasts and its last hash runs.

        A caller that is cancelled leaves its place only when the thread is free again, so that the bound holds whatever callers do.

        Raises:
            Unavailable: every place is taken; nobody waits for one.
            ConfigurationError: argon2 is not installed.
        """
        engine = self.load()
        if not self._seats.acquire(blocking=False):
            raise Unavailable("Too many passwords are being checked.", retry_after=_RETRY_AFTER)
        seat = Seat(engine)
        try:
            yield seat
        finally:
            seat.leave(self._seats.release)

    def load(self) -> _Engine:
        """Load argon2 and make the threads, once; later calls return the same.

        Raises:
            ConfigurationError: argon2 is not installed.
        """
        with self._making:
            if self._engine is None:
                self._engine = _Engine(self._policy)
            return self._engine

    def close(self) -> None:
        """Let the threads end; hashes that wait are cancelled. A later use makes new ones."""
        with self._making:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.threads.shutdown(wait=False, cancel_futures=True)


class Seat:
    """A place among those who may hash: one hash at a time."""

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._last: Future[bool] | Future[str] | None = None

    async def hash(self, password: str) -> str:
        """Return the encoded argon2id hash of *password*, with a fresh salt."""
        return await self._run(self._engine.hash, password)

    async def verify(self, password_hash: str | None, password: str | None) -> bool:
        """Say whether *password* is the one of *password_hash*.

        None for either (no such account; a text that is nobody's password) costs one verification like any other, and is never right.
        """
        right = await self._run(
            self._engine.verify, password_hash or self._engine.nobodys_hash, password or ""
        )
        return right and password_hash is not None and password is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Say whether *password_hash* was made with other parameters than today's."""
        return self._engine.is_outdated(password_hash)

    def leave(self, release: Callable[[], None]) -> None:
        """Call *release* as soon as the last hash of this seat has ended: at once if none is under way."""
        if self._last is None:
            release()
        else:
            self._last.add_done_callback(lambda _: release())

    async def _run(self, work: Callable[..., _Result], *args: str) -> _Result:
        future = self._engine.threads.submit(work, *args)
        self._last = future
        return await asyncio.wrap_future(future)


class _Engine:
    """argon2 and its threads, loaded when first needed: the bare install has none."""

    def __init__(self, policy: PasswordPolicy) -> None:
        try:
            from argon2 import PasswordHasher, exceptions
        except ImportError:
            raise ConfigurationError(
                "accounts with passwords need argon2-cffi: pip install keyfob[server]"
            ) from None
        self._hasher: PasswordHasher = PasswordHasher(
            time_cost=policy.iterations,
            memory_cost=policy.memory_kib,
            parallelism=1,
            hash_len=_TAG,
            salt_len=_SALT,
        )
        self._refused = (exceptions.VerificationError, exceptions.InvalidHashError)
        self.threads = ThreadPoolExecutor(policy.threads, thread_name_prefix="keyfob-passwords")
        # A hash of nothing: the tag is random, so that no password fits it, and its verification costs what any other does.
        salt, tag = (_unpadded(os.urandom(size)) for size in (_SALT, _TAG))
        self.nobodys_hash = f"$argon2id$v=19$m={policy.memory_kib},t={policy.iterations},p=1${salt}${tag}"

    def hash(self, password: str) -> str:
        return self._hasher.hash(password)

    def verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except self._refused:
            return False

    def is_outdated(self, password_hash: str) -> bool:
        return self._hasher.check_needs_rehash(password_hash)


def _unpadded(raw: bytes) -> str:
    """Return standard base64 without padding, as argon2's encoding has it."""
    return base64url.encode(raw).translate({ord("-"): "+", ord("_"): "/"})
