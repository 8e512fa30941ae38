"""A one-time record that is used right, and what it gives: a code, what a device was allowed, a hand-off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keyfob.base.identifiers import Position
from keyfob.grants.authorization_code import AuthorizationCode
from keyfob.grants.one_time import OneTime


@dataclass(frozen=True, slots=True, kw_only=True)
class Redemption:
    """What `UserTokens.redeem` takes.

    `as_of` is the position known before the login that it rests on was read. `read` finds what the first use gave in the record as it
    stands then; `write` makes the body in which the next one finds it.
    """

    record: OneTime
    code: AuthorizationCode
    as_of: Position
    read: Callable[[OneTime], AuthorizationCode]
    write: Callable[[AuthorizationCode], bytes]
