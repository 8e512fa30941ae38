"""How a connection to the primary is made, and what a server must be like to be used. It is looked at with each connection anew."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, cast

from redis.asyncio import Connection as DriverConnection
from redis.asyncio import SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from keyfob.stores.redis.faults import FAULTS, WrongServer
from keyfob.stores.redis.options import Address, RedisOptions, Tls, Topology

_SECTIONS = ("server", "memory", "replication", "persistence", "cluster")
_OLDEST_REDIS, _OLDEST_VALKEY = (7, 0), (7, 2)
_FAREWELL = 0.5  # seconds
EVICTS_NOTHING = "noeviction"


class Connection(Protocol):
    """What is used of a connection of redis-py."""

    def pack_commands(self, commands: Sequence[Sequence[object]]) -> list[bytes]:
        """Return *commands* as they are sent."""
        ...

    async def send_packed_command(self, command: Sequence[bytes], check_health: bool = True) -> None:  # noqa: FBT001 - the driver's
        """Send them."""
        ...

    async def read_response(self) -> Any:
        """Return the next answer; an error that the server answers is raised."""
        ...

    async def can_read(self) -> bool:
        """Say whether something came; raise where the connection is closed."""
        ...

    async def disconnect(self, nowait: bool = False) -> None:  # noqa: FBT001 - the driver's
        """Close it."""
        ...


async def connect(options: RedisOptions) -> Connection:
    """Connect to the primary.

    Raises:
        Exception: one of `faults.FAULTS`; `WrongServer` where it must not be used.
    """
    connection = await connect_unchecked(options)
    try:
        check_server(await read_state(connection))
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


async def connect_unchecked(options: RedisOptions) -> Connection:
    """Connect to the primary, whatever it is like.

    Raises:
        Exception: one of `faults.FAULTS`.
    """
    address = options.addresses[0]
    if options.topology is Topology.SENTINEL:
        address = await find_primary(options)
    return await connect_to(address, options)


async def find_primary(options: RedisOptions) -> Address:
    """Return where the primary is, as the first sentinel that answers knows it.

    Raises:
        Exception: one of `faults.FAULTS`.
    """
    error: BaseException = WrongServer("is not known to its sentinels")
    for address in options.addresses:
        try:
            sentinel = await connect_to(address, options, is_sentinel=True)
            try:
                found = await ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", options.primary or "")
            finally:
                await sentinel.disconnect(nowait=True)
        except FAULTS as fault:
            error = fault
            continue
        if found:
            return found[0].decode(), int(found[1])
    raise error


async def take_leave(connection: Connection) -> None:
    """Close *connection*, and wait for a moment until it is: TLS has a farewell."""
    with suppress(*FAULTS):
        async with asyncio.timeout(_FAREWELL):
            await connection.disconnect()


async def ask(connection: Connection, *command: object) -> Any:
    """Return the answer to one command."""
    await connection.send_packed_command(connection.pack_commands([command]), check_health=False)
    return await connection.read_response()


async def read_state(connection: Connection) -> Mapping[str, str]:
    """Return what the server says of itself."""
    text = cast("bytes", await ask(connection, "INFO", *_SECTIONS)).decode(errors="replace")
    lines = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, separator, value in lines if separator}


def check_server(state: Mapping[str, str]) -> None:
    """Refuse a server that is no primary, too old, or may drop sessions, entries and cut-offs to make room.

    Raises:
        WrongServer: it is; the message says how to mend it.
    """
    if not is_new_enough(state):
        raise WrongServer("is too old; use Redis 7.0 or Valkey 7.2, or newer")
    if state.get("cluster_enabled") == "1":
        raise WrongServer("is a node of a cluster; use redis+cluster://")
    if state.get("role") != "master":
        raise WrongServer("is a replica; name the primary, or use redis+sentinel://")
    _check_policy(state)


def check_node(state: Mapping[str, str]) -> None:
    """Refuse a node of a cluster that is no primary, too old, or may drop sessions, entries and cut-offs to make room.

    Raises:
        WrongServer: it is; the message says how to mend it.
    """
    if not is_new_enough(state):
        raise WrongServer("is too old; use Redis 7.0 or Valkey 7.2, or newer")
    if state.get("cluster_enabled") != "1":
        raise WrongServer("is no node of a cluster; use redis://")
    if state.get("role") != "master":
        raise WrongServer("is a replica by now; wait for the failover to end")
    _check_policy(state)


def _check_policy(state: Mapping[str, str]) -> None:
    policy = state.get("maxmemory_policy", "")
    if policy != EVICTS_NOTHING:
        raise WrongServer(
            f"would drop sessions and revocations when its memory is full (maxmemory-policy {policy or 'unknown'});"
            " set maxmemory-policy noeviction"
        )


def is_new_enough(state: Mapping[str, str]) -> bool:
    """Say whether the server has what the scripts use."""
    if state.get("server_name") == "valkey":
        return _version(state.get("valkey_version", "")) >= _OLDEST_VALKEY
    return _version(state.get("redis_version", "")) >= _OLDEST_REDIS


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


async def connect_to(address: Address, options: RedisOptions, *, is_sentinel: bool = False) -> Connection:
    """Connect to the server at *address*, whatever it is like.

    Raises:
        Exception: one of `faults.FAULTS`.
    """
    timeout = options.connect_timeout.total_seconds()
    arguments: dict[str, Any] = {
        "host": address[0],
        "port": address[1],
        "db": 0 if is_sentinel else options.database,
        "username": None if is_sentinel else options.user,
        "password": options.sentinel_password if is_sentinel else options.password,
        "socket_timeout": timeout
        if is_sentinel
        else None,  # the primary's callers have deadlines of their own
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,
    }
    if options.tls is None:
        made = DriverConnection(**arguments)
    else:
        made = SSLConnection(**arguments, **_tls_arguments(options.tls))
    connection = cast("Connection", made)
    try:
        await made.connect()  # type: ignore[no-untyped-call]  # the driver's
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


def _tls_arguments(tls: Tls) -> dict[str, Any]:
    return {
        "ssl_ca_certs": tls.ca_file,
        "ssl_certfile": tls.certificate_file,
        "ssl_keyfile": tls.key_file,
        "ssl_check_hostname": tls.checks_name,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    }
