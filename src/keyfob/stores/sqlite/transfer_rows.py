"""How the records of each kind are selected, put and removed in a SQLite file."""

from __future__ import annotations

import sqlite3

from keyfob.stores.record_rows import FORMS
from keyfob.stores.records import AnyRecord, FeedRow, Kind, SessionRow, number_key
from keyfob.stores.rows import Row

_DIGITS = len(number_key(0))

KEY_TEXTS: dict[Kind, str] = {
    Kind.FEED: "'feed'",
    Kind.KEYS: "{0}.key_id",
    Kind.CLIENTS: "{0}.client_id",
    Kind.SUBJECTS: "{0}.subject",
    Kind.ACCOUNTS: "{0}.subject",
    Kind.ENTRIES: f"printf('%0{_DIGITS}d', {{0}}.position)",
    Kind.CUT_OFFS: "{0}.scope || ' ' || {0}.id",
    Kind.SESSIONS: "lower(hex({0}.session_id))",
    Kind.ATTEMPTS: "{0}.key",
    Kind.FAMILIAR: "{0}.key",
    Kind.EVENTS: f"printf('%0{_DIGITS}d', {{0}}.number)",
    Kind.VERIFIERS: (
        "length({0}.client_id) || ':' || length({0}.name) || ':' || {0}.client_id || {0}.name || {0}.instance"
    ),
    Kind.CANARIES: f"printf('%0{_DIGITS}d', {{0}}.number)",
    Kind.ASSERTIONS: "lower(hex({0}.digest))",
    Kind.ONE_TIMES: "{0}.kind || ' ' || lower(hex({0}.digest))",
    Kind.CONSENTS: "length(CAST({0}.subject AS BLOB)) || ':' || {0}.subject || {0}.client_id",
    Kind.DELIVERIES: "{0}.delivery_id",
    Kind.CURSORS: "{0}.consumer",
}
"""SQL for the text of the key of the row named `{0}`."""


def source(kind: Kind) -> str:
    """Return what stands behind FROM, with the rows of *kind* as `s`."""
    table = f"{FORMS[kind].table} AS s"
    if kind is Kind.SESSIONS:
        return f"{table} LEFT JOIN session_data AS d ON d.session_id = s.session_id"
    return table


def select(kind: Kind, condition: str) -> str:
    """Return the statement that reads the rows of which *condition* holds, by key."""
    form = FORMS[kind]
    columns = [f"s.{column}" for column in form.columns]
    if kind is Kind.SESSIONS:
        columns += ["d.data", "d.version"]
    order = ", ".join(f"s.{column}" for column in form.key)
    return f"SELECT {', '.join(columns)} FROM {source(kind)} WHERE {condition} ORDER BY {order}"  # noqa: S608 - constants


def put(connection: sqlite3.Connection, record: AnyRecord) -> None:
    """Put *record* in place of what stands under its key."""
    form = FORMS[record.kind]
    row = form.row(record)
    if isinstance(record, FeedRow):
        assigned = ", ".join(f"{column} = ?" for column in form.columns)
        connection.execute(f"UPDATE meta SET {assigned}", row)  # noqa: S608 - constants
        return
    marks = ", ".join("?" * len(row))
    connection.execute(
        f"INSERT OR REPLACE INTO {form.table} ({', '.join(form.columns)}) VALUES ({marks})",  # noqa: S608 - constants
        row,
    )
    if isinstance(record, SessionRow):
        _put_data(connection, record, row)


def remove(connection: sqlite3.Connection, kind: Kind, key: str) -> None:
    """Remove the record of *key*; the row of the feed stays."""
    form = FORMS[kind]
    if kind is Kind.FEED:
        return
    condition = " AND ".join(f"{column} = ?" for column in form.key)
    connection.execute(f"DELETE FROM {form.table} WHERE {condition}", form.key_of(key))  # noqa: S608 - constants
    if kind is Kind.SESSIONS:
        connection.execute("DELETE FROM session_data WHERE session_id = ?", form.key_of(key))


def clear(connection: sqlite3.Connection, kind: Kind) -> None:
    """Remove all records of *kind*; the row of the feed stays."""
    if kind is Kind.FEED:
        return
    connection.execute(f"DELETE FROM {FORMS[kind].table}")  # noqa: S608 - constants
    if kind is Kind.SESSIONS:
        connection.execute("DELETE FROM session_data")


def _put_data(connection: sqlite3.Connection, record: SessionRow, row: Row) -> None:
    connection.execute("DELETE FROM session_data WHERE session_id = ?", (row[0],))
    if record.version:
        connection.execute(
            "INSERT INTO session_data (session_id, version, data) VALUES (?, ?, ?)",
            (row[0], record.version, record.data),
        )
