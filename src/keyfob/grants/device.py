"""What a device has asked for (RFC 8628), and what its next question comes to. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from keyfob.base.identifiers import ClientId, Position
from keyfob.grants.authorization_code import AuthorizationCode

LIFETIME: Final = timedelta(minutes=10)
"""How long somebody has to sign in elsewhere and to type the code."""
TOLD_FOR: Final = timedelta(minutes=30)
"""How long past its end a device that still asks is told that it came too late, and not that there is no such code."""
INTERVAL: Final = 5  # seconds between two questions of a device
SLOWER: Final = 5  # seconds more after each that came too early (RFC 8628, section 3.5)
SLOWEST: Final = 60  # seconds


class DeviceError(StrEnum):
    """Why a device gets nothing (yet): the errors of RFC 8628, section 3.5."""

    AUTHORIZATION_PENDING = "authorization_pending"
    SLOW_DOWN = "slow_down"
    ACCESS_DENIED = "access_denied"
    EXPIRED_TOKEN = "expired_token"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRequest:
    """The body of the record. `user_agent` and `address` are the device's, for whoever is asked to allow it.

    `approved` is what it gets, once somebody has allowed it, and `as_of` the position known before their login was read.
    """

    client_id: ClientId
    scopes: frozenset[str]
    audience: str
    ends_at: datetime
    user_agent: str
    address: str
    interval: int = INTERVAL
    asked_at: datetime | None = None
    denied: bool = False
    approved: AuthorizationCode | None = None
    as_of: Position | None = None

    @property
    def is_answered(self) -> bool:
        """Say whether somebody has allowed or denied it."""
        return self.denied or self.approved is not None


@dataclass(frozen=True, slots=True)
class Turn:
    """What a question comes to: an error, or None: the device gets what was approved. `after` is to be written first; None: nothing is."""

    error: DeviceError | None
    after: DeviceRequest | None = None


def turn(request: DeviceRequest, now: datetime) -> Turn:
    """Say what a question at *now* comes to.

    At exactly `ends_at` it is too late, at exactly the interval early enough. A question that comes too early is counted as the last one:
    whoever does not wait waits longer.
    """
    if now >= request.ends_at:
        return Turn(DeviceError.EXPIRED_TOKEN)
    if request.denied:
        return Turn(DeviceError.ACCESS_DENIED)
    if request.asked_at is not None and now < request.asked_at + timedelta(seconds=request.interval):
        interval = min(request.interval + SLOWER, SLOWEST)
        return Turn(DeviceError.SLOW_DOWN, replace(request, asked_at=now, interval=interval))
    after = replace(request, asked_at=now)
    return Turn(None if request.approved is not None else DeviceError.AUTHORIZATION_PENDING, after)
