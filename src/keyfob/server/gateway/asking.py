"""What a gateway asks the authority's own `/check`: for a minted token, and whether a CSRF token is the session's.

A gateway has neither the key that signs nor the one behind CSRF tokens. The proxy's own `X-Keyfob-Proxy` goes with the question, so who may have
tokens minted, and for whom, is decided in one place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import quote

import urllib3

from keyfob.base.errors import AuthorityUnavailable, Cause, Denied, RateLimited
from keyfob.server.gateway.settings import GatewaySettings

MOST_QUESTIONS: Final = 8
"""Questions at once: threads, and connections."""
MOST_WAITING: Final = 256
"""Questions under way or waiting; one more is refused at once."""
_TIMEOUT: Final = 5.0  # seconds
_MAX_ANSWER: Final = 64 << 10  # bytes: a problem document has some hundred

Question = tuple[str, tuple[tuple[str, str], ...]]
"""The query, and the headers besides those of every question."""


class Asking:
    """Asks one authority. Runs in one event loop, the questions in threads."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._url = settings.authority.rstrip("/")
        self._threads = ThreadPoolExecutor(MOST_QUESTIONS, thread_name_prefix="keyfob-gateway")
        self._asked: dict[Question, asyncio.Task[str]] = {}
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=MOST_QUESTIONS,
            block=True,
            retries=False,
            timeout=urllib3.Timeout(connect=_TIMEOUT, read=_TIMEOUT),
            ca_certs=settings.ca,
        )

    async def mint(self, *, token: str, audience: str, proxy: str) -> str:
        """Return an access token for *audience*, minted from *token* for the proxy that authenticates itself by *proxy*.

        Raises:
            Denied: what the authority said.
            RateLimited, AuthorityUnavailable: it does not say.
        """
        answer = await self._ask(
            f"?mint={quote(audience, safe='')}",
            {"Authorization": f"Bearer {token}", "X-Keyfob-Proxy": proxy},
        )
        scheme, _, minted = answer.partition(" ")
        if scheme != "Bearer" or not minted:
            raise AuthorityUnavailable("the authority minted nothing")
        return minted

    async def check(self, headers: Mapping[str, str]) -> None:
        """Have the authority check a request with *headers*.

        Raises:
            Denied: what the authority said.
            RateLimited, AuthorityUnavailable: it does not say.
        """
        await self._ask("", headers)

    def close(self) -> None:
        """Close the connections; what is asked is not waited for. Twice is once."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._pool.clear()

    async def _ask(self, query: str, headers: Mapping[str, str]) -> str:
        """Ask once for all who ask the same at the same time."""
        question = (query, tuple(headers.items()))
        task = self._asked.get(question)
        if task is None:
            if len(self._asked) >= MOST_WAITING:
                raise AuthorityUnavailable("too much is being asked")
            task = asyncio.create_task(self._in_thread(question))
            self._asked[question] = task
            task.add_done_callback(lambda done: self._forget(question, done))
        # Shielded: who gives up waiting must not take the answer from the others.
        return await asyncio.shield(task)

    def _forget(self, question: Question, done: asyncio.Task[str]) -> None:
        self._asked.pop(question, None)
        if not done.cancelled():
            done.exception()  # whoever asked has it; nobody may be left

    async def _in_thread(self, question: Question) -> str:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._question, *question)
        except RuntimeError:
            raise AuthorityUnavailable("the gateway is closing") from None

    def _question(self, query: str, headers: tuple[tuple[str, str], ...]) -> str:
        """Ask, and return the `Authorization` that the answer carries, empty for none."""
        try:
            response = self._pool.request(
                "GET",
                f"{self._url}/check{query}",
                headers={"User-Agent": "keyfob-gateway", **dict(headers)},
                redirect=False,
                preload_content=False,
            )
            try:
                response.read(_MAX_ANSWER, decode_content=False)
            finally:
                response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise AuthorityUnavailable(f"the authority does not answer: {type(error).__name__}") from None
        if response.status == 204:
            return response.headers.get("Authorization", "")
        raise _refusal(response)


def _refusal(response: urllib3.BaseHTTPResponse) -> Exception:
    if response.status == 429:
        return RateLimited(_seconds(response.headers.get("Retry-After", "")))
    try:
        cause = Cause(response.headers.get("X-Auth-Cause", ""))
    except ValueError:
        return AuthorityUnavailable(f"the authority answered {response.status}")
    return Denied(cause, "the authority says so")


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 1.0
