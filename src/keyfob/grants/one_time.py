"""The one-time record: a secret that buys something exactly once, and what it buys."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from keyfob.base.identifiers import Position

DIGEST = 32  # bytes of a SHA-256 digest
MAX_BODY = 32_768  # bytes: a pushed request with everything that its parameters may hold, and room to spare


class OneTimeKind(StrEnum):
    """What a record is. A secret of one kind is never found under another, so a code is no device code."""

    CODE = "code"
    REQUEST = "request"
    DEVICE = "device"
    HAND_OFF = "hand_off"


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTime:
    """A record that is taken once.

    `digest` (32 bytes) is that of the secret; `alias` one of a second secret by which a person finds it (the user code of the device flow),
    which no two records of a kind have while both are open, and which is given up when the record is taken. `body` is JSON that its
    service wrote. `version` counts what was done to it. `as_of` is the position of the feed known before anything that the record
    stands for was read: whatever is bought with it has no later one.

    At `expires_at` it can no longer be taken. One that was taken is kept for a day longer, so that a second use is known for what it is:
    the first of those sets `reused_at`.
    """

    kind: OneTimeKind
    digest: bytes = field(repr=False)
    body: bytes = field(repr=False)
    as_of: Position
    created_at: datetime
    expires_at: datetime
    alias: bytes | None = field(default=None, repr=False)
    version: int = 1
    taken_at: datetime | None = None
    reused_at: datetime | None = None
