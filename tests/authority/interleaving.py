"""Holding a real store at one of its verbs, so that an interleaving happens every time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from keyfob.base.errors import Denied
from keyfob.base.identifiers import Subject

DEADLINE = 10.0  # seconds; nothing here takes more than a few milliseconds


class Gate:
    """One place at which somebody waits until told to go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def wait(self) -> None:
        self.reached.set()
        await asyncio.wait_for(self.open.wait(), DEADLINE)


class Paused:
    """A port of a real store; the next call of one verb waits at a gate, before it or after it."""

    def __init__(self, port: Any) -> None:
        self._port = port
        self._stops: dict[str, tuple[Gate, str]] = {}

    def stop(self, verb: str, where: str) -> Gate:
        gate = Gate()
        self._stops[verb] = (gate, where)
        return gate

    def __getattr__(self, verb: str) -> Any:
        call = getattr(self._port, verb)
        if verb not in self._stops:
            return call
        gate, where = self._stops.pop(verb)

        async def paused(*args: Any, **more: Any) -> Any:
            if where == "before":
                await gate.wait()
            answer = await call(*args, **more)
            if where == "after":
                await gate.wait()
            return answer

        return paused


class Scene:
    """An authority whose store can be held at any verb, and a second one on the same store that cannot."""

    def __init__(self, house: Any, other: Any, sessions: Paused, accounts: Paused) -> None:
        self.house = house
        self.other = other
        self.sessions = sessions
        self.accounts = accounts
        self.authority = house.authority

    async def during(self, call: Awaitable[Any], gate: Gate, change: Callable[[], Awaitable[Any]]) -> Any:
        """Begin *call*, make *change* while it waits at *gate*, and return how it ended: its result, or the cause of its refusal."""
        task = asyncio.ensure_future(call)
        await asyncio.wait_for(gate.reached.wait(), DEADLINE)
        await change()
        gate.open.set()
        try:
            return await asyncio.wait_for(task, DEADLINE)
        except Denied as denied:
            return denied.cause


async def ended(scene: Scene, how: str, subject: str) -> None:
    authority = scene.other.authority
    match how:
        case "subject":
            await authority.revoke("subject", subject)
        case "everything":
            await authority.revoke("everything")
        case "client":
            await authority.revoke("client", "first-party")
        case "password":
            await authority.accounts.set_password(Subject(subject), "a much better one", actor="admin")
        case "disabled":
            await authority.accounts.disable(Subject(subject), actor="admin")
        case "deleted":
            await authority.accounts.delete(Subject(subject), actor="admin")
        case "others":
            spared = await authority.login(subject)
            await authority.logout(spared.session_token, devices="others")
            assert await scene.other.causes(spared) == [None]
