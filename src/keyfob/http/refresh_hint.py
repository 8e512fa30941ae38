"""Whether a client that is refused can help itself by a refresh: what `next` of the problem document rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from keyfob.base import base64url
from keyfob.base.errors import Denied
from keyfob.base.identifiers import Strategy
from keyfob.http import bearer
from keyfob.http.problem import HELPED_BY_REFRESH, Refusal


class _StrategyClaim(msgspec.Struct, frozen=True):
    strategy: str = ""


def is_refreshable(token: str) -> bool:
    """Say whether whoever holds *token* can use a refresh: it is an access token of a hybrid login.

    A hint for `next` alone, read without a check; it decides nothing.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return False
    try:
        claims = msgspec.json.decode(base64url.decode(parts[1].encode("ascii")), type=_StrategyClaim)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return False
    return claims.strategy == Strategy.HYBRID


def with_hint(refusal: Refusal, error: Exception, authorization: Sequence[bytes]) -> Refusal:
    """Return *refusal* saying whether the caller can refresh: its Bearer token is the access token of a hybrid login.

    *authorization* are the values of the request's `Authorization` header.
    """
    if not isinstance(error, Denied) or error.cause not in HELPED_BY_REFRESH:
        return refusal
    try:
        token = bearer.read_bearer(authorization)
    except Denied:
        return refusal
    return replace(refusal, refreshable=token is not None and is_refreshable(token))
