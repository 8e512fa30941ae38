"""The schema `keyfob` and its versions. Moments are microseconds since the epoch, UTC; spans are microseconds; ids of sessions 16 bytes.

A step, once released, is never changed: a later one is added behind it. The tables are those of SQLite, with two differences: `sessions`
and `session_data` are partitioned by the day of the absolute end, which the session id holds, and texts that are sorted are in the
order of their bytes whatever the database's own order is.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from datetime import timedelta

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.revocation.entry import CHAIN_START
from keyfob.stores.postgres.connecting import Connection, connect
from keyfob.stores.postgres.faults import FAULTS, at_opening
from keyfob.stores.postgres.later_tables import GRANT_TABLES, MACHINE_TABLES
from keyfob.stores.postgres.locks import LockClass
from keyfob.stores.postgres.marks import meta_of, require_open, require_unmarked
from keyfob.stores.postgres.options import PostgresOptions

OLDEST_SERVER = 140_000
"""PostgreSQL 14, as `server_version_num` has it."""

_TABLES = """
    CREATE SCHEMA keyfob;

    CREATE TABLE keyfob.meta (
        only_row integer PRIMARY KEY CHECK (only_row = 1),
        version integer NOT NULL,            -- of the schema
        oldest_version integer NOT NULL,     -- the oldest schema whose Keyfob can still work on this one
        salt bytea NOT NULL,
        timeline text NOT NULL,
        position bigint NOT NULL,            -- the head of the feed; whoever appends locks this row
        chain bytea NOT NULL,
        at bigint NOT NULL,                  -- the moment of its last entry
        longest_credential bigint NOT NULL,  -- the longest lifetimes ever granted
        longest_session bigint NOT NULL
    ) WITH (fillfactor = 10);                -- rewritten with each entry: room for it on its own page

    CREATE TABLE keyfob.entries (
        position bigint PRIMARY KEY,
        at bigint NOT NULL,
        scope text NOT NULL,
        id text NOT NULL,
        reach text NOT NULL,
        spared text,
        until bigint,                        -- NULL: kept for good
        chain bytea NOT NULL
    );
    CREATE INDEX entries_by_until ON keyfob.entries (until) WHERE until IS NOT NULL;

    -- Of several cut-offs of one place the last covers all that the earlier ones do.
    CREATE TABLE keyfob.cut_offs (
        scope text COLLATE "C" NOT NULL,
        id text COLLATE "C" NOT NULL,
        position bigint NOT NULL,
        at bigint NOT NULL,
        until bigint NOT NULL,
        PRIMARY KEY (scope, id)
    );
    CREATE INDEX cut_offs_by_until ON keyfob.cut_offs (until);

    CREATE TABLE keyfob.sessions (
        day integer NOT NULL                 -- of the absolute end, since the epoch: two bytes of the id
            CHECK (day = get_byte(session_id, 4) * 256 + get_byte(session_id, 5)),
        session_id bytea NOT NULL,
        subject text COLLATE "C" NOT NULL,
        client_id text COLLATE "C" NOT NULL,
        digest bytea,
        generation bigint NOT NULL,
        as_of bigint NOT NULL,
        created_at bigint NOT NULL,
        expires_at bigint NOT NULL,
        last_seen_at bigint NOT NULL,
        idle_timeout bigint,
        parent_session_id bytea,
        replays bigint NOT NULL,             -- 1 replayed since the rotation, 2 window closed, 4 n: n replayed rotations in a row
        rotated_at bigint,
        ended_at bigint,
        ended_position bigint,
        details bytea NOT NULL,              -- MessagePack: what no statement looks at (stores/rows.py)
        PRIMARY KEY (session_id, day)
    ) PARTITION BY RANGE (day);
    -- No index holds what a rotation or a touch changes, so each of them writes one page.
    CREATE INDEX sessions_by_subject ON keyfob.sessions (subject, parent_session_id) WHERE ended_at IS NULL;
    CREATE INDEX sessions_by_parent ON keyfob.sessions (parent_session_id) WHERE parent_session_id IS NOT NULL;
    -- Of all rows: were it of those that nobody ended, a look-up by subject could walk through it where statistics are missing.
    CREATE INDEX sessions_by_age ON keyfob.sessions (created_at);
    CREATE INDEX sessions_by_end ON keyfob.sessions (expires_at);
    CREATE TABLE keyfob.sessions_other PARTITION OF keyfob.sessions DEFAULT WITH (fillfactor = 80);
    CREATE INDEX sessions_other_by_day ON keyfob.sessions_other (day, session_id);

    CREATE TABLE keyfob.session_data (
        day integer NOT NULL CHECK (day = get_byte(session_id, 4) * 256 + get_byte(session_id, 5)),
        session_id bytea NOT NULL,
        version bigint NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (session_id, day)
    ) PARTITION BY RANGE (day);
    CREATE TABLE keyfob.session_data_other PARTITION OF keyfob.session_data DEFAULT;

    CREATE TABLE keyfob.keys (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        key_id text NOT NULL UNIQUE,
        purpose text NOT NULL,
        algorithm text NOT NULL,
        sealed bytea NOT NULL,
        created_at bigint NOT NULL,
        activates_at bigint NOT NULL,
        revoked_at bigint
    );

    CREATE TABLE keyfob.subjects (
        subject text COLLATE "C" PRIMARY KEY,
        roles text NOT NULL,                 -- JSON
        disabled_at bigint
    );

    CREATE TABLE keyfob.accounts (
        subject text COLLATE "C" PRIMARY KEY,
        name text COLLATE "C" NOT NULL UNIQUE,
        password_hash text NOT NULL,
        created_at bigint NOT NULL,
        password_changed_at bigint NOT NULL
    );

    CREATE TABLE keyfob.attempts (
        key text COLLATE "C" PRIMARY KEY,
        count bigint NOT NULL,
        last_at bigint NOT NULL
    );
    CREATE INDEX attempts_by_moment ON keyfob.attempts (last_at);

    -- Addresses that have logged in to an account, under the throttle's keys.
    CREATE TABLE keyfob.familiar (
        key text COLLATE "C" PRIMARY KEY,
        since bigint NOT NULL
    );
    CREATE INDEX familiar_by_moment ON keyfob.familiar (since);

    CREATE TABLE keyfob.clients (
        client_id text COLLATE "C" PRIMARY KEY,
        created_at bigint NOT NULL,
        secret_digests bytea NOT NULL,       -- 32 bytes each
        scopes text NOT NULL,                -- JSON, as the next ones
        strategies text NOT NULL,
        default_strategy text NOT NULL,
        audiences text NOT NULL,
        access_lifetime bigint
    );

    CREATE TABLE keyfob.events (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at bigint NOT NULL,
        code text NOT NULL,
        actor text NOT NULL,
        subject text COLLATE "C",
        session_id text,
        client_id text,
        address text,
        reason text,
        facts text                           -- JSON, NULL where there are none
    );
    CREATE INDEX events_by_subject ON keyfob.events (subject, number) WHERE subject IS NOT NULL;
    CREATE INDEX events_by_code ON keyfob.events (code, number);
    CREATE INDEX events_by_moment ON keyfob.events (at);
