"""Looking at a PostgreSQL server from outside the store, for `keyfob doctor`. Nothing is changed, and nothing is left there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import cast

from keyfob.base.clock import Clock, from_micros, to_micros
from keyfob.base.errors import ConfigurationError
from keyfob.stores.condition import Encryption, HostRole, Hosts, PostgresCondition, Schema, Server
from keyfob.stores.postgres.connecting import DirectConnection, connect, connect_to_any
from keyfob.stores.postgres.faults import FAULTS, at_opening
from keyfob.stores.postgres.marks import require_open
from keyfob.stores.postgres.options import Address, PostgresOptions
from keyfob.stores.postgres.partitions import due
from keyfob.stores.postgres.schema import SCHEMA_VERSION, read_versions
from keyfob.stores.postgres.url import is_here

_CHANNEL = "keyfob_doctor"  # not the feed's: nobody is woken
_PATIENCE = 2.0  # seconds for a notification
_DAY = timedelta(days=1)
_SETTINGS = (
    "server_version",
    "server_version_num",
    "server_encoding",
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "synchronous_standby_names",
    "max_connections",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "client_min_messages",
    "enable_seqscan",
)
# What only some users may see is NULL to the others; they still see that there is a row.
_STANDBYS = (
    "SELECT CASE WHEN count(*) FILTER (WHERE state IS NULL) > 0 THEN NULL"
    " ELSE count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) END FROM pg_stat_replication"
)


async def inspect(options: PostgresOptions, *, clock: Clock) -> PostgresCondition:
    """Look at every host, at the primary, and at what is in the database."""
    hosts = await _hosts(options)
    server: Server | None = None
    schema: Schema | None = None
    fault: str | None = None
    try:
        async with _connected(options) as connection:
            server = await _server(connection, options, clock)
            schema = await _schema(connection, options, clock)
    except FAULTS as error:
        fault = str(at_opening(error, options.name))
    except ConfigurationError as error:
        fault = str(error)
    return PostgresCondition(
        hosts=hosts, server=server, schema=schema, fault=fault, connections=options.connections + 1
    )


@asynccontextmanager
async def _connected(options: PostgresOptions) -> AsyncIterator[DirectConnection]:
    connection = await connect(options.addresses, options, is_pooled=options.is_pooled)
    try:
        yield connection
    finally:
        await _hang_up(connection)


async def _hang_up(connection: DirectConnection) -> None:
    with suppress(*FAULTS):
        await connection.close(timeout=_PATIENCE)


async def _hosts(options: PostgresOptions) -> Hosts:
    looks = await asyncio.gather(*(_look_at(address, options) for address in options.addresses))
    listening = await asyncio.gather(*(_look_at(address, options) for address in options.listen_at or ()))
    names = [f"{host}:{port}" for host, port in options.addresses]
    return Hosts(
        roles={name: role for name, (role, _) in zip(names, looks, strict=True)},
        encryption=_encryption(options),
        has_pooler=options.is_pooled,
        is_pooled=any(is_pooler for _, is_pooler in looks),
        listens_through_pooler=any(is_pooler for _, is_pooler in listening),
    )


async def _look_at(address: Address, options: PostgresOptions) -> tuple[HostRole, bool]:
    """Return what is at *address*, and whether a pooler answers for it."""
    try:
        connection = await connect_to_any(address, options)
    except FAULTS:
        return HostRole.AWAY, False
    try:
        row = await connection.fetchrow("SELECT pg_is_in_recovery(), pg_backend_pid()")
        assert row is not None
        # A pooler says a number of its own when it is connected to: the server's process is only chosen later.
        return HostRole.STANDBY if row[0] else HostRole.PRIMARY, row[1] != connection.get_server_pid()
    except FAULTS:
        return HostRole.AWAY, False
    finally:
        await _hang_up(connection)


def _encryption(options: PostgresOptions) -> Encryption:
    if options.tls is not None:
        return Encryption.VERIFIED if options.tls.check_hostname else Encryption.UNVERIFIED
    addresses = (*options.addresses, *(options.listen_at or ()))
    return Encryption.NEEDLESS if all(is_here(host) for host, _ in addresses) else Encryption.NONE


async def _server(connection: DirectConnection, options: PostgresOptions, clock: Clock) -> Server:
    rows = await connection.fetch(
        "SELECT name, current_setting(name) FROM unnest($1::text[]) AS w (name)", list(_SETTINGS)
    )
    asked = clock.now()
    theirs: datetime = await connection.fetchval("SELECT clock_timestamp()")
    answered = clock.now()
    return Server(
        settings=dict(cast("list[tuple[str, str]]", rows)),
        is_superuser=await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"),
        synchronous_standbys=await connection.fetchval(_STANDBYS),
        clock_ahead=theirs - (asked + (answered - asked) / 2),
        notified_after=await _notified(connection, options, clock),
    )


async def _notified(connection: DirectConnection, options: PostgresOptions, clock: Clock) -> timedelta | None:
    """Listen where the store would, notify where it would, and return how long that took; None if nothing came."""
    wanted, heard = os.urandom(8).hex(), asyncio.Event()

    def hear(_connection: object, _pid: object, _channel: object, payload: str) -> None:
        if payload == wanted:  # another doctor may be at it
            heard.set()

    try:
        listening = await connect(options.listen_at or options.addresses, options, is_pooled=False)
    except FAULTS:
        return None
    try:
        async with asyncio.timeout(_PATIENCE):
            await listening.add_listener(_CHANNEL, hear)
            begin = clock.elapsed()
            await connection.execute("SELECT pg_notify($1, $2)", _CHANNEL, wanted)
            await heard.wait()
            return timedelta(seconds=clock.elapsed() - begin)
    except FAULTS:
        return None
    finally:
        await _hang_up(listening)


async def _schema(connection: DirectConnection, options: PostgresOptions, clock: Clock) -> Schema:
    version, _ = await read_versions(connection, options.name)
    if version != SCHEMA_VERSION:
        return Schema(version=version, current=SCHEMA_VERSION)
    await require_open(connection, options.name)
    now = clock.now()
    missing, over = await due(connection, now)
    longest: int = await connection.fetchval("SELECT longest_session FROM keyfob.meta")
    return Schema(
        version=version,
        current=SCHEMA_VERSION,
        missing_days=sum(end - first for first, end in missing) if longest else 0,
        overdue_since=await _overdue_since(connection, now, over),
    )


async def _overdue_since(
    connection: DirectConnection, now: datetime, over: list[tuple[int, int]]
) -> datetime | None:
    oldest: int | None = await connection.fetchval(
        "SELECT least((SELECT min(until) FROM keyfob.entries WHERE until <= $1),"
        " (SELECT min(expires_at) FROM keyfob.sessions_other WHERE expires_at <= $1))",
        to_micros(now),
    )
    moments = [from_micros(oldest)] if oldest is not None else []
    moments += [from_micros(0) + end * _DAY for _, end in over]
    return min(moments, default=None)
