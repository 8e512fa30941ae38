"""What every store decides about reports. Pure."""

from __future__ import annotations

from datetime import datetime

from keyfob.revocation.canary import AUDIENCE_MEMORY
from keyfob.revocation.reports import MAX_VERIFIERS, MAX_VERIFIERS_PER_CLIENT


def has_room(*, of_client: int, in_all: int) -> bool:
    """Say whether another verifier can be noted beside so many *of_client* and *in_all*."""
    return of_client < MAX_VERIFIERS_PER_CLIENT and in_all < MAX_VERIFIERS


def has_audience(last_heard: datetime | None, now: datetime) -> bool:
    """Say whether a verifier was heard so lately that somebody would measure a canary."""
    return last_heard is not None and now - last_heard <= AUDIENCE_MEMORY
