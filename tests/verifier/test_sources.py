"""What one source may make a verifier ask (design.md, precondition 11)."""

from __future__ import annotations

import threading

import pytest

from keyfob.base.errors import Denied, RateLimited
from keyfob.base.identifiers import SessionId
from keyfob.base.opaque import OpaqueKeys, OpaqueKind, OpaqueToken
from keyfob.verifier.sources import MAX_IN_FLIGHT, MAX_SOURCES, MAX_UNKNOWN, Sources

GUESSER, OTHER = "203.0.113.9", "198.51.100.4"


class Elapsed:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def nobodys() -> str:
    return OpaqueToken.mint(OpaqueKind.SESSION, SessionId("c" * 32), OpaqueKeys(b"keys", b"t", b"r")).text()


def ask(sources: Sources, source: str, *, unknown: int) -> None:
    sources.begin(source)
    sources.end(source, unknown=unknown)


def test_who_brings_too_many_tokens_that_are_nobodys_waits_and_nobody_else_does() -> None:
    elapsed = Elapsed()
    sources = Sources(elapsed)
    for _ in range(MAX_UNKNOWN):
        ask(sources, GUESSER, unknown=1)
    with pytest.raises(RateLimited) as limited:
        sources.begin(GUESSER)
    assert limited.value.retry_after == 1
    ask(sources, OTHER, unknown=0)
    elapsed.now += 0.9
    with pytest.raises(RateLimited):
        sources.begin(GUESSER)
    elapsed.now += 0.1
    ask(sources, GUESSER, unknown=1)
    with pytest.raises(RateLimited):
        sources.begin(GUESSER)


def test_tokens_that_are_somebodys_are_never_counted() -> None:
    sources = Sources(Elapsed())
    for _ in range(10 * MAX_UNKNOWN):
        ask(sources, OTHER, unknown=0)


def test_one_source_has_only_so_many_questions_under_way() -> None:
    sources = Sources(Elapsed())
    for _ in range(MAX_IN_FLIGHT):
        sources.begin(GUESSER)
    with pytest.raises(RateLimited):
        sources.begin(GUESSER)
    sources.begin(OTHER)
    sources.end(GUESSER, unknown=0)
    sources.begin(GUESSER)


def test_nobody_in_particular_is_not_counted() -> None:
    sources = Sources(Elapsed())
    for _ in range(2 * max(MAX_UNKNOWN, MAX_IN_FLIGHT)):
        sources.begin("")
        sources.end("", unknown=1)
        sources.begin("")


def test_a_flood_of_sources_takes_bounded_memory() -> None:
    sources = Sources(Elapsed())
    for number in range(3 * MAX_SOURCES):
        ask(sources, str(number), unknown=1)
    assert len(sources._sources) <= MAX_SOURCES


def test_guesses_of_one_address_do_not_reach_the_authority_for_ever(server, verifier) -> None:
    refusals = []
    for _ in range(MAX_UNKNOWN + 5):
        with pytest.raises((Denied, RateLimited)) as refused:
            verifier.authenticate_blocking(nobodys(), source=GUESSER)
        refusals.append(refused.value.code)
    assert set(refusals) == {"unknown_session", "rate_limited"}
    assert server.asked("/oauth/introspect") <= MAX_UNKNOWN + 2
    assert verifier.authenticate_blocking(server.opaque(), source=OTHER).subject == "alice"


def test_a_session_that_is_cached_is_answered_to_whoever_guessed_before(server, verifier) -> None:
    token = server.opaque()
    verifier.authenticate_blocking(token, source=GUESSER)
    for _ in range(MAX_UNKNOWN + 10):
        with pytest.raises((Denied, RateLimited)):
            verifier.authenticate_blocking(nobodys(), source=GUESSER)
    assert verifier.authenticate_blocking(token, source=GUESSER).subject == "alice"


def test_threads_that_ask_at_once_are_all_counted() -> None:
    sources, begin = Sources(Elapsed()), threading.Barrier(8)

    def guess() -> None:
        begin.wait(10)
        for _ in range(3):
            ask(sources, GUESSER, unknown=1)

    threads = [threading.Thread(target=guess) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    for _ in range(MAX_UNKNOWN - 24):
        ask(sources, GUESSER, unknown=1)
    with pytest.raises(RateLimited):
        sources.begin(GUESSER)
