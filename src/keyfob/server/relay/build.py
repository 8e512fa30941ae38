"""Where a relay's parts meet: settings in, an application out, and the process around it."""

from __future__ import annotations

import structlog

from keyfob.base.clock import Clock, SystemClock
from keyfob.base.events import Event
from keyfob.clients import scopes
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.health import Health
from keyfob.endpoints.route import Parameter, Route
from keyfob.http.forwarded import TrustedProxies
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.problem import Challenge, Refusal
from keyfob.server import logs, serving
from keyfob.server.app import App
from keyfob.server.metrics import Metrics, feed_families, metrics_route, shown
from keyfob.server.relay.relay import Relay
from keyfob.server.relay.settings import RelaySettings

_REFUSAL = Refusal(challenge=Challenge.EITHER, scopes=(scopes.FEED,))


def serve_relay(settings: RelaySettings) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code.

    Raises:
        ConfigurationError: the settings are wrong; the port is in use.
    """
    logs.configure(settings.log_level)
    with serving.bind(settings.host, settings.port) as listener:
        place = serving.place_of(listener, tls=settings.tls)
        line = f"keyfob: relaying {settings.upstream} on {place}; ctrl-c ends it"
        serving.run_app(lambda: build(settings), listener, tls=settings.tls, ready=lambda: serving.say(line))
    return 0


def build(settings: RelaySettings, *, clock: Clock | None = None) -> App[Relay]:
    """Build the application of a relay. Nothing is opened before it starts."""
    metrics = Metrics()
    log = structlog.stdlib.get_logger("keyfob.relay")

    def tell(event: Event) -> None:
        level = log.error if event.code == "feed_forked" else log.warning
        level(event.code, **event.facts)

    async def opened() -> Relay:
        return await Relay.open(settings, clock=clock or SystemClock(), on_event=tell)

    return App(
        opened,
        issuer=settings.issuer or settings.upstream,
        routes=_routes(metrics),
        metrics=metrics,
        proxies=TrustedProxies(),
    )


def _routes(metrics: Metrics) -> tuple[Route[Relay], ...]:
    async def show(relay: Relay, _request: HttpRequest) -> HttpResponse:
        return shown(metrics.families(), feed_families(relay.stats()))

    return (
        Route(
            method="GET",
            path="/feed",
            endpoint=Relay.feed,
            summary="Follow the feed",
            response_type="text/event-stream",
            refusal=_REFUSAL,
        ),
        Route(
            method="GET",
            path="/feed/snapshot",
            endpoint=Relay.snapshot,
            summary="Everything live, signed",
            response_type="text/plain",
            refusal=_REFUSAL,
        ),
        Route(
            method="GET",
            path="/feed/time",
            endpoint=Relay.time,
            summary="The authority's time, signed",
            response_type="application/jose",
            query=(Parameter(name="nonce", summary="16 to 64 characters of base64url"),),
            refusal=_REFUSAL,
        ),
        Route(
            method="GET",
            path="/feed/keys",
            endpoint=_keys,
            summary="The keys that sign the feed",
            public=True,
        ),
        Route(
            method="GET",
            path="/healthz",
            endpoint=_health,
            summary="The process answers",
            response=Health,
            public=True,
        ),
        Route(
            method="GET",
            path="/readyz",
            endpoint=_ready,
            summary="The relay is level",
            response=Health,
            public=True,
        ),
        metrics_route(show),
    )


async def _keys(relay: Relay, _request: HttpRequest) -> HttpResponse:
    return await relay.keys()


async def _health(_relay: Relay, _request: HttpRequest) -> HttpResponse:
    return json_answer(Health("ok"))


async def _ready(relay: Relay, _request: HttpRequest) -> HttpResponse:
    return await relay.ready()
