"""Where the server's parts meet: settings in, an application out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from keyfob.advice.page import advise_route
from keyfob.authority.authority import Authority
from keyfob.base.clock import Clock
from keyfob.base.identifiers import Issuer
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.endpoints.table import routes
from keyfob.http.cross_origin import own_origins
from keyfob.http.forwarded import TrustedProxies
from keyfob.server.app import App
from keyfob.server.metrics import Metrics, authority_metrics
from keyfob.server.openapi import openapi_route
from keyfob.server.opening import open_authority
from keyfob.server.settings import Settings

OpenAuthority = Callable[[], Awaitable[Authority]]


def build(settings: Settings, *, issuer: Issuer | None = None, clock: Clock | None = None) -> App[Site]:
    """Build the application that *settings* describe; *issuer* is that of a server whose port was only just found.

    Nothing is opened yet: the application opens its authority when the server starts it (`App.start`, or ASGI's lifespan).

    Raises:
        ConfigurationError: `trusted_proxies` are no networks.
    """
    known = issuer or settings.issuer_at(settings.port)

    async def opened() -> Authority:
        return await open_authority(settings, issuer=known, clock=clock)

    return application(opened, issuer=known, proxies=TrustedProxies.parse(settings.trusted_proxies))


def application(
    opened: OpenAuthority,
    *,
    issuer: str,
    proxies: TrustedProxies | None = None,
    extra: Sequence[Route[Site]] = (),
) -> App[Site]:
    """Build the application around whatever *opened* gives, with every route and *extra*."""
    metrics = Metrics()
    table = (*routes(), advise_route(), *extra, authority_metrics(metrics))
    origins = own_origins(issuer)

    async def open_site() -> Site:
        return Site(authority=await opened(), own_origins=origins)

    return App(
        open_site,
        issuer=issuer,
        routes=(*table, openapi_route(table)),
        metrics=metrics,
        proxies=proxies or TrustedProxies(),
    )
