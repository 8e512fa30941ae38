"""Serving: the socket, one process around it, and its end within 2 seconds."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

import uvicorn

from keyfob.base.errors import ConfigurationError
from keyfob.base.identifiers import Issuer
from keyfob.server.app import App, Closable
from keyfob.server.build import build
from keyfob.server.connection import Connection
from keyfob.server.settings import Settings, Tls

S = TypeVar("S", bound=Closable)

BACKLOG = 2048  # connections that wait to be accepted; the kernel may allow fewer
GRACE = 1  # seconds for requests under way at shutdown, so that all of it stays within 2
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on *port* of *host*; port 0 takes a free one.

    Raises:
        ConfigurationError: the port is in use or not allowed, or the host is none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror:
        raise ConfigurationError(f"the host {host} is not known here; give another with --host") from None
    listener = socket.socket(family, kind, protocol)
    try:
        # Connections of the server before, still winding down, do not keep the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigurationError(_why_not(error, host, port)) from None
    return listener


def bind_socket(path: Path) -> socket.socket:
    """Return a socket that listens at *path*, which the owner and the group may connect to. One that a server left behind is taken away.

    Raises:
        ConfigurationError: somebody listens there, something else is there, or the folder does not let this user.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _take_away(path)
        before = os.umask(0o117)  # the process has one thread yet: nothing else makes a file meanwhile
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"cannot listen at {path}: {error.strerror or error}") from None
    except ConfigurationError:
        listener.close()
        raise
    return listener


def _take_away(path: Path) -> None:
    """Delete the socket at *path* if nobody listens there."""
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_socket():
        raise ConfigurationError(f"{path} is there and is no socket; give another with --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise ConfigurationError(f"somebody listens at {path}; give another with --socket, or end what uses it")


def _why_not(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} of {host} is in use; give another with --port (0 takes a free one), or end what uses it"
        case errno.EACCES:
            return f"this user may not listen on port {port}; give one from 1024 on with --port"
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine; give another with --host"
        case _:
            return f"cannot listen on port {port} of {host}: {error.strerror}"


def run(settings: Settings, listener: socket.socket, issuer: Issuer, *, ready: Callable[[], None]) -> None:
    """Serve on *listener* in this process until SIGINT or SIGTERM; call *ready* once requests are answered.

    Raises:
        ConfigurationError: the settings do not fit the store.
        StoreUnavailable: the store does not answer.
    """
    run_app(lambda: build(settings, issuer=issuer), listener, tls=settings.tls, ready=ready)


def run_app(
    make: Callable[[], App[S]], listener: socket.socket, *, tls: Tls | None, ready: Callable[[], None]
) -> None:
    """Serve the application that *make* gives, as `run` does.

    Raises:
        ConfigurationError, Unavailable: it cannot be started.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(make, listener, tls, ready))


def place_of(listener: socket.socket, *, tls: Tls | None) -> str:
    """Return the address that *listener* has."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{name}:{port}"


def announcement(settings: Settings, listener: socket.socket, issuer: Issuer) -> str:
    """Return the line that says where the server is."""
    place = place_of(listener, tls=settings.tls)
    known = "" if issuer == place else f" as {issuer}"
    processes = "" if settings.workers == 1 else f", {settings.workers} workers"
    return f"keyfob: serving on {place}{known}{processes}; ctrl-c ends it"


def say(line: str) -> None:
    """Print one line at once: whoever started the server may be waiting for it."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _serve(
    make: Callable[[], App[S]], listener: socket.socket, tls: Tls | None, ready: Callable[[], None]
) -> None:
    app = make()
    # Before uvicorn would: so that what is wrong becomes one line and not a traceback.
    await app.start()
    try:
        server = Server(_config(app, tls), app, ready=ready)
        await server.serve(sockets=[listener])
    finally:
        await app.stop()


def _config(app: App[S], tls: Tls | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="none",
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE,
        ssl_certfile=str(tls.cert) if tls else None,
        ssl_keyfile=str(tls.key) if tls else None,
    )


class Server(uvicorn.Server):
    """uvicorn's server, which ends the open streams before it waits for its connections, and returns after a signal."""

    def __init__(self, config: uvicorn.Config, app: App[S], *, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._close_streams = app.close_streams
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets=sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: no new connections, then the streams, which would never end by themselves, then what is under way."""
        for server in self.servers:
            server.close()
        await self._close_streams()
        await super().shutdown(sockets=sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals that end the server while the block lasts. They are not raised again: ending when asked to is success."""
        before = {number: signal.signal(number, self._end) for number in SIGNALS}
        end_watch = _watch_parent(self)
        try:
            yield
        finally:
            end_watch()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.handle_exit(number, frame)


def _watch_parent(server: uvicorn.Server) -> Callable[[], None]:
    """End *server* when the process that started this one is gone, however it went; return what ends the watch."""
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is None:
        return lambda: None
    loop, sentinel = asyncio.get_running_loop(), parent.sentinel

    def gone() -> None:
        loop.remove_reader(sentinel)
        server.should_exit = True

    loop.add_reader(sentinel, gone)

    def end_watch() -> None:
        loop.remove_reader(sentinel)

    return end_watch


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's, or None, asyncio's own, where there is no uvloop."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop
