"""Coroutines that are run as far as they go without waiting."""

from __future__ import annotations

import asyncio

import pytest

from keyfob.base.at_once import at_once


async def test_a_coroutine_that_waits_for_nothing_gives_its_result() -> None:
    async def inner() -> int:
        return 3

    async def outer() -> int:
        return await inner() + 1

    assert at_once(outer()) == 4


async def test_one_that_begins_to_wait_is_closed_and_gives_nothing() -> None:
    seen: list[str] = []

    async def waits() -> int:
        try:
            await asyncio.sleep(0)
        finally:
            seen.append("closed")
        return 1

    assert at_once(waits()) is None
    assert seen == ["closed"]


async def test_what_it_raises_is_raised() -> None:
    async def fails() -> int:
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        at_once(fails())
