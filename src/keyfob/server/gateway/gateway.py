"""The gateway: a verifier, and what it asks the authority. What it serves is `/check`; see `checks`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from keyfob.base.clock import Clock
from keyfob.base.errors import AuthorityUnavailable, ConfigurationError, Denied, Unavailable
from keyfob.base.events import Event
from keyfob.base.principal import Principal
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.health import Health
from keyfob.http.cross_origin import own_origins
from keyfob.http.messages import HttpResponse
from keyfob.server.gateway.asking import Asking
from keyfob.server.gateway.settings import GatewaySettings
from keyfob.verifier.feed_view import FeedView
from keyfob.verifier.jwks_source import JwksSource
from keyfob.verifier.verifier import Verifier

_PAUSE = 1.0  # seconds between two attempts to become level
PATIENCE = 5.0
"""Seconds for which a start waits to be level: then requests are taken all the same, and refused as stale, so that somebody sees why."""


class GatewayVerifier(Verifier):
    """A verifier whose memory can be asked without counting a refusal: whoever asks it goes on to ask in earnest."""

    def cached(self, token: str) -> Principal | None:
        """Answer from memory, or not at all. No I/O."""
        try:
            return self._checker.check(token, None, None, None, None, None)
        except Denied:
            return None


class Gateway:
    """One gateway. `open` starts it; while it is not level with the feed every check is refused as stale."""

    def __init__(self, settings: GatewaySettings, *, clock: Clock, on_event: Callable[[Event], None]) -> None:
        following = settings.following()
        self.keys = JwksSource()
        self.view = FeedView(clock)
        self.verifier = GatewayVerifier(
            issuer=following.issuer,
            audiences=following.audiences,
            keys=self.keys,
            view=self.view,
            clock=clock,
            settings=following,
            on_event=on_event,
        )
        self.asking = Asking(settings)
        self.own_origins = own_origins(settings.authority)
        self.max_staleness: timedelta = settings.max_staleness
        self.counts_sources = bool(settings.trusted_proxies)
        """Whether a request's address is a client's: without trusted proxies it is the proxy's, for everybody."""
        self._clock = clock
        self._on_event = on_event
        self._start: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, settings: GatewaySettings, *, clock: Clock, on_event: Callable[[Event], None]
    ) -> Gateway:
        """Follow the authority, and return when level, or after `PATIENCE`.

        Raises:
            ConfigurationError: the settings do not fit, `ca` cannot be read, or the authority refuses the client.
        """
        gateway = cls(settings, clock=clock, on_event=on_event)
        gateway.verifier.start()
        until = clock.elapsed() + PATIENCE
        try:
            while not gateway.verifier.is_level and clock.elapsed() < until:
                with suppress(AuthorityUnavailable):
                    await asyncio.to_thread(gateway.verifier.wait_until_level)
        except BaseException:
            await gateway.close()
            raise
        gateway._start = asyncio.create_task(gateway._become_level(), name="keyfob-gateway")
        return gateway

    async def close(self) -> None:
        """Stop following. Twice is once."""
        start, self._start = self._start, None
        if start is not None:
            start.cancel()
            await asyncio.gather(start, return_exceptions=True)
        self.asking.close()
        await asyncio.to_thread(self.verifier.close)

    async def ready(self) -> HttpResponse:
        """Say that checks are answered.

        Raises:
            Unavailable: the verifier is not level.
        """
        if not self.verifier.is_level:
            raise Unavailable("this gateway is not level with the feed")
        return json_answer(Health("ready"))

    async def _become_level(self) -> None:
        """Look until the verifier is level, and say why it is not yet, each reason once."""
        said = ""
        while not self.verifier.is_level:
            try:
                await asyncio.to_thread(self.verifier.wait_until_level)
            except (AuthorityUnavailable, ConfigurationError) as failure:
                if str(failure) != said:
                    said = str(failure)
                    self._on_event(Event(at=self._clock.now(), code="not_level", facts={"why": said}))
                await asyncio.sleep(_PAUSE)
