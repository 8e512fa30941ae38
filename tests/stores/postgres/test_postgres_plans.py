"""Whatever PostgreSQL believes of tables that were never analysed, no look-up walks through a table or through the wrong index."""

from __future__ import annotations

import re

import pytest

from keyfob.stores.postgres import adding, reading
from keyfob.stores.postgres.database import Database

DAYS, KEYS, NAMES = [0], [bytes(16)], ["alice"]
BY_KEY = "sessions_other_pkey|sessions_other_by_day"  # either holds both columns
BY_SUBJECT = "SELECT 1 FROM keyfob.sessions AS s WHERE s.subject = $1 AND s.ended_at IS NULL"
LISTED = f"{BY_SUBJECT} ORDER BY s.created_at + 0 DESC, s.session_id DESC LIMIT 5"


@pytest.mark.parametrize(
    ("statement", "arguments", "index"),
    [
        (reading._SELECT_IDS, (DAYS, KEYS), BY_KEY),
        (reading._LOCK, (DAYS, KEYS), BY_KEY),
        (adding._MAY_STAND, (NAMES, NAMES), "subject_parent_session_id_idx"),
        (LISTED, ("alice",), "subject_parent_session_id_idx"),
        (
            "SELECT 1 FROM unnest($1::bytea[]) AS w (id) JOIN keyfob.sessions AS s ON s.parent_session_id = w.id",
            (KEYS,),
            "other_parent_session_id_idx",
        ),
    ],
)
async def test_a_look_up_goes_by_its_index(
    database: Database, statement: str, arguments: tuple[object, ...], index: str
) -> None:
    rows = await database.read(lambda connection: connection.fetch(f"EXPLAIN {statement}", *arguments))
    plan = [row[0] for row in rows]
    looking = [line for line in plan if " on sessions_other" in line]
    assert looking, plan
    assert all(re.search(index, line) for line in looking), looking
