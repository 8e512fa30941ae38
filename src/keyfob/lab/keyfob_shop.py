"""Keyfob's authority, and the shop in front of it: `python -m keyfob.lab.keyfob_shop`, with its settings as JSON on standard input.

It is the application of `keyfob serve`, with the shop's routes beside its own.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import msgspec

from keyfob.authority.authority import Authority
from keyfob.authority.opening import Opening
from keyfob.base.identifiers import Issuer
from keyfob.endpoints.answers import NO_CONTENT, json_answer
from keyfob.endpoints.caller import admin_caller, any_caller, require_csrf
from keyfob.endpoints.route import Endpoint, Route
from keyfob.endpoints.site import Site
from keyfob.http.headers import NO_STORE
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.lab.asgi import Announcement, announce, read_settings
from keyfob.lab.pages import PAGES, ServedPage
from keyfob.server import logs
from keyfob.server.app import App
from keyfob.server.build import application
from keyfob.server.serving import bind, place_of, run_app
from keyfob.sessions.policy import SessionPolicy

ADMIN = "lab-admin"
DOOR_CLIENT = "lab-doors"
AUDIENCE = "shop"
# The page is meant to have a hole: a policy that would stop the injected script would hide what the experiment is about.
_OPEN_POLICY = (b"content-security-policy", b"default-src * 'unsafe-inline'")


class ShopSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the shop is told; durations in seconds. `admin` is the administrator's password."""

    database: str
    access_seconds: float
    replay_seconds: float
    accounts: dict[str, str]
    admin: str


class Shop:
    """The routes of the shop."""

    def __init__(self) -> None:
        self._transfers: list[str] = []

    def routes(self) -> tuple[Route[Site], ...]:
        """Return them."""
        pages = [_route("GET", path, _shown(page)) for path, page in PAGES.items()]
        return (
            *pages,
            _route("GET", "/orders", self.orders),
            _route("POST", "/transfer", self.transfer),
            _route("GET", "/ledger", self.ledger),
        )

    async def orders(self, site: Site, request: HttpRequest) -> HttpResponse:
        """Answer whoever has a good credential."""
        await any_caller(site, request)
        return NO_CONTENT

    async def transfer(self, site: Site, request: HttpRequest) -> HttpResponse:
        """Change something."""
        caller = await any_caller(site, request)
        require_csrf(site, request, caller)
        self._transfers.append(caller.principal.subject)
        return json_answer({"transfers": len(self._transfers)})

    async def ledger(self, site: Site, request: HttpRequest) -> HttpResponse:
        """Say who transferred what so far."""
        await admin_caller(site, request)
        return json_answer({"transfers": self._transfers})


def _route(method: str, path: str, endpoint: Endpoint[Site]) -> Route[Site]:
    return Route(method=method, path=path, endpoint=endpoint, summary="The shop of the lab")


def _shown(page: ServedPage) -> Endpoint[Site]:
    headers = ((b"content-type", page.content_type.encode("ascii")), NO_STORE, _OPEN_POLICY)
    answer = HttpResponse(status=200, headers=headers, body=page.body)

    async def show(_site: Site, _request: HttpRequest) -> HttpResponse:
        return answer

    return show


def opened(settings: ShopSettings, issuer: Issuer) -> Opening[Authority]:
    """Open the authority of the shop."""
    return Authority.open(
        f"sqlite:///{Path(settings.database)}",
        issuer=issuer,
        access_lifetime=timedelta(seconds=settings.access_seconds),
        policy=SessionPolicy(replay_window=timedelta(seconds=settings.replay_seconds)),
    )


async def prepare(settings: ShopSettings, issuer: Issuer) -> tuple[str, str]:
    """Add the accounts, and the client that the services are; return its id and secret."""
    async with opened(settings, issuer) as authority:
        await authority.accounts.add(ADMIN, settings.admin, roles=("keyfob:admin",), actor="lab")
        for name, password in settings.accounts.items():
            await authority.accounts.add(name, password, actor="lab")
        client = await authority.clients.add(
            DOOR_CLIENT, scopes=("keyfob:feed",), audiences=(AUDIENCE,), actor="lab"
        )
    return client.client.client_id, client.secret or ""


def build(settings: ShopSettings, issuer: Issuer) -> App[Site]:
    """Build the application."""

    async def open_authority() -> Authority:
        return await opened(settings, issuer)

    return application(open_authority, issuer=issuer, extra=Shop().routes())


def main() -> None:
    """Read the settings and serve."""
    settings = read_settings(ShopSettings)
    logs.configure("error")
    with bind("127.0.0.1", 0) as listening:
        issuer = Issuer(place_of(listening, tls=None))
        client_id, secret = asyncio.run(prepare(settings, issuer))
        announcement = Announcement(
            port=listening.getsockname()[1], client_id=client_id, client_secret=secret
        )
        run_app(lambda: build(settings, issuer), listening, tls=None, ready=lambda: announce(announcement))


if __name__ == "__main__":
    main()
