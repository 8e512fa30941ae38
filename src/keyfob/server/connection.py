"""One connection to a client: uvicorn's own, with bounds on the head of a request, and a short way for warm answers.

The parser collects request line and header fields until they end, however long that takes and however many there are. So a client could
hold a connection, or fill the memory, without ever sending a request.

What the application answers from memory (`App.warm_answer`) is written as soon as the head of the request is there: no task, no events, and its
header lines were checked when they were prepared. Only the plainest requests go that way, those without a body on a connection that is kept and
has nothing else under way; any other goes uvicorn's way, and gets the same answer.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from keyfob.server.app import App

MAX_HEAD = (
    64 * 1024
)  # bytes received before the head is complete; single fields have lower bounds of their own
HEAD_SECONDS = 20.0
"""How long a client may take from connecting, or from the first byte of a later request, to the end of the head."""

FAREWELL_SECONDS = 0.1
"""How long a client over TLS has to answer the server's farewell: one that is idle may never do so, and holds up the end of the server."""

AT_ONCE = 16
"""Requests of one read that are answered the short way: a client that sends thousands in one piece must not hold up the others."""

_BEGINNINGS = {204: b"HTTP/1.1 204 No Content\r\n", 200: b"HTTP/1.1 200 OK\r\n"}
_BEFORE_A_BODY = frozenset({b"content-length", b"transfer-encoding", b"expect"})
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Connection(HttpToolsProtocol):
    """Ends a connection whose client does not finish the head of its request, and answers at once what memory can answer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_in_head = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        # Warm paths as they stand in a request line: what has to be decoded first goes uvicorn's way.
        self._warm = self.app if isinstance(self.app, App) else None
        self._warm_paths = (
            {path.encode("ascii"): path for path in self._warm.warm_paths} if self._warm else {}
        )
        self._answered = 0  # the short way, of what the latest read brought
        self._is_answered = False  # the request that is being parsed

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, and wait for the first request no longer than for any other."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._end, _TOO_SLOW)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer with the connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End with the server: an idle connection at once, another after its answer."""
        super().shutdown()
        if self.scheme == "https" and not self._is_answering():
            self.loop.call_later(FAREWELL_SECONDS, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        """Parse what came; only a head that did not end with it costs more than that."""
        self._answered = 0
        super().data_received(data)
        if not self._is_in_head:
            if self._answered and not self._is_answering():
                self._await_next()
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD:
            self._end(_TOO_LARGE)
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._end, _TOO_SLOW)

    def on_message_begin(self) -> None:
        """Note that a head begins."""
        self._is_in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that the head is complete."""
        self._is_in_head = False
        self._stop_timer()
        self._is_answered = self._answer_warm()
        if not self._is_answered:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Tell the application that the request is complete, if it was given one."""
        if not self._is_answered:
            super().on_message_complete()

    def _answer_warm(self) -> bool:
        """Answer the request from its head alone, if that can be; say whether it was."""
        raw_path, _, query = self.url.partition(b"?")
        path = self._warm_paths.get(raw_path)
        if path is None or self._warm is None or not self._is_plain():
            return False
        answer = self._warm.warm_answer(path, self.headers, query)
        if answer is None:
            return False
        always = b"".join([b"%b: %b\r\n" % header for header in self.server_state.default_headers])
        self.transport.write(b"%b%b%b\r\n" % (_BEGINNINGS[answer.status], always, answer.lines))
        self._answered += 1
        self.server_state.total_requests += 1
        return True

    def _is_plain(self) -> bool:
        """Say whether the request is nothing but its head, leaves the connection as it is, and may be answered now."""
        if self._answered >= AT_ONCE or self._is_answering():
            return False
        if self.flow.write_paused or self.transport.is_closing():
            return False
        if self.config.access_log or self.limit_concurrency is not None or self.root_path:
            return False
        parser = self.parser
        if parser.get_http_version() != "1.1" or not parser.should_keep_alive() or parser.should_upgrade():
            return False
        return _BEFORE_A_BODY.isdisjoint([name for name, _ in self.headers])

    def _await_next(self) -> None:
        """Wait for the next request no longer than after any other answer."""
        if not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = (
            self.cycle
        )  # None until the first request, whatever uvicorn's annotation says
        return cycle is not None and not cycle.response_complete

    def _end(self, answer: bytes) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            # An answer in the middle of another request's would be taken for a part of it.
            if not self._is_answering():
                self.transport.write(answer)
            self.transport.close()
