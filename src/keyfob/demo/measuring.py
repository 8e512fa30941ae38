"""How long a credential that was good goes on being accepted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from keyfob.demo.browser import Device, Reply
from keyfob.demo.processes import SERVICES, DemoFailed

LONGEST_WAIT = 20.0  # seconds until a service that still accepts ends the demo


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """The first denial by one service: milliseconds after the revocation returned (0 if before), and its cause."""

    service: str
    after_ms: float
    cause: str


def first_denials(
    device: Device, revoke: Callable[[], Reply], *, path: str = "/", token: str | None = None
) -> tuple[Reply, list[Denial]]:
    """Call all three services without a pause, *revoke* meanwhile, and say when each first denied.

    Each service is called by a thread of its own over a connection that stays open, beginning before the revocation. What counts is the
    arrival of its first answer that is a denial, against the arrival of the answer to the revocation.

    Raises:
        DemoFailed: a service denied before there was a reason, or did not deny within 20 seconds.
    """
    watches = [_Watch(device, service, path, token or device.token) for service in SERVICES]
    for watch in watches:
        watch.begin()
    reply = revoke()
    returned = time.perf_counter()
    return reply, [watch.result(returned) for watch in watches]


class _Watch:
    """Calls one service until it denies."""

    def __init__(self, device: Device, service: str, path: str, token: str) -> None:
        self._accepted = threading.Event()
        self._device = device
        self._service = service
        self._path = path
        self._token = token
        self._denied_at = 0.0
        self._cause = ""
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._call, daemon=True)

    def begin(self) -> None:
        """Start calling, and return after the first call was accepted."""
        self._thread.start()
        if not self._accepted.wait(LONGEST_WAIT):
            raise DemoFailed(
                f"{self._service} did not accept a good credential: {self._failure or self._cause}"
            )

    def result(self, returned: float) -> Denial:
        self._thread.join(LONGEST_WAIT)
        if self._thread.is_alive() or self._failure:
            raise DemoFailed(f"{self._service}: {self._failure or 'still accepts what was revoked'}")
        after_ms = max(0.0, (self._denied_at - returned) * 1000)
        return Denial(service=self._service, after_ms=round(after_ms, 2), cause=self._cause)

    def _call(self) -> None:
        until = time.perf_counter() + LONGEST_WAIT
        try:
            while time.perf_counter() < until:
                reply = self._device.call(self._service, self._path, token=self._token)
                if reply.status != 200:
                    self._denied_at = time.perf_counter()
                    self._cause = reply.code
                    return
                self._accepted.set()
            self._failure = "still accepts what was revoked"
        except DemoFailed as error:
            self._failure = str(error)
