"""The set-ups that are compared.

The issue counts six; played one by one they are seven: the four designs of the textbook, and Keyfob's three strategies.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Design = Literal["session", "jwt", "blocklist", "hybrid"]


class Placement(StrEnum):
    """Where a page keeps what it calls the API with."""

    COOKIE = "cookie"
    LOCAL_STORAGE = "local_storage"
    MEMORY = "memory"
    SERVICE_WORKER = "service_worker"


PLACEMENT_TITLES = {
    Placement.COOKIE: "HttpOnly cookie",
    Placement.LOCAL_STORAGE: "localStorage",
    Placement.MEMORY: "memory of the page",
    Placement.SERVICE_WORKER: "service worker",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """One column of the comparison.

    `placements` begins with the one that the design is known by; the others are tried by the experiment about storage too. `cookies` are the
    names of the session's and of the refresh token's cookie, empty for none.
    """

    name: str
    title: str
    is_keyfob: bool
    design: Design
    placements: tuple[Placement, ...]
    session_cookie: str = ""
    refresh_cookie: str = ""
    summary: str = ""

    @property
    def has_access_token(self) -> bool:
        """Whether requests carry a JWT in the Authorization header."""
        return self.design != "session"

    @property
    def kind(self) -> str:
        """Who made it, as it is shown."""
        return "Keyfob" if self.is_keyfob else "textbook"


_MEMORY, _WORKER = Placement.MEMORY, Placement.SERVICE_WORKER

SETUPS: tuple[SetUp, ...] = (
    SetUp(
        name="textbook-session",
        title="session",
        is_keyfob=False,
        design="session",
        placements=(Placement.COOKIE,),
        session_cookie="sid",
        summary="A random token in an HttpOnly cookie; its digest is looked up in the store on every request; a CSRF token in forms.",
    ),
    SetUp(
        name="textbook-jwt",
        title="JWT",
        is_keyfob=False,
        design="jwt",
        placements=(Placement.LOCAL_STORAGE, _MEMORY),
        summary="An ES256 token in localStorage and in the Authorization header; every service checks it alone; nothing revokes it.",
    ),
    SetUp(
        name="textbook-blocklist",
        title="JWT + blocklist",
        is_keyfob=False,
        design="blocklist",
        placements=(Placement.LOCAL_STORAGE, _MEMORY),
        summary="The same, and its id is looked up in a blocklist in the store on every request.",
    ),
    SetUp(
        name="textbook-hybrid",
        title="hybrid",
        is_keyfob=False,
        design="hybrid",
        placements=(_MEMORY, _WORKER),
        refresh_cookie="refresh",
        summary="A refresh token in an HttpOnly SameSite=Strict cookie, used once and rotated, its family ended when one comes back; "
        "a JWT in the memory of the page, good until it expires.",
    ),
    SetUp(
        name="keyfob-session",
        title="session",
        is_keyfob=True,
        design="session",
        placements=(Placement.COOKIE,),
        session_cookie="__Host-session",
        summary="A session token in a __Host- cookie; services ask about it once and hold the answer under the feed.",
    ),
    SetUp(
        name="keyfob-jwt",
        title="JWT",
        is_keyfob=True,
        design="jwt",
        placements=(_MEMORY, _WORKER),
        summary="An access token in the memory of the page; services check it alone, under the feed.",
    ),
    SetUp(
        name="keyfob-hybrid",
        title="hybrid",
        is_keyfob=True,
        design="hybrid",
        placements=(_MEMORY, _WORKER, Placement.COOKIE),
        session_cookie="__Host-session",  # where the token is kept from the page
        refresh_cookie="__Host-refresh",
        summary="A rotating refresh token in a __Host- cookie and an access token in the memory of the page, or neither in the page "
        "(transport bff); services check under the feed.",
    ),
)
BY_NAME = {setup.name: setup for setup in SETUPS}
