"""The other site: a real listener on another origin, which serves the attacker's pages and takes what the injected script sends."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from keyfob.lab.pages import ATTACKER_PAGES

MAX_LOOT = 1 << 20  # bytes
# Another host than the shop's 127.0.0.1 is another site to a browser; another port alone would only be another origin.
HOST = "localhost"


class Elsewhere:
    """The listener. `loot` holds what arrived, unread."""

    def __init__(self) -> None:
        self.loot: queue.Queue[bytes] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self.loot))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def origin(self) -> str:
        """Where browsers find it."""
        return f"http://{HOST}:{self._server.server_address[1]}"

    def start(self) -> None:
        """Serve, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    """Run the other site while the block lasts."""
    site = Elsewhere()
    site.start()
    try:
        yield site
    finally:
        site.close()


def _handler(loot: queue.Queue[bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = ATTACKER_PAGES.get(self.path.partition("?")[0])
            if page is None:
                self.send_error(404)
                return
            self._answer(200, page.content_type, page.body)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if self.path != "/loot" or not 0 <= length <= MAX_LOOT:
                self.send_error(404)
                return
            loot.put(self.rfile.read(length))
            self._answer(200, "text/plain", b"thank you")

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            # Any page may load the script: that is what the attacker wants.
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    return Handler
