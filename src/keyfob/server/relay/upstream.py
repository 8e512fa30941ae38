"""What a relay asks its upstream on behalf of followers: whether they may follow, the time, and the snapshot.

A relay has no store and no keys of its own, so it cannot judge a follower. It puts the follower's own `Authorization` before a question of the
upstream that only a follower may ask, and remembers the answer for as long as an authority lets a stream go on between two looks.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import urllib3

from keyfob.base.clock import Clock
from keyfob.base.errors import AuthorityUnavailable, Cause, Denied, InvalidRequest, Unavailable
from keyfob.revocation.frames import NONCE_LENGTH
from keyfob.server.relay.settings import RelaySettings

ADMITTED_FOR: Final = 30.0
"""Seconds for which an answer about a follower counts: `endpoints.feed.RECHECK_INTERVAL`."""
REFUSED_FOR: Final = 5.0  # seconds
SILENT_FOR: Final = 300.0
"""Seconds for which a stream goes on while nobody can say whether its follower still may: else whoever was shut out could keep reading who
is logged out, by keeping the relay from asking."""
MOST_REMEMBERED: Final = 10_000  # credentials: each takes some 200 bytes
MOST_QUESTIONS: Final = 8
"""Questions to the upstream at once: threads, and connections."""
MOST_WAITING: Final = 500
"""Questions that may wait for a thread; one more is refused at once."""
_REFUSES: Final = "the upstream refuses this follower"
_MAX_ANSWER: Final = 8 << 10  # bytes: a signed time has 300
_MAX_CREDENTIAL: Final = 16 << 10  # bytes of an Authorization header


@dataclass(frozen=True, slots=True)
class _Refused:
    cause: Cause
    until: float  # seconds of the boot-time clock


class Upstream:
    """Asks the upstream with the credentials of followers. Runs in one event loop, the questions in threads."""

    def __init__(self, settings: RelaySettings, *, clock: Clock) -> None:
        self._url = settings.upstream.rstrip("/")
        self._elapsed = clock.elapsed
        # Apart, so that who guesses credentials cannot push out those that are good.
        self._admitted: dict[bytes, float] = {}  # until when, in seconds of the boot-time clock
        self._refused: dict[bytes, _Refused] = {}
        self._asked: dict[bytes, asyncio.Task[Cause | None]] = {}
        self._threads = ThreadPoolExecutor(MOST_QUESTIONS, thread_name_prefix="keyfob-relay")
        self._waiting = 0
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=MOST_QUESTIONS,
            block=True,
            retries=False,
            timeout=urllib3.Timeout(connect=5.0, read=5.0),
            ca_certs=settings.ca,
        )

    async def admit(self, authorization: Sequence[bytes]) -> None:
        """Let in whoever may follow the upstream. Questions about one credential at the same time are one question.

        Raises:
            Denied: `no_credential`, `malformed`, or what the upstream said.
            AuthorityUnavailable: it does not answer, or too many are being asked about.
        """
        value = _one(authorization)
        digest = hashlib.sha256(value).digest()
        if self._elapsed() < self._admitted.get(digest, 0.0):
            return
        self._require_unrefused(digest)
        cause = await self._ask_once(digest, value)
        if cause is not None:
            raise Denied(cause, _REFUSES)

    async def time(self, authorization: Sequence[bytes], nonce: str) -> bytes:
        """Return the authority's time, signed with *nonce*.

        Raises:
            Denied, AuthorityUnavailable: as `admit`.
            InvalidRequest: *nonce* is not 16 to 64 characters of base64url.
        """
        if (
            len(nonce) not in NONCE_LENGTH
            or not nonce.isascii()
            or not nonce.replace("-", "").replace("_", "").isalnum()
        ):
            raise InvalidRequest("invalid_nonce", "nonce must be 16 to 64 characters of base64url")
        value = _one(authorization)
        digest = hashlib.sha256(value).digest()
        self._require_unrefused(digest)
        cause, answer = await self._in_thread(value, nonce)
        self._remember(digest, cause)
        if cause is not None:
            raise Denied(cause, _REFUSES)
        return answer

    def close(self) -> None:
        """Close the connections; what is asked is not waited for. Twice is once."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._pool.clear()

    async def _ask_once(self, digest: bytes, value: bytes) -> Cause | None:
        task = self._asked.get(digest)
        if task is None:
            task = asyncio.create_task(self._ask(digest, value))
            self._asked[digest] = task
            task.add_done_callback(lambda _: self._asked.pop(digest, None))
        # Shielded: who gives up waiting must not take the answer from the others.
        return await asyncio.shield(task)

    async def _ask(self, digest: bytes, value: bytes) -> Cause | None:
        cause, _ = await self._in_thread(value, secrets.token_urlsafe(24))
        self._remember(digest, cause)
        return cause

    def _require_unrefused(self, digest: bytes) -> None:
        refused = self._refused.get(digest)
        if refused is not None and self._elapsed() < refused.until:
            raise Denied(refused.cause, _REFUSES)

    def _remember(self, digest: bytes, cause: Cause | None) -> None:
        self._admitted.pop(digest, None)
        self._refused.pop(digest, None)
        if cause is None:
            _make_room(self._admitted)
            self._admitted[digest] = self._elapsed() + ADMITTED_FOR
        else:
            _make_room(self._refused)
            self._refused[digest] = _Refused(cause, self._elapsed() + REFUSED_FOR)

    async def _in_thread(self, value: bytes, nonce: str) -> tuple[Cause | None, bytes]:
        if self._waiting >= MOST_WAITING:
            raise AuthorityUnavailable("too many followers are being asked about", retry_after=2.0)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._question, value, nonce)
        finally:
            self._waiting -= 1

    def _question(self, value: bytes, nonce: str) -> tuple[Cause | None, bytes]:
        """Ask for the time with the follower's credential."""
        try:
            response = self._pool.request(
                "GET",
                f"{self._url}/feed/time?nonce={nonce}",
                headers={"Authorization": value.decode("latin-1"), "User-Agent": "keyfob-relay"},
                redirect=False,
                preload_content=False,
            )
            try:
                body = response.read(_MAX_ANSWER + 1, decode_content=False)
            finally:
                response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise AuthorityUnavailable(f"the upstream does not answer: {error}") from None
        match response.status:
            case 200 if len(body) <= _MAX_ANSWER:
                return None, body
            case 401 | 403:
                return _cause(response.headers.get("X-Auth-Cause", "")), b""
            case status:
                raise AuthorityUnavailable(f"the upstream answered {status}")