"""

_REPORT_TABLES = """
    -- What verifiers report. The record changes as a whole: MessagePack (revocation/reports.py, VerifierRecord).
    CREATE TABLE keyfob.verifiers (
        client_id text COLLATE "C" NOT NULL,
        name text COLLATE "C" NOT NULL,
        instance text COLLATE "C" NOT NULL,
        heard_at bigint NOT NULL,
        record bytea NOT NULL,
        PRIMARY KEY (client_id, name, instance)
    );
    CREATE INDEX verifiers_by_moment ON keyfob.verifiers (heard_at);

    CREATE TABLE keyfob.canaries (
        number bigint PRIMARY KEY,
        position bigint NOT NULL,
        at bigint NOT NULL
    );
"""


_MOVING_TABLES = """
    CREATE TABLE keyfob.move (
        only_row integer PRIMARY KEY CHECK (only_row = 1),
        role text NOT NULL,
        copy_id text NOT NULL,
        place text NOT NULL,
        progress text NOT NULL
    );

    -- A row that changes again gets a new number, so that what was read before is not forgotten with it.
    CREATE TABLE keyfob.changes (
        kind text COLLATE "C" NOT NULL,
        key text COLLATE "C" NOT NULL,
        number bigint GENERATED ALWAYS AS IDENTITY,
        PRIMARY KEY (kind, key)
    );
    CREATE INDEX changes_by_number ON keyfob.changes (number);
