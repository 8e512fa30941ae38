"""What an exported file says, whatever its format; and the plainest of the formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from keyfob.base.clock import to_micros
from keyfob.revocation.entry import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The live entries of one moment.

    `level_at` is the authority's signed time at which nothing else existed. `good_until` is when the file is too old to be gone by, by this
    machine's clock, on which its reader looks. `is_level` says that this moment is before that: else nothing may be let through.
    """

    issuer: str
    timeline: str
    position: int
    entries: tuple[Entry, ...]
    level_at: datetime
    good_until: datetime
    is_level: bool


Write = Callable[[Exported], bytes]
"""Writes a file's content. The same input gives the same bytes."""


def as_json(exported: Exported) -> bytes:
    """Write *exported* as JSON; moments are microseconds since the epoch, as on the wire, `good_until` by the clock of the writing machine."""
    return (
        msgspec.json.encode(
            {
                "issuer": exported.issuer,
                "timeline": exported.timeline,
                "position": exported.position,
                "level": exported.is_level,
                "level_at": to_micros(exported.level_at),
                "good_until": to_micros(exported.good_until),
                "entries": [_entry(entry) for entry in exported.entries],
            }
        )
        + b"\n"
    )


def _entry(entry: Entry) -> dict[str, object]:
    return {
        "position": entry.position,
        "scope": entry.scope.value,
        "id": entry.id,
        "reach": entry.reach.value,
        "except": entry.spared,
        "until": None if entry.until is None else to_micros(entry.until),
    }
