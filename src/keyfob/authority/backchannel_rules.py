"""Which clients are told that sessions are over, and when they are asked again. Pure (OpenID Connect Back-Channel Logout 1.0)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

import msgspec

from keyfob.base.identifiers import ClientId, Position, SessionId, Subject
from keyfob.clients.client import Client
from keyfob.grants.delivery import Delivery, Waiting
from keyfob.revocation.store import LEAP
from keyfob.sessions.session import Session

CONSUMER: Final = "backchannel-logout"
"""Under which name its cursor is kept."""
KIND: Final = "backchannel-logout"
OPENID: Final = "openid"
"""The scope that makes a login one of OpenID Connect."""
GIVE_UP_AFTER: Final = timedelta(days=1)
FIRST_RETRY: Final = timedelta(seconds=2)
LONGEST_RETRY: Final = timedelta(minutes=15)
_DOUBLINGS: Final = 16  # more would pass the longest retry anyway


class LogoutNotice(msgspec.Struct, frozen=True, kw_only=True):
    """What a delivery says: this session of this subject is over. The token that says it is signed when it is sent."""

    sub: Subject
    sid: SessionId


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(LogoutNotice)


def deliveries_of(
    children: Iterable[Session], clients: Mapping[ClientId, Client], now: datetime
) -> list[Delivery]:
    """Return what is to be delivered about *children* that are over, to *clients*, those that want to be told.

    A session is told of once, however many entries cover it, as long as the first delivery waits.
    """
    return [
        Delivery(
            delivery_id=f"{KIND}:{child.session_id}",
            kind=KIND,
            client_id=child.client_id,
            body=_ENCODER.encode(LogoutNotice(sub=child.subject, sid=child.session_id)),
            created_at=now,
            due_at=now,
            expires_at=now + GIVE_UP_AFTER,
        )
        for child in children
        if OPENID in child.scopes and child.client_id in clients
    ]


def wants_to_be_told(client: Client) -> bool:
    """Say whether *client* has a place to which logout tokens go."""
    return client.backchannel_logout_uri is not None


def notice_of(delivery: Delivery) -> LogoutNotice:
    """Return what *delivery* says.

    Raises:
        msgspec.DecodeError: it was not made by `deliveries_of`.
    """
    return _DECODER.decode(delivery.body)


def retry_after(attempts: int, spread: float) -> timedelta:
    """Return how long to wait after *attempts* have failed: doubling, up to 15 minutes; *spread* (0 to 1) takes off up to a half.

    So clients that failed together are not asked together.
    """
    longest = min(FIRST_RETRY * (1 << min(max(attempts - 1, 0), _DOUBLINGS)), LONGEST_RETRY)
    return longest * (1 - spread / 2)


def is_last_attempt(delivery: Delivery, now: datetime) -> bool:
    """Say whether nobody may try again: the next attempt could come after the end of *delivery*, where nobody would hear of it."""
    return now + 2 * LONGEST_RETRY >= delivery.expires_at


def waits_since(waiting: Waiting, now: datetime) -> timedelta:
    """Return how long the first of what is *waiting* has waited at *now*; nothing where none waits."""
    if waiting.first_ends is None:
        return timedelta(0)
    return max(now - (waiting.first_ends - GIVE_UP_AFTER), timedelta(0))


def missed(cursor: Position, positions: Iterable[Position]) -> int:
    """Return how many entries were gone before they were read: what is missing between *cursor* and *positions*, which ascend.

    A leap to the positions of a new timeline hides none.
    """
    steps = (after - before for before, after in pairwise([cursor, *positions]))
    return sum(step - 1 for step in steps if step < LEAP)
