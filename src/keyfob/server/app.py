"""The ASGI application: from the server's events to an endpoint, and back.

No request passes a layer: one look-up of method and path, the endpoint, one answer; a warm `/check` not even that. Every error becomes
a response in one place, `http.problem`; whatever is no error of ours is logged here and answered by a 500 that says nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, MutableMapping, Sequence
from contextlib import aclosing
from typing import Any, Generic, Protocol, TypeVar

import structlog

from keyfob.base.errors import KeyfobError, Unavailable
from keyfob.endpoints.route import Route
from keyfob.http.body_chunks import BodyChunks
from keyfob.http.forwarded import TrustedProxies
from keyfob.http.headers import PreparedHeaders, SecurityHeaders
from keyfob.http.messages import HttpRequest, HttpResponse, RawHeaders
from keyfob.http.problem import DEFAULT_REFUSAL, problem
from keyfob.http.refresh_hint import with_hint
from keyfob.server.logs import describe
from keyfob.server.metrics import Metrics
from keyfob.server.routing import Match, Router

UNKNOWN_ROUTE = "unknown"

AsgiScope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
"""As the ASGI specification types them."""


class Closable(Protocol):
    """What an application serves: a site, or a relay."""

    async def close(self) -> None:
        """Close it. Twice is once."""
        ...


S = TypeVar("S", bound=Closable)


class App(Generic[S]):
    """The application. It opens its site when the server starts, and closes it when the server stops."""

    def __init__(
        self,
        open_site: Callable[[], Awaitable[S]],
        *,
        issuer: str,
        routes: Sequence[Route[S]],
        metrics: Metrics,
        proxies: TrustedProxies,
    ) -> None:
        self._open_site = open_site
        self._security = SecurityHeaders(issuer)
        self._router = Router(routes)
        self._warm = {route.path: route.warm for route in routes if route.warm is not None}
        self._metrics = metrics
        self._proxies = proxies if proxies.networks else None
        self._site: S | None = None
        self._streams: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._log = structlog.stdlib.get_logger("keyfob.server")

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Serve one connection of the server: a request, or its lifespan. WebSockets are refused."""
        if scope["type"] != "http":
            await self._serve_other(scope, receive, send)
            return
        answer = self.warm_answer(scope["path"], scope["headers"], scope["query_string"])
        if answer is None:
            await self._serve(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": b""})

    async def _serve_other(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "lifespan":
                await self._live(receive, send)
            case "websocket":
                await send({"type": "websocket.close", "code": 1008})
            case kind:
                raise ValueError(f"{kind} is not served")

    async def start(self) -> None:
        """Open the authority. Twice is once.

        Raises:
            ConfigurationError, StoreUnavailable: it cannot be opened.
        """
        if self._site is None:
            self._site = await self._open_site()

    async def close_streams(self) -> None:
        """End every open stream at once, and begin no other: what a server calls before it waits for its connections."""
        self._stopping = True
        streams = list(self._streams)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)

    async def stop(self) -> None:
        """End the streams and close the authority. Twice is once."""
        await self.close_streams()
        site, self._site = self._site, None
        if site is not None:
            await site.close()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except KeyfobError as error:
            self._log.error("start_failed", **describe(error))
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    @property
    def warm_paths(self) -> Collection[str]:
        """The paths that `warm_answer` knows."""
        return self._warm.keys()

    def warm_answer(self, path: str, headers: RawHeaders, query: bytes) -> PreparedHeaders | None:
        """Return the answer that memory alone can give, and count it; None, whatever the reason, leaves it to a call."""
        warm = self._warm.get(path)
        site = self._site
        if warm is None or site is None or self._stopping:
            return None
        try:
            answer = warm(site, headers, query)
        except Exception as error:  # noqa: BLE001 - the edge of the process: what fails here is decided anew, and said
            self._metrics.count_failure()
            self._log.error("fault", route=path, **describe(error))
            return None
        if answer is not None:
            self._metrics.count_answer(path, answer.status)
        return answer

    async def _serve(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        client = scope.get("client")
        request = HttpRequest(
            method,
            path,
            headers=scope["headers"],
            query=scope["query_string"],
            peer=client[0] if client else "",
            proxies=self._proxies,
            chunks=BodyChunks(receive),
        )
        match: Match[S] | None = None
        site: S | None = None
        try:
            match = self._router.find(method, path, scope.get("raw_path") or path.encode())
            site = self._site
            if site is None or self._stopping:
                raise Unavailable("starting or stopping")
            request.parameters = match.parameters
            response = await match.route.endpoint(site, request)
        except Exception as error:  # noqa: BLE001 - the edge of the process: every error becomes a response
            response = self._refusal(error, request, match.route if match else None)
        if match is not None and match.route.finish is not None and site is not None:
            response = await match.route.finish(site, request, response)
        self._metrics.count_answer(match.route.path if match else UNKNOWN_ROUTE, response.status)
        headers = response.headers if response.bare else self._security.complete(response)
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        if response.stream is None:
            await send({"type": "http.response.body", "body": b"" if method == "HEAD" else response.body})
            return
        await self._stream(response, method, receive, send)

    def _refusal(self, error: Exception, request: HttpRequest, route: Route[S] | None) -> HttpResponse:
        """Turn *error* into a response; the one place where errors of requests are counted and logged."""
        if isinstance(error, KeyfobError):
            self._metrics.count_refusal(error.code)
            if isinstance(error, Unavailable):
                self._log.warning(
                    "unavailable", route=route.path if route else UNKNOWN_ROUTE, **describe(error)
                )
        else:
            self._metrics.count_failure()
            self._log.error("fault", route=route.path if route else UNKNOWN_ROUTE, **describe(error))
        if route is None:
            return problem(error, DEFAULT_REFUSAL)
        return route.render_error(error, with_hint(route.refusal, error, request.all(b"authorization")))

    async def _stream(self, response: HttpResponse, method: str, receive: Receive, send: Send) -> None:
        """Send a stream until it ends, the client is gone, or the server stops."""
        assert response.stream is not None
        async with aclosing(response.stream) as stream:
            if method != "HEAD" and not self._stopping:
                pump = asyncio.create_task(self._pump(stream, send))
                watch = asyncio.create_task(_gone(receive))
                self._streams.add(pump)
                try:
                    await asyncio.wait({pump, watch}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    self._streams.discard(pump)
                    pump.cancel()
                    watch.cancel()
                    await asyncio.gather(pump, watch, return_exceptions=True)
        await send({"type": "http.response.body", "body": b""})

    async def _pump(self, stream: AsyncIterator[bytes], send: Send) -> None:
        try:
            async for piece in stream:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except KeyfobError as error:
            self._log.warning("stream_ended", **describe(error))
        except Exception as error:  # noqa: BLE001 - the edge of a task: the answer has begun, so the log alone can say it
            self._metrics.count_failure()
            self._log.error("stream_fault", **describe(error))


async def _gone(receive: Receive) -> None:
    """Return when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
