"""The stores: what one process does with each a second, at several sizes, in one run.

Everything goes through an `Authority` whose cache holds two credentials, 32 calls at a time. Half of the sessions in the database answer to a
session token, half to a refresh token, each of a subject of its own. Nothing is asked twice in a row from the same corner: what is checked, rotated
and ended is drawn at random over the whole database.

The clean-up is the server's own (`authority/cleaning.py`): in small steps, with its pauses, for as long as is measured or until all that is over is
gone. Its clock is set ahead by five days, so that sessions of 12 hours are over, and so is the day on which PostgreSQL drops them as a whole.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.figures import BenchmarkFailed, Figure, compared, percentile
from benchmarks.rounds import Tell
from benchmarks.store_filling import Filled, fill
from benchmarks.store_places import Place, places
from keyfob.authority.authority import Authority
from keyfob.authority.cleaning import Cleaning
from keyfob.base.opaque import OpaqueKind
from keyfob.sessions.policy import SessionPolicy

AT_ONCE = 32
DEVICES = 5  # of the subject of each "log out from all devices"
ISSUER = "http://127.0.0.1:8080"  # nobody is there; it is only a name here
_CLEANED = timedelta(days=5)
_ROUNDS = 5

Operation = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was measured at one size. Rates are operations a second, in rounds; tails are in milliseconds."""

    size: int
    filled: float
    bytes_each: float
    rates: dict[str, list[float]] = field(default_factory=dict)
    tails: dict[str, float] = field(default_factory=dict)

    def micros(self, name: str) -> float:
        """Return how long one operation took, in microseconds of the wall clock, with all that was under way beside it."""
        return 1e6 / median(self.rates[name])


def run(names: Sequence[str], *, sizes: Sequence[int], seconds: float, tell: Tell) -> list[Figure]:
    """Measure the stores *names*, as far as they can be had here, at each of *sizes*, each operation for *seconds* in all."""
    figures: list[Figure] = []
    with TemporaryDirectory(prefix="keyfob-bench-") as folder, places(Path(folder)) as (found, absent):
        for place in (one for one in found if one.name in names):
            seen = asyncio.run(_measured(place, sorted(sizes), seconds, tell))
            figures += _figures(place.name, seen, absent)
    return figures


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """A full store with an authority on it."""

    authority: Authority
    filled: Filled
    operations: dict[str, Operation]
    seen: Seen


async def _measured(place: Place, sizes: Sequence[int], seconds: float, tell: Tell) -> list[Seen]:
    """Fill a store of each size; then measure them in turn, so that whatever the machine does hits them all."""
    async with AsyncExitStack() as stack:
        stages = [await _prepared(place, size, stack, tell) for size in sizes]
        for number in range(_ROUNDS):
            for name in stages[0].operations:
                tell(f"{place.name}: {name}, round {number + 1}", number / _ROUNDS)
                for stage in stages:
                    rate = await _rate(stage.operations[name], seconds / _ROUNDS)
                    stage.seen.rates.setdefault(name, []).append(rate)
        for stage in stages:
            tell(f"{place.name}, {stage.seen.size:,} sessions: clean-up", 0.9)
            stage.seen.rates["end_all"] = [await _end_all(stage.authority, seconds)]
            stage.seen.tails.update(await _tails(stage.authority, stage.filled, seconds))
    return [stage.seen for stage in stages]


async def _prepared(place: Place, size: int, stack: AsyncExitStack, tell: Tell) -> _Stage:
    url = await place.make()
    stack.push_async_callback(place.drop, url)
    authority = await stack.enter_async_context(
        Authority.open(
            url,
            master_key=bytes(range(32)),
            issuer=ISSUER,
            cache_capacity=2,
            policy=SessionPolicy(replay_window=timedelta(0)),
        )
    )
    before = await place.bytes_used(url)
    filled = await fill(authority, place, url, size, tell=tell)
    used = await place.bytes_used(url)
    return _Stage(
        authority=authority,
        filled=filled,
        operations=_operations(authority, filled),
        seen=Seen(size=size, filled=filled.seconds, bytes_each=(used - before) / size),
    )


def _operations(authority: Authority, filled: Filled) -> dict[str, Operation]:
    sessions, refreshes, numbers = filled.session_tokens, filled.refresh_tokens, count()

    async def check() -> object:
        return await authority.authenticate(random.choice(sessions))

    async def refresh() -> object:
        # Taken out while it is under way: no two rotate one token.
        at = random.randrange(len(refreshes))
        refreshes[at], refreshes[-1] = refreshes[-1], refreshes[at]
        issued = await authority.refresh(refreshes.pop())
        if issued.refresh_token is None:
            raise BenchmarkFailed("a refresh that rotated nothing")
        refreshes.append(issued.refresh_token)
        return issued

    async def login() -> object:
        issued = await authority.login(f"visitor-{next(numbers)}", strategy="session")
        sessions.append(issued.session_token or "")  # so that there are enough to be ended
        return issued

    async def end() -> object:
        if not sessions:
            raise BenchmarkFailed("every session was ended: measure with more, or for a shorter time")
        at = random.randrange(len(sessions))
        sessions[at], sessions[-1] = sessions[-1], sessions[at]
        entry = await authority.logout(sessions.pop())
        if entry is None:
            raise BenchmarkFailed("a logout that ended nothing")
        return entry

    return {"check": check, "refresh": refresh, "login": login, "end": end}


