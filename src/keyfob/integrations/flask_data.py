"""What `flask.session` holds, as bytes: the JSON of Flask's own sessions, of at most 4 KiB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from flask.json.tag import TaggedJSONSerializer

from keyfob.base.errors import InvalidRequest
from keyfob.sessions.store import MAX_DATA

_SHOWN = 5  # keys named where the data is too large
_SERIALIZER: Final = TaggedJSONSerializer()


def dump(value: object) -> str:
    """Return *value* as Flask writes it into a session: JSON, with tags for tuples, bytes, dates, UUIDs and markup."""
    return _SERIALIZER.dumps(value)


def load(data: bytes) -> dict[str, object]:
    """Return what `dump` wrote; nothing for nothing."""
    return cast("dict[str, object]", _SERIALIZER.loads(data.decode("utf-8"))) if data else {}


def encoded(values: Mapping[str, object]) -> bytes:
    """Return *values* as they are stored.

    Raises:
        InvalidRequest: `session_data_too_large`.
    """
    data = dump(dict(values)).encode("utf-8") if values else b""
    if len(data) <= MAX_DATA:
        return data
    sizes = {name: len(dump(value).encode("utf-8")) for name, value in values.items()}
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:_SHOWN]
    raise InvalidRequest(
        "session_data_too_large",
        f"The data of a session has at most {MAX_DATA} bytes, not {len(data)}; the largest keys are "
        + ", ".join(f"{name!r} ({sizes[name]})" for name in largest),
        status=413,
    )
