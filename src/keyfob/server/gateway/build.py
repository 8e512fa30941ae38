"""Where a gateway's parts meet: settings in, an application out, and the processes around it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import structlog

from keyfob.base.clock import Clock, SystemClock
from keyfob.base.events import Event
from keyfob.endpoints import check
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.health import Health
from keyfob.endpoints.route import Route
from keyfob.http.forwarded import TrustedProxies
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.server import logs, serving, supervisor
from keyfob.server.app import App
from keyfob.server.gateway.checks import GatewayChecks
from keyfob.server.gateway.gateway import Gateway
from keyfob.server.gateway.settings import GatewaySettings
from keyfob.server.metrics import Metrics, metrics_route, shown
from keyfob.verifier.prometheus import VerifierCollector


def serve_gateway(settings: GatewaySettings) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code. Each worker follows the feed for itself.

    Raises:
        ConfigurationError: the settings are wrong; the port or the path is in use.
    """
    logs.configure(settings.log_level)
    supervisor.allow_many_connections()
    with _listening(settings) as listener:
        place = serving.place_of(listener, tls=settings.tls)
        workers = "" if settings.workers == 1 else f", {settings.workers} workers"
        line = f"keyfob: checking for {settings.authority} on {place}{workers}; ctrl-c ends it"
        if settings.workers == 1:
            serving.run_app(
                lambda: build(settings), listener, tls=settings.tls, ready=lambda: serving.say(line)
            )
        else:
            supervisor.Supervisor(settings.workers, work=_work, given=(settings, listener), line=line).run()
    return 0


def build(settings: GatewaySettings, *, clock: Clock | None = None) -> App[Gateway]:
    """Build the application of a gateway. Nothing is opened before it starts."""
    metrics = Metrics()
    log = structlog.stdlib.get_logger("keyfob.gateway")

    def tell(event: Event) -> None:
        level = log.error if event.code == "feed_forked" else log.warning
        level(event.code, **event.facts)

    async def opened() -> Gateway:
        return await Gateway.open(settings, clock=clock or SystemClock(), on_event=tell)

    return App(
        opened,
        issuer=settings.authority,
        routes=_routes(metrics),
        metrics=metrics,
        proxies=TrustedProxies.parse(settings.trusted_proxies),
    )


def _routes(metrics: Metrics) -> tuple[Route[Gateway], ...]:
    async def show(gateway: Gateway, _request: HttpRequest) -> HttpResponse:
        return shown(metrics.families(), VerifierCollector(gateway.verifier).collect())

    return (
        *check.routes_of(GatewayChecks()),
        *(
            Route(
                method="GET",
                path=path,
                endpoint=_alive,
                summary="The process answers",
                response=Health,
                public=True,
            )
            for path in ("/livez", "/healthz")
        ),
        Route(
            method="GET",
            path="/readyz",
            endpoint=_ready,
            summary="Checks are answered",
            response=Health,
            public=True,
        ),
        metrics_route(show),
    )


async def _alive(_gateway: Gateway, _request: HttpRequest) -> HttpResponse:
    return json_answer(Health("ok"))


async def _ready(gateway: Gateway, _request: HttpRequest) -> HttpResponse:
    return await gateway.ready()


@contextmanager
def _listening(settings: GatewaySettings) -> Iterator[socket.socket]:
    """Listen while the block lasts; a path is taken away after it."""
    path = settings.socket
    with (
        serving.bind(settings.host, settings.port) if path is None else serving.bind_socket(path) as listener
    ):
        try:
            yield listener
        finally:
            if path is not None:
                path.unlink(missing_ok=True)


def _work(settings: GatewaySettings, listener: socket.socket, ready: Connection) -> None:
    """Serve as one of several; the entry of a worker's process."""
    supervisor.work(
        lambda say_ready: serving.run_app(
            lambda: build(settings), listener, tls=settings.tls, ready=say_ready
        ),
        ready=ready,
        log_level=settings.log_level,
    )
