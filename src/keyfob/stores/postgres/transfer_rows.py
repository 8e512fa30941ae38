"""How the records of each kind are selected, put and removed in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.postgres.reading import day_of
from keyfob.stores.record_rows import FORMS
from keyfob.stores.records import AccountRow, AnyRecord, EventRow, Kind, SessionRow, number_key
from keyfob.stores.rows import Row

_DIGITS = len(number_key(0))

KEY_TEXTS: dict[Kind, str] = {
    Kind.FEED: "'feed'",
    Kind.KEYS: "{0}.key_id",
    Kind.CLIENTS: "{0}.client_id",
    Kind.SUBJECTS: "{0}.subject",
    Kind.ACCOUNTS: "{0}.subject",
    Kind.ENTRIES: f"lpad({{0}}.position::text, {_DIGITS}, '0')",
    Kind.CUT_OFFS: "{0}.scope || ' ' || {0}.id",
    Kind.SESSIONS: "encode({0}.session_id, 'hex')",
    Kind.ATTEMPTS: "{0}.key",
    Kind.FAMILIAR: "{0}.key",
    Kind.EVENTS: f"lpad({{0}}.number::text, {_DIGITS}, '0')",
    Kind.VERIFIERS: (
        "char_length({0}.client_id) || ':' || char_length({0}.name) || ':' ||"
        " {0}.client_id || {0}.name || {0}.instance"
    ),
    Kind.CANARIES: f"lpad({{0}}.number::text, {_DIGITS}, '0')",
    Kind.ASSERTIONS: "encode({0}.digest, 'hex')",
    Kind.ONE_TIMES: "{0}.kind || ' ' || encode({0}.digest, 'hex')",
    Kind.CONSENTS: "octet_length({0}.subject) || ':' || {0}.subject || {0}.client_id",
    Kind.DELIVERIES: "{0}.delivery_id",
    Kind.CURSORS: "{0}.consumer",
}
"""SQL for the text of the key of the row named `{0}`."""

_KEY_TYPES = {
    Kind.FEED: ("integer",),
    Kind.ENTRIES: ("bigint",),
    Kind.SESSIONS: ("bytea",),
    Kind.EVENTS: ("bigint",),
    Kind.CANARIES: ("bigint",),
    Kind.ASSERTIONS: ("bytea",),
    Kind.ONE_TIMES: ("text", "bytea"),
}
_DATA = "keyfob.session_data AS d ON d.day = s.day AND d.session_id = s.session_id"


async def read_page(
    connection: Connection, kind: Kind, *, meta: str, now: int, after: str | None, limit: int
) -> list[AnyRecord]:
    """Return up to *limit* records of *kind* that are not over at *now* (microseconds) and come behind the key *after*."""
    form = FORMS[kind]
    values: list[object] = [limit]
    condition = _live(kind, values, now)
    if after is not None:
        key_values = form.key_of(after)
        marks = [f"${len(values) + number}" for number in range(1, len(key_values) + 1)]
        values += key_values
        condition += f" AND ({_key(kind)}) > ({', '.join(marks)})"
    order = f"ORDER BY {_key(kind)} LIMIT $1"
    rows = await connection.fetch(f"{_select(kind, meta)} WHERE {condition} {order}", *values)
    return [form.record(tuple(row)) for row in rows]


async def read_keys(
    connection: Connection, kind: Kind, keys: Sequence[str], *, meta: str
) -> dict[str, AnyRecord]:
    """Return the records of *keys*, by key; those that do not stand are missing."""
    form = FORMS[kind]
    columns: list[Iterable[object]] = list(zip(*map(form.key_of, keys), strict=True))
    types = _KEY_TYPES.get(kind, ("text",) * len(form.key))
    arrays = [f"${number}::{type_}[]" for number, type_ in enumerate(types, 1)]
    wanted = f"unnest({', '.join(arrays)}) AS w ({', '.join(form.key)})"
    condition = " AND ".join(f"s.{column} = w.{column}" for column in form.key)
    if kind is Kind.SESSIONS:
        wanted = "unnest($1::bytea[], $2::int[]) AS w (session_id, day)"
        condition += " AND s.day = w.day"
        columns.append([day_of(key) for (key,) in map(form.key_of, keys) if isinstance(key, bytes)])
    rows = await connection.fetch(
        f"{_select(kind, meta, f'{wanted} JOIN', f'ON {condition}')}", *(list(column) for column in columns)
    )
    return {record.key: record for record in (form.record(tuple(row)) for row in rows)}


async def count_rows(connection: Connection, kind: Kind, *, meta: str, now: int) -> int:
    """Return how many records of *kind* are not over at *now*."""
    values: list[object] = []
    condition = _live(kind, values, now)
    table = _table(kind, meta)
    count: int = await connection.fetchval(f"SELECT count(*) FROM {table} AS s WHERE {condition}", *values)  # noqa: S608 - constants
    return count


async def put(connection: Connection, records: Sequence[AnyRecord], *, meta: str) -> None:
    """Put *records* in place of what stands under their keys."""
    for kind in Kind:
        of_kind = [record for record in records if record.kind is kind]
        if of_kind:
            await _put_kind(connection, kind, of_kind, meta)


async def remove(connection: Connection, kind: Kind, keys: Sequence[str]) -> None:
    """Remove the records of *keys*; the row of the feed stays."""
    if kind is Kind.FEED:
        return
    form = FORMS[kind]
    condition = " AND ".join(f"{column} = ${number}" for number, column in enumerate(form.key, 1))
    tables, rows = [form.table], [form.key_of(key) for key in keys]
    if kind is Kind.SESSIONS:
        tables, condition = ["session_data", "sessions"], f"{condition} AND day = $2"
        rows = [(key, day_of(key)) for (key,) in rows if isinstance(key, bytes)]
    for table in tables:
        await connection.executemany(f"DELETE FROM keyfob.{table} WHERE {condition}", rows)  # noqa: S608 - constants


async def clear(connection: Connection, kind: Kind) -> None:
    """Remove all records of *kind*; the row of the feed stays."""
    if kind is Kind.FEED:
        return
    if kind is Kind.SESSIONS:
        await connection.execute("DELETE FROM keyfob.session_data")
    await connection.execute(f"DELETE FROM keyfob.{FORMS[kind].table}")  # noqa: S608 - constants


def _table(kind: Kind, meta: str) -> str:
    return meta if kind is Kind.FEED else f"keyfob.{FORMS[kind].table}"


def _select(kind: Kind, meta: str, before: str = "", after: str = "") -> str:
    """Return the beginning of a statement that reads rows `s`; *before* and *after* join something else to them."""
    columns = [f"s.{column}" for column in FORMS[kind].columns]
    data = ""
    if kind is Kind.SESSIONS:
        columns += ["d.data", "d.version"]
        data = f" LEFT JOIN {_DATA}"
    return f"SELECT {', '.join(columns)} FROM {before} {_table(kind, meta)} AS s {after}{data}"  # noqa: S608 - constants


def _key(kind: Kind) -> str:
    return ", ".join(f"s.{column}" for column in FORMS[kind].key)


def _live(kind: Kind, values: list[object], now: int) -> str:
    """Return the condition on what is not over; *values* are what the statement is given, to which it may add."""
    live = FORMS[kind].live
    if "{now}" in live:
        values.append(now)
    return live.format(now=f"${len(values)}")


async def _put_kind(connection: Connection, kind: Kind, records: Sequence[AnyRecord], meta: str) -> None:
    form = FORMS[kind]
    rows = [form.row(record) for record in records]
    match kind:
        case Kind.FEED:
            assigned = ", ".join(f"{column} = ${number}" for number, column in enumerate(form.columns, 1))
            await connection.executemany(f"UPDATE {meta} SET {assigned}", rows)  # noqa: S608 - constants
        case Kind.SESSIONS:
            await _put_sessions(connection, records, rows)
        case Kind.ACCOUNTS:
            # A name whose account was deleted, and which was given away again, since it was carried.
            holders = [(one.name, one.subject) for one in records if isinstance(one, AccountRow)]
            await connection.executemany(
                "DELETE FROM keyfob.accounts WHERE name = $1 AND subject <> $2", holders
            )
            await connection.executemany(_upsert(kind, form.columns, form.key), rows)
        case Kind.ONE_TIMES:
            # An alias that was given up, and given away again, since it was carried.
            aliases = [(row[0], row[2], row[1]) for row in rows if row[2] is not None]
            await connection.executemany(
                "UPDATE keyfob.one_times SET alias = NULL WHERE kind = $1 AND alias = $2 AND digest <> $3",
                aliases,
            )
            await connection.executemany(_upsert(kind, form.columns, form.key), rows)
        case Kind.EVENTS:
            await connection.executemany(_upsert(kind, form.columns, form.key), rows)
            await _number_events_from(connection, records)
        case _:
            await connection.executemany(_upsert(kind, form.columns, form.key), rows)


def _upsert(kind: Kind, columns: Sequence[str], key: Sequence[str]) -> str:
    marks = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    sets = ", ".join(f"{column} = excluded.{column}" for column in columns if column not in key)
    numbered = "OVERRIDING SYSTEM VALUE" if kind is Kind.EVENTS else ""
    return (
        f"INSERT INTO keyfob.{FORMS[kind].table} ({', '.join(columns)}) {numbered} VALUES ({marks})"  # noqa: S608 - constants
        f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {sets}"
    )


async def _put_sessions(connection: Connection, records: Sequence[AnyRecord], rows: Sequence[Row]) -> None:
    form = FORMS[Kind.SESSIONS]
    days = [day_of(row[0]) for row in rows if isinstance(row[0], bytes)]
    await connection.executemany(
        _upsert(Kind.SESSIONS, ("day", *form.columns), ("session_id", "day")),
        [(day, *row) for day, row in zip(days, rows, strict=True)],
    )
    data = [
        (day, row[0], record.version, record.data)
        for day, row, record in zip(days, rows, records, strict=True)
        if isinstance(record, SessionRow)
    ]
    await connection.execute(
        "DELETE FROM keyfob.session_data AS d USING unnest($1::int[], $2::bytea[]) AS w (day, id)"
        " WHERE d.day = w.day AND d.session_id = w.id",
        days,
        [row[0] for row in rows],
    )
    await connection.executemany(
        "INSERT INTO keyfob.session_data (day, session_id, version, data) VALUES ($1, $2, $3, $4)",
        [one for one in data if one[2]],
    )


async def _number_events_from(connection: Connection, records: Sequence[AnyRecord]) -> None:
    """Let the next event get a number behind those of *records*."""
    last = max(record.number for record in records if isinstance(record, EventRow))
    await connection.execute(
        "SELECT setval('keyfob.events_number_seq', greatest($1, last_value)) FROM keyfob.events_number_seq",
        last,
    )
