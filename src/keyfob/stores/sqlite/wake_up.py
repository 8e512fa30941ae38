"""The wake-up between processes on one file: a datagram to whoever listens, and a look at the file where none arrives.

Each listening process has a datagram socket in the folder `<database>-wake`. A datagram carries nothing: the table is the truth.
Without sockets (a folder that cannot be written, a system that has none) a look at the head of the feed each 50 ms does alone. It costs
a hundred-thousandth of a core, and it is the truth itself, where SQLite's `data_version` would only be a hint of it.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from keyfob.base.errors import StoreUnavailable
from keyfob.stores.wakers import Wakers

POLL_INTERVAL = 0.05  # seconds
_UNREADABLE = -1
_ATTEMPTS = 5
_LONGEST_ADDRESS = 107  # bytes of a socket's address on Linux, the final zero not counted (macOS: 103)


class WakeUps:
    """The folder of sockets beside a database: `send` wakes every other process that listens, `open_socket` is for those."""

    def __init__(self, database: Path) -> None:
        self._folder = database.with_name(f"{database.name}-wake")
        self._own: str | None = None

    def send(self) -> None:
        """Wake every other process. A socket that nobody holds any more is removed; whatever else fails is left to the polling."""
        try:
            names = os.listdir(self._folder)  # noqa: PTH208 - names are what is wanted
        except OSError:
            return
        others = [name for name in names if name != self._own]
        if not others:
            return
        try:
            sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        except OSError:
            return
        with sender:
            sender.setblocking(False)
            for name in others:
                self._send_to(sender, name)

    def open_socket(self) -> socket.socket | None:
        """Return a socket that the others' `send` reaches; None where there can be none."""
        if not hasattr(socket, "AF_UNIX"):
            return None
        name = f"{os.getpid()}-{os.urandom(4).hex()}"
        for _ in range(_ATTEMPTS):
            try:
                receiver = self._bind(name)
            except FileNotFoundError:  # whoever was the last has just removed the folder
                continue
            except OSError:
                return None
            self._own = name
            return receiver
        return None

    def close_socket(self, receiver: socket.socket) -> None:
        """Close what `open_socket` returned, and remove its name; the folder too, if it was the last."""
        receiver.close()
        if self._own is None:
            return
        self._remove(self._own)
        self._own = None
        try:
            self._folder.rmdir()
        except OSError:
            return

    def _bind(self, name: str) -> socket.socket:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            with _Address(self._folder, name) as address:
                receiver.bind(address)
        except OSError:
            receiver.close()
            raise
        return receiver

    def _send_to(self, sender: socket.socket, name: str) -> None:
        try:
            with _Address(self._folder, name) as address:
                sender.sendto(b"\0", address)
        except ConnectionRefusedError:  # nobody holds it any more; a file that is no socket refuses too
            if (self._folder / name).is_socket():
                self._remove(name)
        except OSError:  # full: it is awake already; gone, or not ours: the polling does
            return

    def _remove(self, name: str) -> None:
        try:
            (self._folder / name).unlink()
        except OSError:
            return


class _Address:
    """The address of a socket in *folder*: by way of the folder's descriptor (Linux) where the path is too long for one."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._descriptor: int | None = None

    def __enter__(self) -> str:
        path = str(self._folder / self._name)
        if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
            return path
        self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._descriptor}/{self._name}"

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


class Watch:
    """Looks after the file for as long as it is open: is it still there, and has another process moved the feed?

    Its thread runs from the beginning to `close`; it listens to the others from the first subscription.
    """

    def __init__(
        self,
        wakers: Wakers,
        wake_ups: WakeUps,
        *,
        inspect: Callable[[], None],
        read_position: Callable[[], int],
    ) -> None:
        """*inspect* looks at the file; *read_position* returns the head position from it. Each may raise `StoreUnavailable`."""
        self._wakers = wakers
        self._wake_ups = wake_ups
        self._inspect = inspect
        self._read_position = read_position
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._receiver: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="keyfob-sqlite-watch", daemon=True)
        self._thread.start()

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Add *wake* and listen, if nobody did; return what removes it.

        Raises:
            StoreUnavailable: the store is closed.
        """
        with self._lock:
            if self._stop.is_set():
                raise StoreUnavailable("the store is closed")
            if self._receiver is None:
                self._receiver = self._wake_ups.open_socket()
            return self._wakers.add(wake)

    def close(self) -> None:
        """Stop; returns within one poll interval. More than once is harmless."""
        self._wakers.clear()
        with self._lock:
            self._stop.set()
            self._thread.join()
            if self._receiver is not None:
                self._wake_ups.close_socket(self._receiver)
                self._receiver = None

    def _run(self) -> None:
        known = self._look()
        while not self._stop.is_set():
            if self._is_called():
                self._wakers.wake()
                continue
            position = self._look()
            if position != known or position == _UNREADABLE:
                self._wakers.wake()
            known = position

    def _is_called(self) -> bool:
        """Wait for a datagram, for one poll interval; take all that have come."""
        if self._receiver is None:
            self._stop.wait(POLL_INTERVAL)
            return False
        self._receiver.settimeout(POLL_INTERVAL)
        try:
            self._receiver.recv(1)
            self._receiver.setblocking(False)
            while self._receiver.recv(1):
                continue
        except BlockingIOError:
            return True
        except TimeoutError:
            return False
        except OSError:  # the socket is no good any more
            self._stop.wait(POLL_INTERVAL)
            return False
        return True

    def _look(self) -> int:
        """Return the head position; `_UNREADABLE` for a file that cannot be read, which a follower must find out for itself."""
        try:
            self._inspect()
            return self._read_position()
        except StoreUnavailable:
            return _UNREADABLE
