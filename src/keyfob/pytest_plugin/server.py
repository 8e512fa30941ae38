"""A real server for the tests of applications that follow an authority."""

from __future__ import annotations

import socket
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta

import uvicorn

from keyfob.authority.authority import Authority as AsyncAuthority
from keyfob.pytest_plugin.logging_in import LoggedIn, Login
from keyfob.server.build import application
from keyfob.sync import Authority
from keyfob.verifier.verifier import Verifier

HEARTBEAT = timedelta(seconds=0.2)  # so that a test sees quickly that it is cut off
DEADLINE = 20.0  # seconds to start and to end


class TestServer:
    """An authority in memory, and its HTTP server on a port of the loopback interface."""

    __test__ = False  # no class of tests

    def __init__(self, url: str, authority: Authority) -> None:
        """For `started`, which says what goes together."""
        self.url = url
        """Its address, which is its issuer too."""
        self.authority = authority
        self._clients = 0

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[TestServer]:
        """Run one until the block is left."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with Authority.open(issuer=url, heartbeat=HEARTBEAT) as authority:
                serving = _Serving(authority, listener, url)
                serving.start()
                try:
                    yield cls(url, authority)
                finally:
                    serving.end()

    def login(self, subject: str = "alice", *, audience: str | Collection[str]) -> LoggedIn:
        """Log *subject* in for a service; `authority.login` takes the other options."""
        return Login(self.authority)(subject, strategy="jwt", audience=audience)

    def credentials(self) -> tuple[str, str]:
        """Add a client that may follow the feed, and return its id and secret."""
        self._clients += 1
        added = self.authority.clients.add(f"service-{self._clients}", scopes=["keyfob:feed"])
        assert added.secret is not None  # it has no key of its own
        return added.client.client_id, added.secret

    def follow(self, *, audience: str | Collection[str]) -> Verifier:
        """Return a verifier that follows this server, not started yet: what an application would make for itself."""
        return Verifier.follow(
            self.url,
            audience=audience,
            credentials=self.credentials(),
            heartbeat=HEARTBEAT,
            max_staleness=timedelta(seconds=5),
        )


class _Serving:
    """The HTTP server, on the event loop of its authority."""

    def __init__(self, authority: Authority, listener: socket.socket, url: str) -> None:
        self._authority = authority
        self._listener = listener
        self._url = url
        self._began = threading.Event()
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=authority.call, args=(self._serve,), daemon=True)

    def start(self) -> None:
        """Begin, and return when it answers."""
        self._thread.start()
        if not self._began.wait(DEADLINE):
            raise TimeoutError("the server of the tests did not start")

    def end(self) -> None:
        """End it, its streams first."""
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(DEADLINE)

    async def _serve(self, inner: AsyncAuthority) -> None:
        async def opened() -> AsyncAuthority:
            return inner

        app = application(opened, issuer=self._url)
        await app.start()
        config = uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=1, ws="none")
        self._server = _Server(config, ready=self._began.set, ending=app.close_streams)
        await self._server.serve(sockets=[self._listener])


class _Server(uvicorn.Server):
    """Says when it is ready, and ends the streams of followers before it waits for its connections."""

    def __init__(
        self, config: uvicorn.Config, *, ready: Callable[[], None], ending: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._ending = ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._ending()
        await super().shutdown(sockets)
