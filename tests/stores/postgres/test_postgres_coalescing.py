"""Requests that are carried out together: who waits for whom, and who does not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from keyfob.base.errors import StoreUnavailable
from keyfob.stores.postgres import coalescing
from keyfob.stores.postgres.coalescing import Coalescer, Left
from keyfob.stores.postgres.faults import RefusedStep

LONG = timedelta(seconds=30)


class Database:
    """Answers with what it is asked, as soon as `gate` is open; keeps what it was asked."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.batches: list[list[str]] = []
        self.begun = asyncio.Semaphore(0)

    async def together(self, requests: Sequence[str]) -> list[str]:
        self.batches.append(list(requests))
        self.begun.release()
        await self.gate.wait()
        return list(requests)


async def ask_all(coalescer: Coalescer[str, str], requests: Sequence[str]) -> list[str]:
    return await asyncio.wait_for(asyncio.gather(*map(coalescer.ask, requests)), 10)


async def test_what_comes_in_one_turn_goes_together() -> None:
    database = Database()
    coalescer = Coalescer(database.together, deadline=LONG)
    assert await ask_all(coalescer, ["a", "b", "a"]) == ["a", "b", "a"]
    assert database.batches == [["a", "b", "a"]]


async def test_a_batch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalescing, "MAX_BATCH", 2)
    database = Database()
    coalescer = Coalescer(database.together, deadline=LONG, at_once=1)
    assert await ask_all(coalescer, list("abcde")) == list("abcde")
    assert database.batches == [["a", "b"], ["c", "d"], ["e"]]


async def test_two_of_one_key_come_in_turn() -> None:
    database = Database()
    coalescer = Coalescer(database.together, deadline=LONG, key=lambda request: request[0])
    assert await ask_all(coalescer, ["a1", "b1", "a2", "a3"]) == ["a1", "b1", "a2", "a3"]
    assert database.batches == [["a1", "b1"], ["a2"], ["a3"]]


async def test_a_slow_batch_does_not_hold_up_the_next() -> None:
    database = Database()
    database.gate.clear()
    coalescer = Coalescer(database.together, deadline=LONG)
    slow = asyncio.ensure_future(coalescer.ask("slow"))
    await asyncio.wait_for(database.begun.acquire(), 10)
    database.gate.set()
    database.gate = asyncio.Event()
    database.gate.set()
    assert await ask_all(coalescer, ["quick"]) == ["quick"]
    assert await slow == "slow"


async def test_what_must_wait_is_carried_out_alone_and_the_others_are_answered() -> None:
    release = asyncio.Event()

    async def together(requests: Sequence[str]) -> list[str | Left]:
        return [Left.ALONE if request.startswith("held") else request for request in requests]

    async def alone(request: str) -> str:
        await release.wait()
        return f"{request}, alone"

    coalescer: Coalescer[str, str] = Coalescer(
        together, deadline=LONG, key=lambda request: request, alone=alone
    )
    held = [asyncio.ensure_future(coalescer.ask(f"held {number}")) for number in range(5)]
    assert await ask_all(coalescer, ["free"]) == ["free"]
    again = asyncio.ensure_future(coalescer.ask("held 0"))
    assert await ask_all(coalescer, ["free"]) == ["free"]
    assert not any(one.done() for one in [*held, again])
    release.set()
    answers = await asyncio.wait_for(asyncio.gather(*held, again), 10)
    assert answers == [*(f"held {number}, alone" for number in range(5)), "held 0, alone"]


async def test_what_has_not_begun_by_its_deadline_never_begins() -> None:
    database = Database()
    database.gate.clear()
    coalescer = Coalescer(database.together, deadline=timedelta(milliseconds=20), at_once=1)
    first = asyncio.ensure_future(coalescer.ask("first"))
    await asyncio.wait_for(database.begun.acquire(), 10)
    second = asyncio.ensure_future(coalescer.ask("second"))
    for one in (first, second):
        with pytest.raises(StoreUnavailable, match="in time"):
            await asyncio.wait_for(one, 10)
    database.gate.set()
    assert await ask_all(coalescer, ["third"]) == ["third"]
    assert database.batches == [["first"], ["third"]]


async def test_only_the_one_that_is_refused_fails() -> None:
    async def together(requests: Sequence[str]) -> list[str]:
        if "bad" in requests:
            raise RefusedStep("no such value")
        return list(requests)

    coalescer = Coalescer(together, deadline=LONG)
    asked = [asyncio.ensure_future(coalescer.ask(request)) for request in ("a", "bad", "b")]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert answers[::2] == ["a", "b"]
    assert isinstance(answers[1], RefusedStep)


async def test_a_store_that_is_away_fails_all_of_a_batch_and_not_the_next() -> None:
    database = Database()
    failures = [StoreUnavailable("away")]

    async def together(requests: Sequence[str]) -> list[str]:
        if failures:
            raise failures.pop()
        return await database.together(requests)

    coalescer = Coalescer(together, deadline=LONG, key=lambda request: request)
    answers = await asyncio.gather(coalescer.ask("a"), coalescer.ask("b"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 2
    assert await ask_all(coalescer, ["a", "b"]) == ["a", "b"]


async def test_a_caller_that_leaves_does_not_stop_the_others() -> None:
    database = Database()
    database.gate.clear()
    coalescer = Coalescer(database.together, deadline=LONG)
    leaving, staying = (asyncio.ensure_future(coalescer.ask(request)) for request in ("leaving", "staying"))
    await asyncio.wait_for(database.begun.acquire(), 10)
    leaving.cancel()
    database.gate.set()
    assert await asyncio.wait_for(staying, 10) == "staying"


async def test_too_many_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalescing, "MAX_WAITING", 3)
    coalescer = Coalescer(Database().together, deadline=LONG)
    asked = [asyncio.ensure_future(coalescer.ask(str(number))) for number in range(4)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert answers[:3] == ["0", "1", "2"]
    assert isinstance(answers[3], StoreUnavailable)