async def _rate(operation: Operation, seconds: float) -> float:
    """Return how many a second, of operations of which `AT_ONCE` are under way all the time."""
    begin, done = time.perf_counter(), 0
    end = begin + seconds

    async def worker() -> None:
        nonlocal done
        is_over = False
        while not is_over:  # each at least once, however busy the machine is
            await operation()
            done += 1
            is_over = time.perf_counter() >= end
            await asyncio.sleep(0)  # SQLite answers without waiting; a server would read the next request now

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return done / (time.perf_counter() - begin)


async def _end_all(authority: Authority, seconds: float) -> float:
    """Return how many people a second can be logged out everywhere, each from `DEVICES` devices; the logins are not counted."""
    took, done, begin = 0.0, 0, time.perf_counter()
    while done == 0 or time.perf_counter() - begin < seconds:
        people = [f"everywhere-{done + number}" for number in range(AT_ONCE)]
        logins = await asyncio.gather(
            *(authority.login(one, strategy="session") for one in people for _ in range(DEVICES))
        )
        tokens = [login.session_token or "" for login in logins[::DEVICES]]
        start = time.perf_counter()
        await asyncio.gather(*(authority.logout(token, devices="all") for token in tokens))
        took += time.perf_counter() - start
        done += len(people)
    return done / took


async def _tails(authority: Authority, filled: Filled, seconds: float) -> dict[str, float]:
    """Return the p99 of finding a session, without a clean-up and beside one, and the longest that any took beside it."""
    store = authority.store
    kept = [
        authority.sessions.parse(token, OpaqueKind.REFRESH).session_id
        for token in filled.refresh_tokens[:100_000]
    ]

    async def find() -> object:
        return await store.sessions.find(random.choice(kept))

    quiet = await _times(find, seconds)
    cleaning = Cleaning(store, clock=authority.clock)
    cleaner = asyncio.create_task(cleaning.clean(authority.clock.now() + _CLEANED))
    busy = await _times(find, seconds, at_least_until=lambda: cleaning.deleted > 0 or cleaner.done())
    cleaner.cancel()
    await asyncio.wait([cleaner])
    if cleaning.deleted == 0:
        raise BenchmarkFailed("a clean-up that deleted nothing")
    return {
        "quiet": percentile(quiet, 0.99) * 1e3,
        "busy": percentile(busy, 0.99) * 1e3,
        "longest": busy[-1] * 1e3,
        "deleted": cleaning.deleted,
    }


async def _times(
    operation: Operation, seconds: float, *, at_least_until: Callable[[], bool] = lambda: True
) -> list[float]:
    """Return how long each took, in seconds, the shortest first; go on after *seconds* where something has not happened by then."""
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def worker() -> None:
        while (now := time.perf_counter()) < end or not took or not at_least_until():
            await operation()
            took.append(time.perf_counter() - now)
            await asyncio.sleep(0)  # as above: or the clean-up would never have its turn

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return sorted(took)


def _figures(store: str, seen: Sequence[Seen], absent: Sequence[str]) -> list[Figure]:
    least, largest = seen[0], seen[-1]
    sizes = {
        str(one.size): {
            "filled_s": round(one.filled, 1),
            "bytes_each": round(one.bytes_each),
            "us_each": {name: round(one.micros(name), 1) for name in one.rates},
            "p99_ms": {name: round(value, 2) for name, value in one.tails.items()},
        }
        for one in seen
    }
    figures = [
        Figure(
            name=f"stores.{store}.{name}",
            measured=median(least.rates[name]),
            facts={"sizes": sizes, "not_measured": absent},
        )
        for name in least.rates
    ]
    figures.append(
        Figure(name=f"stores.{store}.bytes", measured=largest.bytes_each, facts={"at": largest.size})
    )
    figures.append(
        Figure(
            name=f"stores.{store}.cleanup",
            measured=largest.tails["busy"],
            against=largest.tails["quiet"],
            against_what="the same without",
            ratio=largest.tails["busy"] / largest.tails["quiet"],
            facts={
                "at": largest.size,
                "deleted": largest.tails["deleted"],
                "longest_ms": round(largest.tails["longest"], 2),
            },
        )
    )
    if largest is not least:
        what = f"at {least.size:,} sessions instead of {largest.size:,}"
        figures += [
            compared(
                f"stores.{store}.growth.{name}",
                [1e6 / rate for rate in largest.rates[name]],
                [1e6 / rate for rate in least.rates[name]],
                what=what,
            )
            for name in ("check", "refresh")
        ]
    return figures
