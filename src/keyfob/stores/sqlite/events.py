"""How an event is written, in the step that it is about."""

from __future__ import annotations

import sqlite3

from keyfob.base.events import Event
from keyfob.stores.rows import EVENT_COLUMNS, event_to


def write_event(connection: sqlite3.Connection, event: Event) -> None:
    """Append *event* to the audit trail."""
    connection.execute(
        f"INSERT INTO events ({EVENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
        event_to(event),
    )