"""


async def _make_tables(connection: Connection) -> None:
    await connection.execute(_TABLES)
    await connection.execute(
        "INSERT INTO keyfob.meta VALUES (1, 0, 0, $1, $2, 0, $3, 0, 0, 0)",
        os.urandom(32),
        os.urandom(8).hex(),
        CHAIN_START,
    )


async def _make_report_tables(connection: Connection) -> None:
    await connection.execute(_REPORT_TABLES)


async def _make_moving_tables(connection: Connection) -> None:
    await connection.execute(_MOVING_TABLES)


async def _make_machine_tables(connection: Connection) -> None:
    await connection.execute(MACHINE_TABLES)


async def _make_grant_tables(connection: Connection) -> None:
    await connection.execute(GRANT_TABLES)


Step = Callable[[Connection], Awaitable[None]]
_STEPS: tuple[Step, ...] = (
    _make_tables,
    _make_report_tables,
    _make_moving_tables,
    _make_machine_tables,
    _make_grant_tables,
)
SCHEMA_VERSION = len(_STEPS)
OLDEST_VERSION = SCHEMA_VERSION
"""The oldest schema whose Keyfob can work on this one: what it does not know must do it no harm."""


async def migrate(options: PostgresOptions, *, patience: timedelta) -> int:
    """Bring the database to this version's schema and return the version that it had (0: new).

    Safe when several processes do it at once: one does, the others wait. It is one transaction: a crash leaves the old schema. It waits for each
    lock for *patience*, and whoever comes to that table after it waits for it.

    Raises:
        ConfigurationError: too old a server, no UTF-8, a schema `keyfob` that is not ours, or one of a newer Keyfob.
        StoreUnavailable: the server does not answer, or somebody held a table for longer than *patience*: then nothing was changed.
    """
    milliseconds = max(1, round(patience.total_seconds() * 1000))  # 0 would wait for ever
    try:
        connection = await connect(options.listen_at or options.addresses, options, is_pooled=False)
        try:
            await connection.execute(f"SET lock_timeout = {milliseconds}; SET statement_timeout = 0")
            async with connection.transaction(isolation="read_committed"):
                return await _migrate(connection, options.name)
        finally:
            await connection.close(timeout=options.connect_timeout.total_seconds())
    except asyncpg.LockNotAvailableError:
        raise StoreUnavailable(
            f"the migration of {options.name} waited {patience.total_seconds():g} s for a table that somebody uses, and changed nothing:"
            " end what holds it (pg_stat_activity shows long transactions, such as reports and back-ups), or wait longer with --wait"
        ) from None
    except FAULTS as error:
        raise at_opening(error, options.name) from None


async def version_at(options: PostgresOptions) -> int:
    """Return the version of the schema, also where the store is closed for a move; 0: there is none.

    Raises:
        ConfigurationError: too old a server, no UTF-8, or a schema `keyfob` that is not ours.
        StoreUnavailable: no primary answers.
    """
    try:
        connection = await connect(options.listen_at or options.addresses, options, is_pooled=False)
        try:
            await check_server(connection, options.name)
            return (await read_versions(connection, options.name))[0]
        finally:
            await connection.close(timeout=options.connect_timeout.total_seconds())
    except FAULTS as error:
        raise at_opening(error, options.name) from None


async def check_server(connection: Connection, name: str) -> None:
    """Refuse a server on which what is acknowledged would not be kept, or that is too old.

    Raises:
        ConfigurationError: what is wrong and how to mend it.
    """
    row = await connection.fetchrow(
        "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),"
        " current_setting('synchronous_commit')"
    )
    assert row is not None
    version, encoding, commit = row
    if version < OLDEST_SERVER:
        raise ConfigurationError(
            f"the database {name} is PostgreSQL {version // 10_000}: 14 or newer is needed"
        )
    if encoding != "UTF8":
        raise ConfigurationError(
            f"the database {name} has the encoding {encoding}: make it with ENCODING 'UTF8'"
        )
    if commit == "off":
        raise ConfigurationError(
            f"the database {name} has synchronous_commit = off, so an acknowledged revocation could be lost:"
            " ALTER ROLE ... SET synchronous_commit = on"
        )


async def check_schema(connection: Connection, name: str) -> None:
    """Refuse a schema that this version cannot work on.

    Raises:
        ConfigurationError: it is older (`keyfob migrate`), newer and not compatible, or not there; or the store has moved.
    """
    await require_open(connection, name)
    version, oldest = await read_versions(connection, name)
    if version < SCHEMA_VERSION:
        raise ConfigurationError(
            f"the database {name} has schema {version}, this Keyfob needs {SCHEMA_VERSION}: run `keyfob migrate`"
        )
    if oldest > SCHEMA_VERSION:
        raise _is_newer(name, version)


async def _migrate(connection: Connection, name: str) -> int:
    await check_server(connection, name)
    await require_open(connection, name)
    await connection.execute("SELECT pg_advisory_xact_lock($1, 0)", LockClass.MIGRATION.value)
    before, oldest = await read_versions(connection, name)  # another process may have been faster
    if oldest > SCHEMA_VERSION:
        raise _is_newer(name, before)
    if before < SCHEMA_VERSION:
        await require_unmarked(connection, name)
    for step in _STEPS[before:]:
        await step(connection)
    if before < SCHEMA_VERSION:
        await connection.execute(
            "UPDATE keyfob.meta SET version = $1, oldest_version = $2", SCHEMA_VERSION, OLDEST_VERSION
        )
    return before


async def read_versions(connection: Connection, name: str) -> tuple[int, int]:
    """Return the version of the schema (0: there is none), and the oldest one whose Keyfob can work on it."""
    if await connection.fetchval("SELECT to_regnamespace('keyfob')") is None:
        return 0, 0
    meta = await meta_of(connection)
    if await connection.fetchval("SELECT to_regclass($1)", meta) is None:
        raise ConfigurationError(
            f"the database {name} has a schema keyfob that is not Keyfob's: use another database"
        )
    try:
        row = await connection.fetchrow(f"SELECT version, oldest_version FROM {meta}")  # noqa: S608 - constants
    except asyncpg.UndefinedColumnError:
        row = None
    if row is None:
        raise ConfigurationError(
            f"the database {name} has a table keyfob.meta that is not Keyfob's: use another database"
        )
    return row[0], row[1]


def _is_newer(name: str, version: int) -> ConfigurationError:
    return ConfigurationError(
        f"the database {name} has schema {version}, made by a newer Keyfob than this one (schema {SCHEMA_VERSION}):"
        " upgrade Keyfob"
    )
