"""Racers: who carries out one verb at the same moment, in threads or in processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any, Protocol, TypeVar

from keyfob.testing.store_contract import Store

A = TypeVar("A")
R = TypeVar("R")

DEADLINE = 60.0  # seconds: how long a race may take before it counts as a deadlock
_SWITCH_INTERVAL = 1e-6  # seconds: as many thread switches as the interpreter can be made to do


class Racers(Protocol):
    """Carries a verb out once for each argument, all at the same moment."""

    def race(self, verb: Callable[[Store, A], Awaitable[R]], arguments: Sequence[A]) -> list[R]:
        """Return what each call returned, in the order of *arguments*. *verb* is a function of a module, and arguments can be pickled."""
        ...


class ThreadRacers:
    """Threads on one store, each with an event loop of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def race(self, verb: Callable[[Store, A], Awaitable[R]], arguments: Sequence[A]) -> list[R]:
        """Carry *verb* out in as many threads as there are *arguments*, with thread switches forced."""
        barrier = threading.Barrier(len(arguments))

        async def call(argument: A) -> R:
            return await verb(self._store, argument)

        def run(argument: A) -> R:
            with asyncio.Runner() as runner:
                runner.get_loop()
                barrier.wait(DEADLINE)
                return runner.run(call(argument))

        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_INTERVAL)
        try:
            with ThreadPoolExecutor(len(arguments)) as pool:
                return list(pool.map(run, arguments))
        finally:
            sys.setswitchinterval(before)


class ProcessRacers:
    """Processes, each with a store of its own on the same data; each carries out its share of the arguments at once.

    Starting them takes a second: keep them for several tests, and `open` each test's store in turn.
    """

    def __init__(self, *, count: int = 2) -> None:
        """Start *count* processes."""
        context = multiprocessing.get_context("spawn")
        self._barrier = context.Barrier(count)
        self._processes = []
        self._pipes: list[Connection] = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_run, args=(theirs, self._barrier), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)

    def open(self, open_store: Callable[[], Awaitable[Store]]) -> None:
        """Open a store in each process, closing the one before. *open_store* can be pickled."""
        self._order([(_open, open_store)] * len(self._pipes))

    def race(self, verb: Callable[[Store, A], Awaitable[R]], arguments: Sequence[A]) -> list[R]:
        """Carry *verb* out in all processes, the arguments dealt out in turn."""
        count = len(self._pipes)
        answers = self._order([(verb, list(arguments[number::count])) for number in range(count)])
        outcomes: list[Any] = [None] * len(arguments)
        for number, answer in enumerate(answers):
            outcomes[number::count] = answer
        return outcomes

    def close(self) -> None:
        """Close the stores, and end the processes."""
        for pipe in self._pipes:
            pipe.send(None)
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            process.join(DEADLINE)
            pipe.close()
            process.close()

    def _order(self, orders: list[tuple[Any, Any]]) -> list[Any]:
        for pipe, order in zip(self._pipes, orders, strict=True):
            pipe.send(order)
        answers = []
        for pipe in self._pipes:
            if not pipe.poll(DEADLINE):
                raise TimeoutError("a racing process does not answer")
            answers.append(pipe.recv())
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers


async def _open(*_: object) -> None:
    """Stand for the order to open a store; it is never called."""


def _run(pipe: Connection, barrier: Barrier) -> None:
    asyncio.run(_serve(pipe, barrier))


async def _serve(pipe: Connection, barrier: Barrier) -> None:
    store: Store | None = None
    while (order := await asyncio.to_thread(pipe.recv)) is not None:
        verb, argument = order
        if verb is _open:
            if store is not None:
                await store.close()
            store = await argument()
            pipe.send(None)
            continue
        assert store is not None
        await asyncio.to_thread(barrier.wait, DEADLINE)
        pipe.send(await _answer(store, verb, argument))
    if store is not None:
        await store.close()


async def _answer(store: Store, verb: Callable[[Store, Any], Awaitable[Any]], arguments: list[Any]) -> object:
    try:
        return await asyncio.gather(*(verb(store, argument) for argument in arguments))
    except Exception as error:  # noqa: BLE001 - raised by whoever asked
        return error
