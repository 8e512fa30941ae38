"""How a connection to the primary is made, and what a server must be like to be used. It is looked at with each connection anew."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from keyfob.stores.redis.faults import FAULTS, WrongServer
from keyfob.stores.redis.options import Address, RedisOptions, Tls, Topology
from keyfob.stores.redis.wire import Connection

_SECTIONS = ("server", "memory", "replication", "persistence", "cluster")
_OLDEST_REDIS, _OLDEST_VALKEY = (7, 0), (7, 2)
_FAREWELL = 0.5  # seconds
EVICTS_NOTHING = "noeviction"


async def connect(options: RedisOptions) -> Connection:
    """Connect to the primary.

    Raises:
        Exception: one of `faults.FAULTS`; `WrongServer` where it must not be used.
    """
    connection = await connect_unchecked(options)
    try:
        check_server(await read_state(connection))
    except BaseException:
        connection.abort()
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


async def connect_to(address: Address, options: RedisOptions) -> Connection:
    """Connect to the server at *address*, whatever it is like.

    Raises:
        Exception: one of `faults.FAULTS`.
    """
    async with asyncio.timeout(options.connect_timeout.total_seconds()):
        return await _connect(address, options)


async def find_primary(options: RedisOptions) -> Address:
    """Return where the primary is, as the first sentinel that answers knows it.

    Raises:
        Exception: one of `faults.FAULTS`.
    """
    error: BaseException = WrongServer("is not known to its sentinels")
    for address in options.addresses:
        try:
            async with asyncio.timeout(options.connect_timeout.total_seconds()):
                found = await _ask_sentinel(address, options)
        except FAULTS as fault:
            error = fault
            continue
        if found:
            return found[0].decode(), int(found[1])
    raise error


async def _ask_sentinel(address: Address, options: RedisOptions) -> list[bytes] | None:
    sentinel = await _greet(address, options.tls, None, options.sentinel_password)
    try:
        command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", options.primary or "")
        return cast("list[bytes] | None", await ask(sentinel, *command))
    finally:
        sentinel.abort()


async def take_leave(connection: Connection) -> None:
    """Close *connection*, and wait for a moment until it is: TLS has a farewell."""
    with suppress(*FAULTS):
        async with asyncio.timeout(_FAREWELL):
            await connection.close()


async def ask(connection: Connection, *command: object) -> Any:
    """Return the answer to one command; an error that the server answers is raised."""
    (reply,) = await connection.ask_all([command])
    return reply


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
    check_member(state)
    if state.get("role") != "master":
        raise WrongServer("is a replica by now; wait for the failover to end")


def check_member(state: Mapping[str, str]) -> None:
    """Refuse a node of a cluster, whatever its role is, that could not be used as a primary.

    Raises:
        WrongServer: it is; the message says how to mend it.
    """
    if not is_new_enough(state):
        raise WrongServer("is too old; use Redis 7.0 or Valkey 7.2, or newer")
    if state.get("cluster_enabled") != "1":
        raise WrongServer("is no node of a cluster; use redis://")
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


async def _connect(address: Address, options: RedisOptions) -> Connection:
    connection = await _greet(address, options.tls, options.user, options.password)
    if options.database:
        try:
            await ask(connection, "SELECT", options.database)
        except BaseException:
            connection.abort()
            raise
    return connection


async def _greet(address: Address, tls: Tls | None, user: str | None, password: str | None) -> Connection:
    connection = await Connection.open(*address, tls=None if tls is None else _tls_context(tls))
    try:
        connection.keep_alive()
        if password is not None or user is not None:
            names = () if user is None else (user,)
            await ask(connection, "AUTH", *names, password or "")
    except BaseException:
        connection.abort()
        raise
    return connection


def _tls_context(tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = tls.checks_name
    if tls.ca_file is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(tls.ca_file)
    if tls.certificate_file is not None:
        context.load_cert_chain(tls.certificate_file, tls.key_file)
    return context
