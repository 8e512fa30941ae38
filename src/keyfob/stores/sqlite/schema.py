"""The schema and its versions. Moments are microseconds since the epoch, UTC; spans are microseconds; ids of sessions are 16 bytes.

A step, once released, is never changed: a later one is added behind it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

from keyfob.base.errors import ConfigurationError
from keyfob.revocation.entry import CHAIN_START
from keyfob.stores.sqlite.connections import connect, create, patiently
from keyfob.stores.sqlite.faults import primary_code, unavailable
from keyfob.stores.sqlite.options import SqliteOptions

APPLICATION_ID = 0x4B46_4F42  # "KFOB", where `file` finds it

_TABLES = (
    """
    CREATE TABLE meta (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        salt BLOB NOT NULL,
        timeline TEXT NOT NULL,
        position INTEGER NOT NULL,           -- the head of the feed
        chain BLOB NOT NULL,
        at INTEGER NOT NULL,                 -- the moment of its last entry
        longest_credential INTEGER NOT NULL, -- the longest lifetimes ever granted
        longest_session INTEGER NOT NULL
    )
    """,
    """
    CREATE TABLE entries (
        position INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        scope TEXT NOT NULL,
        id TEXT NOT NULL,
        reach TEXT NOT NULL,
        spared TEXT,
        until INTEGER,                       -- NULL: kept for good
        chain BLOB NOT NULL
    )
    """,
    "CREATE INDEX entries_by_until ON entries (until) WHERE until IS NOT NULL",
    # Of several cut-offs of one place the last covers all that the earlier ones do.
    """
    CREATE TABLE cut_offs (
        scope TEXT NOT NULL,
        id TEXT NOT NULL,
        position INTEGER NOT NULL,
        at INTEGER NOT NULL,
        until INTEGER NOT NULL,
        PRIMARY KEY (scope, id)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX cut_offs_by_until ON cut_offs (until)",
    # A look-up is one descent: the row lies in the tree of its key, which begins with a hash of the subject.
    """
    CREATE TABLE sessions (
        session_id BLOB PRIMARY KEY,
        subject TEXT NOT NULL,
        client_id TEXT NOT NULL,
        digest BLOB,
        generation INTEGER NOT NULL,
        as_of INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        last_seen_at INTEGER NOT NULL,
        idle_timeout INTEGER,
        parent_session_id BLOB,
        replays INTEGER NOT NULL,            -- 1 replayed since the rotation, 2 window closed, 4 n: n replayed rotations in a row
        rotated_at INTEGER,
        ended_at INTEGER,
        ended_position INTEGER,
        details BLOB NOT NULL                -- MessagePack: what no statement looks at (rows.py)
    ) WITHOUT ROWID
    """,
    # No index holds what a rotation or a touch changes, so each of them writes one page.
    "CREATE INDEX sessions_by_subject ON sessions (subject, parent_session_id) WHERE ended_at IS NULL",
    "CREATE INDEX sessions_by_parent ON sessions (parent_session_id) WHERE parent_session_id IS NOT NULL",
    "CREATE INDEX sessions_by_age ON sessions (created_at) WHERE ended_at IS NULL",
    "CREATE INDEX sessions_by_end ON sessions (expires_at)",
    """
    CREATE TABLE session_data (
        session_id BLOB PRIMARY KEY,
        version INTEGER NOT NULL,
        data BLOB NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE keys (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        key_id TEXT NOT NULL UNIQUE,
        purpose TEXT NOT NULL,
        algorithm TEXT NOT NULL,
        sealed BLOB NOT NULL,
        created_at INTEGER NOT NULL,
        activates_at INTEGER NOT NULL,
        revoked_at INTEGER
    )
    """,
    """
    CREATE TABLE subjects (
        subject TEXT PRIMARY KEY,
        roles TEXT NOT NULL,                 -- JSON
        disabled_at INTEGER
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE accounts (
        subject TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        password_hash TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        password_changed_at INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE attempts (
        key TEXT PRIMARY KEY,
        count INTEGER NOT NULL,
        last_at INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX attempts_by_moment ON attempts (last_at)",
    # Addresses that have logged in to an account, under the throttle's keys.
    """
    CREATE TABLE familiar (
        key TEXT PRIMARY KEY,
        since INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX familiar_by_moment ON familiar (since)",
    """
    CREATE TABLE clients (
        client_id TEXT PRIMARY KEY,
        created_at INTEGER NOT NULL,
        secret_digests BLOB NOT NULL,        -- 32 bytes each
        scopes TEXT NOT NULL,                -- JSON, as the next ones
        strategies TEXT NOT NULL,
        default_strategy TEXT NOT NULL,
        audiences TEXT NOT NULL,
        access_lifetime INTEGER
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE events (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        code TEXT NOT NULL,
        actor TEXT NOT NULL,
        subject TEXT,
        session_id TEXT,
        client_id TEXT,
        address TEXT,
        reason TEXT,
        facts TEXT                           -- JSON, NULL where there are none
    )
    """,
    "CREATE INDEX events_by_subject ON events (subject) WHERE subject IS NOT NULL",
    "CREATE INDEX events_by_code ON events (code)",
    "CREATE INDEX events_by_moment ON events (at)",
)


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute(
        "INSERT INTO meta VALUES (1, ?, ?, 0, ?, 0, 0, 0)",
        (os.urandom(32), os.urandom(8).hex(), CHAIN_START),
    )


_REPORT_TABLES = (
    # What verifiers report. The record changes as a whole: MessagePack (revocation/reports.py, VerifierRecord).
    """
    CREATE TABLE verifiers (
        client_id TEXT NOT NULL,
        name TEXT NOT NULL,
        instance TEXT NOT NULL,
        heard_at INTEGER NOT NULL,
        record BLOB NOT NULL,
        PRIMARY KEY (client_id, name, instance)
    ) WITHOUT ROWID
    """,
    # It holds the key, too: who was heard last, and how many there are, is found without their records.
    "CREATE INDEX verifiers_by_moment ON verifiers (heard_at)",
    """
    CREATE TABLE canaries (
        number INTEGER PRIMARY KEY,
        position INTEGER NOT NULL,
        at INTEGER NOT NULL
    )
    """,
)


def _make_report_tables(connection: sqlite3.Connection) -> None:
    for statement in _REPORT_TABLES:
        connection.execute(statement)


_MOVING_TABLES = (
    """
    CREATE TABLE move (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        role TEXT NOT NULL,
        copy_id TEXT NOT NULL,
        place TEXT NOT NULL,
        progress TEXT NOT NULL
    )
    """,
    # A row that changes again gets a new number, so that what was read before is not forgotten with it.
    """
    CREATE TABLE changes (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        key TEXT NOT NULL
    )
    """,
    "CREATE INDEX changes_by_key ON changes (kind, key)",
)


def _make_moving_tables(connection: sqlite3.Connection) -> None:
    for statement in _MOVING_TABLES:
        connection.execute(statement)


_MACHINE_TABLES = (
    # MessagePack: what no statement looks at (stores/rows.py); empty in rows of before.
    "ALTER TABLE clients ADD COLUMN details BLOB NOT NULL DEFAULT x''",
    # The assertions of clients that were taken (RFC 7523), so that none is taken twice.
    """
    CREATE TABLE assertions (
        digest BLOB PRIMARY KEY,             -- of the client and the jti
        until INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX assertions_by_until ON assertions (until)",
)


def _make_machine_tables(connection: sqlite3.Connection) -> None:
    for statement in _MACHINE_TABLES:
        connection.execute(statement)


_GRANT_TABLES = (
    # What is taken once: codes, pushed requests, device codes, hand-offs.
    """
    CREATE TABLE one_times (
        kind TEXT NOT NULL,
        digest BLOB NOT NULL,
        alias BLOB,                          -- of the second secret; NULL once it is given up
        body BLOB NOT NULL,
        version INTEGER NOT NULL,
        as_of INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        taken_at INTEGER,
        reused_at INTEGER,
        kept_until INTEGER NOT NULL,
        PRIMARY KEY (kind, digest)
    ) WITHOUT ROWID
    """,
    "CREATE UNIQUE INDEX one_times_by_alias ON one_times (kind, alias) WHERE alias IS NOT NULL",
    "CREATE INDEX one_times_by_end ON one_times (kept_until)",
    """
    CREATE TABLE consents (
        subject TEXT NOT NULL,
        client_id TEXT NOT NULL,
        client_created_at INTEGER NOT NULL,  -- it ends with that client, whoever has the id later
        scopes TEXT NOT NULL,                -- JSON
        given_at INTEGER NOT NULL,
        changed_at INTEGER NOT NULL,
        PRIMARY KEY (subject, client_id)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX consents_by_client ON consents (client_id, client_created_at)",
    """
    CREATE TABLE deliveries (
        delivery_id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        client_id TEXT NOT NULL,
        body BLOB NOT NULL,
        created_at INTEGER NOT NULL,
        due_at INTEGER NOT NULL,             -- moved on by a lease
        expires_at INTEGER NOT NULL,
        attempts INTEGER NOT NULL            -- leases so far
    ) WITHOUT ROWID
    """,
    "CREATE INDEX deliveries_by_due ON deliveries (due_at)",
    "CREATE INDEX deliveries_by_end ON deliveries (expires_at)",
    """
    CREATE TABLE cursors (
        consumer TEXT PRIMARY KEY,
        timeline TEXT NOT NULL,
        position INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
)


def _make_grant_tables(connection: sqlite3.Connection) -> None:
    for statement in _GRANT_TABLES:
        connection.execute(statement)


_STEPS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    _make_tables,
    _make_report_tables,
    _make_moving_tables,
    _make_machine_tables,
    _make_grant_tables,
)
SCHEMA_VERSION = len(_STEPS)


def migrate(path: Path, options: SqliteOptions) -> int:
    """Make the file if there is none, bring it to this version's schema, and return the version that it had (0: new).

    Safe when several processes do it at once; a crash leaves the old schema.

    Raises:
        ConfigurationError: there is no such folder, the file is no Keyfob database, or one of a newer Keyfob.
        StoreUnavailable: the file is locked, full, read-only or damaged.
    """
    _make_file(path)
    try:
        connection = connect(path, busy_milliseconds=options.busy_milliseconds)
        try:
            return _migrate(connection, path, options)
        finally:
            connection.close()
    except sqlite3.Error as error:
        if primary_code(error) == sqlite3.SQLITE_NOTADB:
            raise ConfigurationError(f"{path} is no SQLite database: give --store another path") from None
        raise unavailable(error, path) from error


def _make_file(path: Path) -> None:
    """Create an empty file that its owner alone can read.

    SQLite itself makes it: whoever else closes a file, even one just made, drops the locks that other connections of this process
    have on it meanwhile, and then two of them make the tables at once.
    """
    if path.exists():
        if path.is_file():
            return
        raise ConfigurationError(f"{path} is no file: give --store the path of a database file")
    if not path.parent.is_dir():
        raise ConfigurationError(f"there is no folder {path.parent}: make it, or give --store another path")
    try:
        with NamedTemporaryFile(prefix=f".{path.name}.", dir=path.parent) as private:
            create(path, mode_of=Path(private.name))
    except (OSError, sqlite3.OperationalError) as error:
        raise ConfigurationError(
            f"{path} cannot be made ({error}): give this user write access to {path.parent}"
        ) from None


def _migrate(connection: sqlite3.Connection, path: Path, options: SqliteOptions) -> int:
    before = _version(connection, path)
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        patiently(connection, "PRAGMA journal_mode = WAL", options)
    if before == SCHEMA_VERSION:
        return before
    patiently(connection, "BEGIN EXCLUSIVE", options)
    before = _version(connection, path)  # another process may have been faster
    for step in _STEPS[before:]:
        step(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")
    return before


def _version(connection: sqlite3.Connection, path: Path) -> int:
    application, version, tables = connection.execute(
        "SELECT a.application_id, u.user_version, (SELECT count(*) FROM sqlite_master)"
        " FROM pragma_application_id AS a, pragma_user_version AS u"
    ).fetchone()
    if application != APPLICATION_ID and (application, version, tables) != (0, 0, 0):
        raise ConfigurationError(f"{path} is no Keyfob database: give --store another path")
    if version > SCHEMA_VERSION:
        raise ConfigurationError(
            f"{path} has schema {version}, made by a newer Keyfob than this one (schema {SCHEMA_VERSION}): upgrade Keyfob"
        )
    return int(version)
