"""The token that a service calls others with: when it is fetched, by whom, and how often."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from keyfob.base.errors import AuthorityUnavailable, Cause, Denied, KeyfobError
from keyfob.integrations.service_calls import Origins, is_worth_a_new_token
from keyfob.integrations.service_tokens import FORCED_RENEWALS, FetchedToken, ServiceTokens
from keyfob.testing.frozen_clock import FrozenClock

LIFETIME = 600.0
PATIENCE = 20.0  # seconds


class Source:
    """Gives tokens numbered from 1, when it is let; counts what is asked of it."""

    def __init__(self) -> None:
        self.asked = 0
        self.failure: Exception | None = None
        self.open = threading.Event()
        self.open.set()
        self.began = threading.Event()
        self.lifetime = LIFETIME
        self._lock = threading.Lock()

    def fetch(self) -> FetchedToken:
        with self._lock:
            self.asked += 1
            number, failure = self.asked, self.failure
        self.began.set()
        assert self.open.wait(PATIENCE)
        if failure is not None:
            raise failure
        return FetchedToken(f"token-{number}", self.lifetime)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def tokens(source: Source, clock: FrozenClock) -> ServiceTokens:
    return ServiceTokens(source.fetch, clock=clock, draw=lambda low, high: low)


def settled(tokens: ServiceTokens) -> None:
    """Wait until nothing is under way."""
    future = tokens._in_flight
    if future is not None:
        future.exception(PATIENCE)


def test_a_token_is_fetched_once_and_kept(tokens: ServiceTokens, source: Source, clock: FrozenClock) -> None:
    assert tokens.token() == "token-1"
    clock.advance(0.7 * LIFETIME - 1)
    assert tokens.token() == "token-1"
    assert source.asked == 1


def test_it_is_renewed_before_its_end_while_it_goes_on_being_used(
    tokens: ServiceTokens, source: Source, clock: FrozenClock
) -> None:
    tokens.token()
    clock.advance(0.7 * LIFETIME)
    source.open.clear()
    source.began.clear()
    assert tokens.token() == "token-1"  # nobody waits for the renewal
    assert source.began.wait(PATIENCE)
    assert tokens.token() == "token-1"
    assert source.asked == 2
    source.open.set()
    settled(tokens)
    assert tokens.token() == "token-2"


def test_the_moment_of_the_renewal_differs_from_token_to_token(source: Source, clock: FrozenClock) -> None:
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    tokens = ServiceTokens(source.fetch, clock=clock, draw=draw)
    tokens.token()
    clock.advance(0.9 * LIFETIME - 1)
    assert tokens.token() == "token-1"
    assert (source.asked, drawn) == (1, [(0.7, 0.9)])
    clock.advance(1)
    tokens.token()
    settled(tokens)
    assert source.asked == 2


def test_a_token_is_not_sent_in_its_last_seconds(
    tokens: ServiceTokens, source: Source, clock: FrozenClock
) -> None:
    tokens.token()
    clock.advance(LIFETIME - 5)
    assert tokens.token() == "token-2"
    source.lifetime = 10.0
    clock.advance(LIFETIME)
    assert tokens.token() == "token-3"
    clock.advance(8.9)
    settled(tokens)
    source.open.clear()
    assert tokens.token() == "token-3"
    source.open.set()
    settled(tokens)


def test_threads_and_tasks_share_one_fetch(tokens: ServiceTokens, source: Source) -> None:
    source.open.clear()

    async def many() -> list[str]:
        return await asyncio.gather(*(tokens.token_soon() for _ in range(20)))

    with ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(tokens.token) for _ in range(8)]
        waiting += [pool.submit(asyncio.run, many()) for _ in range(3)]  # three loops
        assert source.began.wait(PATIENCE)
        source.open.set()
        answers: list[Any] = [future.result(PATIENCE) for future in waiting]
    assert answers == ["token-1"] * 8 + [["token-1"] * 20] * 3
    assert source.asked == 1


async def test_a_task_that_is_cancelled_takes_nothing_from_the_others(
    tokens: ServiceTokens, source: Source
) -> None:
    source.open.clear()
    first = asyncio.create_task(tokens.token_soon())
    second = asyncio.create_task(tokens.token_soon())
    await asyncio.to_thread(source.began.wait, PATIENCE)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.open.set()
    assert await second == "token-1"
    assert source.asked == 1


def test_a_refused_token_is_replaced_once_for_all_who_had_it(tokens: ServiceTokens, source: Source) -> None:
    tokens.token()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: tokens.token(instead_of="token-1"), range(8)))
    assert answers == ["token-2"] * 8
    assert tokens.token(instead_of="token-1") == "token-2"
    assert source.asked == 2


def test_a_service_that_refuses_every_token_is_no_flood(
    tokens: ServiceTokens, source: Source, clock: FrozenClock
) -> None:
    token = tokens.token()
    for _ in range(FORCED_RENEWALS + 20):
        token = tokens.token(instead_of=token)
    assert source.asked == 1 + FORCED_RENEWALS
    assert tokens.token(instead_of=token) == token
    clock.advance(59.9)
    assert tokens.token(instead_of=token) == token
    clock.advance(0.1)
    assert tokens.token(instead_of=token) != token


def test_a_failed_renewal_leaves_the_token_that_is_still_good(
    tokens: ServiceTokens, source: Source, clock: FrozenClock
) -> None:
    tokens.token()
    source.failure = AuthorityUnavailable("away", retry_after=7)
    clock.advance(0.7 * LIFETIME)
    for _ in range(5):
        assert tokens.token() == "token-1"
        settled(tokens)
    assert source.asked == 2  # not again before the authority said
    clock.advance(7)
    tokens.token()
    settled(tokens)
    assert source.asked == 3
    clock.advance(0.3 * LIFETIME)
    with pytest.raises(AuthorityUnavailable):
        tokens.token()
    source.failure = None
    clock.advance(30)
    assert tokens.token() == "token-5"


@pytest.mark.parametrize(
    "failure", [Denied(Cause.BAD_CREDENTIALS), AuthorityUnavailable("away"), RuntimeError("a mistake")]
)
def test_whoever_waits_hears_of_a_failure_and_nobody_asks_again_at_once(
    tokens: ServiceTokens, source: Source, clock: FrozenClock, failure: Exception
) -> None:
    source.failure = failure
    for _ in range(5):
        with pytest.raises(KeyfobError):
            tokens.token()
    assert source.asked == 1
    source.failure = None
    clock.advance(1)
    assert tokens.token() == "token-2"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_waits_for_no_thread_of_its_parent(tokens: ServiceTokens, source: Source) -> None:
    source.open.clear()
    waiting = threading.Thread(target=tokens.token)
    waiting.start()
    assert source.began.wait(PATIENCE)
    child = os.fork()
    if child == 0:
        source.open.set()
        os._exit(0 if tokens.token() == "token-2" else 1)
    source.open.set()
    waiting.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_a_thread_a_good_token_goes_on_and_nobody_waits_for_ever(
    tokens: ServiceTokens, source: Source, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens.token()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        clock.advance(0.8 * LIFETIME)
        assert tokens.token() == "token-1"
        clock.advance(LIFETIME)
        with pytest.raises(AuthorityUnavailable, match="no thread"):
            tokens.token()
    assert tokens.token() == "token-2"


def test_a_failure_that_many_hear_of_does_not_grow(tokens: ServiceTokens, source: Source) -> None:
    source.failure = AuthorityUnavailable("away")
    depths = []
    for _ in range(5):
        with pytest.raises(AuthorityUnavailable) as raised:
            tokens.token()
        depths.append(len(raised.traceback))
    assert len(set(depths[1:])) == 1


# To whom a token goes, and when a call is made again.


@pytest.mark.parametrize(
    "url",
    [
        "https://orders.internal/x?y#z",
        "https://orders.internal:443/",
        "HTTPS://Orders.Internal/",
        "https://user:pass@orders.internal/",
    ],
)
def test_one_origin_has_several_spellings(url: str) -> None:
    Origins("https://orders.internal").require(url)


@pytest.mark.meets("9700-4.10.2")
@pytest.mark.parametrize(
    "url",
    [
        "http://orders.internal/",
        "https://orders.internal:8443/",
        "https://orders.internal.evil.example/",
        "https://evil.example/?https://orders.internal",
        "https://orders.internal@evil.example/",
        "https://evil.example\\@orders.internal/",
        "https://evil.example#@orders.internal/",
        "//orders.internal/",
        "/orders",
        "",
        "https://[::1",
        "https://orders.internal:x/",
        "ftp://orders.internal/",
    ],
)
def test_a_token_goes_to_no_other_origin(url: str) -> None:
    with pytest.raises(KeyfobError, match="none of the origins"):
        Origins(["https://orders.internal", "http://127.0.0.1:80"]).require(url)


@pytest.mark.parametrize(
    "origins", ["", [], "orders.internal", "https://orders.internal/path", "https://a:b@c", "https://a?b"]
)
def test_what_is_no_origin_is_refused(origins: Any) -> None:
    with pytest.raises(KeyfobError, match="origin"):
        Origins(origins)


@pytest.mark.parametrize("cause", ["expired", "stale_claims", "revoked", "unknown_key"])
def test_a_call_is_made_again_where_a_new_token_helps(cause: str) -> None:
    challenge = f'Bearer realm="keyfob", error="invalid_token", error_description="{cause}"'
    assert is_worth_a_new_token(401, [cause], [challenge])
    assert is_worth_a_new_token(401, [], [challenge])
    assert not is_worth_a_new_token(403, [cause], [challenge])
    assert not is_worth_a_new_token(200, [cause], [challenge])
    assert not is_worth_a_new_token(401, [cause, cause], [challenge])


@pytest.mark.parametrize("cause", ["insufficient_scope", "wrong_audience", "bad_signature", "malformed", ""])
def test_a_call_is_not_made_again_where_none_does(cause: str) -> None:
    assert not is_worth_a_new_token(401, [cause], ['Bearer error_description="expired"'])
    assert not is_worth_a_new_token(401, [], [])
