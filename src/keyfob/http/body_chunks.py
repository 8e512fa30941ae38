"""The body of an ASGI request, piece by piece, within a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from keyfob.base.errors import InvalidRequest

BODY_SECONDS = 20.0
"""How long a client may take to send its body."""

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]  # as the ASGI specification types it


class BodyChunks:
    """Reads the body of one request from the server; a `ReadChunk`."""

    __slots__ = ("_deadline", "_ended", "_receive")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False
        self._deadline: float | None = None

    async def __call__(self) -> bytes | None:
        """Return the next piece, None at the end.

        Raises:
            InvalidRequest: the client is gone before the end, or takes longer than `BODY_SECONDS` over the whole.
        """
        if self._ended:
            return None
        loop = asyncio.get_running_loop()
        self._deadline = self._deadline or loop.time() + BODY_SECONDS
        try:
            async with asyncio.timeout_at(self._deadline):
                event = await self._receive()
        except TimeoutError:
            raise InvalidRequest("body_timeout", "The body did not come in time.", status=408) from None
        if event["type"] != "http.request":
            raise InvalidRequest("incomplete_body", "The body ended early.")
        self._ended = not event.get("more_body", False)
        return bytes(event.get("body", b""))
