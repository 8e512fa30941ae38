"""Requests and responses as the endpoints see them: no framework, no server.

Header names are lower-case bytes, as every ASGI server gives them; a name in another case is another name and is never ours. Nothing here
trusts what a proxy could have added: the address comes from `forwarded.TrustedProxies`, the scheme and host from the configuration alone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from keyfob.base.errors import InvalidRequest
from keyfob.http.forwarded import TrustedProxies

MAX_BODY = 64 * 1024
"""Bytes: the largest body that is read. The longest real one is a form of a few hundred bytes."""

RawHeaders = Sequence[tuple[bytes, bytes]]
ReadChunk = Callable[[], Awaitable[bytes | None]]
"""Gives the next piece of the body, None at its end."""

_NO_PARAMETERS: Mapping[str, str] = MappingProxyType({})


class HttpRequest:
    """One request.

    A plain class with slots: a frozen dataclass costs three times as much to make, and `GET /check` makes one for each request.
    `path` is decoded, `query` is as it came. `parameters` are the parts of the path that the route's template names.
    """

    __slots__ = ("_body", "_chunks", "_peer", "_proxies", "headers", "method", "parameters", "path", "query")

    def __init__(
        self,
        method: str,
        path: str,
        *,
        headers: RawHeaders,
        query: bytes = b"",
        peer: str = "",
        proxies: TrustedProxies | None = None,
        chunks: ReadChunk | None = None,
        parameters: Mapping[str, str] = _NO_PARAMETERS,
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.query = query
        self.parameters = parameters
        self._peer = peer
        self._proxies = proxies
        self._chunks = chunks
        self._body: bytes | None = None

    @property
    def address(self) -> str:
        """The client's address: the connection's, or what trusted proxies say of it."""
        if self._proxies is None:
            return self._peer
        return self._proxies.client_address(self._peer, self.all(b"x-forwarded-for"))

    def all(self, name: bytes) -> list[bytes]:
        """Return every value of the header *name* (lower case), in order."""
        return [value for key, value in self.headers if key == name]

    def one(self, name: bytes) -> bytes | None:
        """Return the value of the header *name* (lower case), None if it is absent.

        Raises:
            InvalidRequest: it is there more than once, so that two readers could differ about it.
        """
        values = self.all(name)
        if len(values) > 1:
            raise InvalidRequest("duplicate_header", f"The header {name.decode('ascii')} is there twice.")
        return values[0] if values else None

    async def body(self) -> bytes:
        """Return the whole body, at most `MAX_BODY` bytes; it is read once.

        Raises:
            InvalidRequest: 413, it is longer; at exactly `MAX_BODY` it is read.
        """
        if self._body is None:
            self._body = await self._read_body()
        return self._body

    async def _read_body(self) -> bytes:
        declared = self.one(b"content-length")
        if declared is not None and (not declared.isdigit() or len(declared) > 9 or int(declared) > MAX_BODY):
            raise _too_large()
        body = bytearray()
        while self._chunks is not None and (chunk := await self._chunks()) is not None:
            body += chunk
            if len(body) > MAX_BODY:
                raise _too_large()
        return bytes(body)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """One response: a `body`, or a `stream` of pieces that the server sends as they come and closes when the client is gone.

    `headers` are complete but for those of `headers.SecurityHeaders` and `content-length`, which the server adds; with `bare` nothing is
    added: an answer to a proxy, with no document that a browser could misread.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = field(default=b"", repr=False)
    stream: AsyncGenerator[bytes, None] | None = field(default=None, repr=False)
    bare: bool = False


def _too_large() -> InvalidRequest:
    return InvalidRequest("body_too_large", f"A body has at most {MAX_BODY} bytes.", status=413)
