"""How events are written, in the step that they are about."""

from __future__ import annotations

from collections.abc import Sequence

from keyfob.base.events import Event
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.rows import EVENT_COLUMNS, event_to

_INSERT = (
    f"INSERT INTO keyfob.events ({EVENT_COLUMNS})"  # noqa: S608 - constants
    " SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],"
    " $9::text[])"
)


async def write_events(connection: Connection, events: Sequence[Event]) -> None:
    """Append *events* to the audit trail, in their order."""
    if not events:
        return
    columns = zip(*(event_to(event) for event in events), strict=True)
    await connection.execute(_INSERT, *(list(column) for column in columns))