def _make_room(remembered: dict[bytes, Any]) -> None:
    if len(remembered) >= MOST_REMEMBERED:
        del remembered[next(iter(remembered))]  # the oldest


def _one(authorization: Sequence[bytes]) -> bytes:
    if not authorization:
        raise Denied(Cause.NO_CREDENTIAL, "no credential of a follower")
    if len(authorization) > 1 or len(authorization[0]) > _MAX_CREDENTIAL:
        raise Denied(Cause.MALFORMED, "not one Authorization header of a bearable size")
    return authorization[0]


def _cause(code: str) -> Cause:
    try:
        return Cause(code)
    except ValueError:
        return Cause.BAD_CREDENTIALS


class Standing:
    """Whether one follower may go on, from the moment at which it was admitted."""

    def __init__(self, upstream: Upstream, authorization: Sequence[bytes], *, clock: Clock) -> None:
        self._upstream = upstream
        self._authorization = authorization
        self._elapsed = clock.elapsed
        self._asked_at = self._known_at = clock.elapsed()

    async def holds(self) -> bool:
        """Ask anew every `ADMITTED_FOR`. While the upstream is away nobody is thrown out before `SILENT_FOR`: the stream goes stale by itself."""
        now = self._elapsed()
        if now - self._asked_at < ADMITTED_FOR:
            return True
        self._asked_at = now
        try:
            await self._upstream.admit(self._authorization)
        except Denied:
            return False
        except Unavailable:
            return now - self._known_at < SILENT_FOR
        self._known_at = now
        return True
