"""What `keyfob doctor` sees of a Redis server. Nothing is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from redis import exceptions

from keyfob.stores.condition import RedisCondition
from keyfob.stores.redis.connecting import (
    ask,
    check_server,
    connect_unchecked,
    read_state,
    take_leave,
)
from keyfob.stores.redis.faults import FAULTS, WrongServer, at_opening
from keyfob.stores.redis.options import RedisOptions
from keyfob.stores.redis.wire import Connection


async def inspect_single(options: RedisOptions) -> RedisCondition:
    """Return what the server says of itself. One that cannot be reached, or must not be used, is a fault."""
    try:
        async with asyncio.timeout(options.deadline.total_seconds()):
            connection = await connect_unchecked(options)
            try:
                return await condition_of(connection, options.name, check_server)
            finally:
                await take_leave(connection)
    except FAULTS as error:
        return RedisCondition(fault=str(at_opening(error, options.name)))


async def condition_of(
    connection: Connection, name: str, check: Callable[[Mapping[str, str]], None]
) -> RedisCondition:
    """Return what the server called *name* says of itself; that it must not be used, as *check* says, is a fault.

    Raises:
        Exception: one of `faults.FAULTS`.
    """
    state = await read_state(connection)
    condition = RedisCondition(
        policy=state.get("maxmemory_policy", ""),
        has_append_file=state.get("aof_enabled") == "1",
        is_behind_on_disk=state.get("aof_last_write_status", "ok") != "ok",
        replicas=int(state.get("connected_slaves", "0")),
        used_memory=int(state.get("used_memory", "0")),
        most_memory=int(state.get("maxmemory", "0")),
        appendfsync=await setting(connection, "appendfsync"),
        least_replicas=int(await setting(connection, "min-replicas-to-write") or "0"),
    )
    try:
        check(state)
    except WrongServer as error:
        return replace(condition, fault=str(at_opening(error, name)))
    return condition


async def setting(connection: Connection, name: str) -> str | None:
    """Return a setting of the server; None where this user may not read it."""
    try:
        found = await ask(connection, b"CONFIG", b"GET", name)
    except exceptions.ResponseError:
        return None
    return found[1].decode() if found else None
