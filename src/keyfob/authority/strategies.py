"""The three strategies: what a login gives in each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from keyfob.base.identifiers import Strategy
from keyfob.base.opaque import OpaqueKind


class Transport(StrEnum):
    """How credentials reach the client.

    `COOKIE`: opaque tokens in cookies, access tokens in the body. `BODY`: all in the body, for native clients. `BFF`: a session cookie
    alone, whatever the strategy; access tokens are put on upstream requests by `/check` and never reach the page.
    """

    COOKIE = "cookie"
    BODY = "body"
    BFF = "bff"


@dataclass(frozen=True, slots=True)
class Form:
    """What a login gives: an opaque token of `kind` (or none), and an access token or not."""

    kind: OpaqueKind | None
    gives_access_token: bool


def form_of(strategy: Strategy, transport: Transport) -> Form:
    """Return what a login of *strategy* gives over *transport*."""
    if transport is Transport.BFF:
        return Form(OpaqueKind.SESSION, gives_access_token=False)
    match strategy:
        case Strategy.SESSION:
            return Form(OpaqueKind.SESSION, gives_access_token=False)
        case Strategy.JWT:
            return Form(None, gives_access_token=True)
        case Strategy.HYBRID:
            return Form(OpaqueKind.REFRESH, gives_access_token=True)
        case _:
            assert_never(strategy)
