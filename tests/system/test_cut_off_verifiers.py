"""Verifiers that are cut off, in each of the ways there are, beside a real server.

In every test one thread verifies a credential without a pause, from before its revocation on. What counts is the last moment at which it was
accepted, after the call that revoked it returned: it must lie within the bound, `max_staleness`, whatever happened. The figures are kept as
properties of the tests (`worst_ms`); docs/explanation/bounds.md shows those of one machine.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import Any

import pytest

from keyfob import Denied, Verifier
from keyfob.base.clock import SystemClock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

HEARTBEAT = timedelta(seconds=0.2)
MAX_STALENESS = timedelta(seconds=2)
BOUND = MAX_STALENESS.total_seconds()
HALF = 200  # octets of an event: more than its name, less than its entry
SLACK = 0.05  # seconds: a thread that was about to note the time when it was put aside


class Proxy:
    """Forwards TCP connections to a port, until it is told to hold everything back without closing, or to drop and refuse."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.target = 0
        self._flows = threading.Event()
        self._flows.set()
        self._refuses = False
        self._cuts_in: bytes | None = None
        self._open: set[socket.socket] = set()
        self._ended = False
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """Forward nothing more, and close nothing: a network that swallows packets."""
        self._flows.clear()

    def drop(self) -> None:
        """Cut every connection, and accept none that lives."""
        self._refuses = True
        for end in list(self._open):
            _close(end)

    def cut_in(self, mark: bytes) -> None:
        """Forward up to the middle of the next event that begins with *mark*; then cut everything, and refuse."""
        self._cuts_in = mark

    def heal(self) -> None:
        self._refuses = False
        self._cuts_in = None
        self._flows.set()

    def close(self) -> None:
        self._ended = True
        self._flows.set()
        self._listener.close()
        self.drop()

    def _accept(self) -> None:
        while not self._ended:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses:
                _close(near)
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                _close(near)
                continue
            self._open |= {near, far}
            threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        source.settimeout(None)
        with suppress(OSError):
            while piece := source.recv(65536):
                self._flows.wait()
                if is_answer and self._cuts_in is not None and self._cuts_in in piece:
                    sink.sendall(piece[: piece.index(self._cuts_in) + HALF])
                    self.drop()
                    break
                sink.sendall(piece)
        for end in (source, sink):
            self._open.discard(end)
            _close(end)


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


class Watched:
    """A credential that a thread verifies without a pause."""

    def __init__(self, verifier: Verifier, token: str) -> None:
        self._verifier = verifier
        self._token = token
        self.accepted_at = 0.0
        self.causes: set[str] = set()
        self.last = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.001):
            begun = time.monotonic()
            try:
                self._verifier.verify(self._token)
            except Denied as denied:
                self.last = denied.cause.value
                self.causes.add(self.last)
            else:
                self.last = "ok"
                self.accepted_at = begun

    def end(self) -> None:
        self._ended.set()
        self._thread.join(10)


class ShiftedClock(SystemClock):
    """This machine's wall clock, off by so many seconds."""

    def __init__(self, off: float) -> None:
        self._off = off

    def now(self):
        return super().now() + timedelta(seconds=self._off)

    def time(self) -> float:
        return super().time() + self._off


class Site:
    def __init__(self, deployment: Any, proxy: Proxy) -> None:
        self.deployment = deployment
        self.api = deployment.api
        self.proxy = proxy
        proxy.target = deployment.port
        self.credentials = deployment.add_client("orders", "keyfob:feed")
        deployment.add_users("alice", "bob")
        self.server = deployment.start()

    def login(self, name: str) -> dict[str, str]:
        reply = self.api.login(name, audience=["orders", self.proxy.url])
        assert reply.status == 200, reply.raw
        return reply.body

    def log_out(self, grant: dict[str, str]) -> float:
        """End the session of *grant*; return when the call returned."""
        reply = self.api.post("/logout", {"refresh_token": grant["refresh_token"]})
        assert reply.status == 204, reply.raw
        return time.monotonic()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    yield proxy
    proxy.close()


@pytest.fixture
def site(deploy: Any, proxy: Proxy) -> Site:
    return Site(deploy(feed_heartbeat=f"{HEARTBEAT.total_seconds()}", issuer=proxy.url), proxy)


@pytest.fixture
def follow(site: Site) -> Iterator[Callable[..., Verifier]]:
    with ExitStack() as stack:

        def following(**options: Any) -> Verifier:
            return stack.enter_context(
                Verifier.follow(
                    site.proxy.url,
                    **{
                        "audience": "orders",
                        "credentials": site.credentials,
                        "heartbeat": HEARTBEAT,
                        "max_staleness": MAX_STALENESS,
                        "start_timeout": timedelta(seconds=30),
                        "request_timeout": timedelta(seconds=1),
                        **options,
                    },
                )
            )

        yield following


@pytest.fixture
def watch() -> Iterator[Callable[[Verifier, dict[str, str]], Watched]]:
    watched: list[Watched] = []

    def watching(verifier: Verifier, grant: dict[str, str]) -> Watched:
        watched.append(Watched(verifier, grant["access_token"]))
        return watched[-1]

    yield watching
    for one in watched:
        one.end()


@pytest.fixture
def worst(record_property: Callable[[str, object], None]) -> Callable[[Watched, float], float]:
    """Return how long after its revocation the credential was last accepted, in seconds, and keep the figure."""

    def measured(watched: Watched, revoked_at: float) -> float:
        late = max(0.0, watched.accepted_at - revoked_at)
        record_property("worst_ms", round(late * 1000, 1))
        return late

    return measured


FAULTS: dict[str, Callable[[Site], None]] = {
    "a network that swallows everything": lambda site: site.proxy.hold(),
    "connections that are cut and refused": lambda site: site.proxy.drop(),
    "half an entry, and nothing more": lambda site: site.proxy.cut_in(b"event: entry"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_accepted_past_the_bound_and_all_is_known_after_healing(
    site, follow, watch, worst, eventually, fault
):
    verifier = follow()
    ended, kept = site.login("alice"), site.login("bob")
    one, other = watch(verifier, ended), watch(verifier, kept)
    eventually(lambda: (one.last, other.last) == ("ok", "ok"), "both are good")

    FAULTS[fault](site)
    revoked_at = site.log_out(ended)

    eventually(lambda: one.last != "ok" and other.last != "ok", "stale", within=BOUND + 10)
    assert worst(one, revoked_at) <= BOUND + SLACK
    assert not verifier.is_level
    site.proxy.heal()
    eventually(lambda: one.last == "revoked" and other.last == "ok", "level again, and it knows", within=30)
    assert verifier.is_level


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_clock_that_is_ten_minutes_off_moves_no_bound(site, follow, watch, worst, eventually, minutes):
    verifier = follow(clock=ShiftedClock(60 * minutes))
    ended, kept = site.login("alice"), site.login("bob")
    one, other = watch(verifier, ended), watch(verifier, kept)
    eventually(lambda: (one.last, other.last) == ("ok", "ok"), "both are good")
    assert abs(verifier.stats().clock_offset + 60 * minutes) < 5

    site.proxy.hold()
    revoked_at = site.log_out(ended)

    eventually(lambda: one.last != "ok", "stale", within=BOUND + 10)
    assert worst(one, revoked_at) <= BOUND + SLACK
    site.proxy.heal()
    eventually(lambda: one.last == "revoked" and other.last == "ok", "level again, and it knows", within=30)


def test_after_everything_was_restarted_at_once_nothing_ended_lives(site, follow, watch, worst, eventually):
    verifiers = [follow() for _ in range(3)]
    ended, kept = site.login("alice"), site.login("bob")
    watched = [watch(verifier, ended) for verifier in verifiers]
    eventually(lambda: all(one.last == "ok" for one in watched), "all accept it")

    revoked_at = site.log_out(ended)
    site.server.kill()
    for verifier in verifiers[1:]:
        verifier.close()
    site.server = site.deployment.start()
    for verifier in verifiers[1:]:
        verifier.start()

    for one, verifier in zip(watched, verifiers, strict=True):
        eventually(lambda one=one: one.last == "revoked", "denied", within=30)
        assert worst(one, revoked_at) <= BOUND + SLACK
        eventually(lambda verifier=verifier: _says(verifier, kept) == "ok", "level again", within=30)


def test_a_server_that_is_killed_in_the_middle_of_revocations_keeps_what_it_acknowledged(
    site, follow, watch, eventually
):
    verifier = follow()
    grants = [site.login("alice") for _ in range(40)]
    acknowledged: list[dict[str, str]] = []
    begun = threading.Event()

    def revoke() -> None:
        for grant in grants:
            try:
                site.log_out(grant)
            except site.api.NoAnswer:
                return
            acknowledged.append(grant)
            if len(acknowledged) == 5:
                begun.set()

    thread = threading.Thread(target=revoke)
    thread.start()
    assert begun.wait(20)
    site.server.kill()
    thread.join(30)
    site.server = site.deployment.start()
    bob = site.login("bob")
    eventually(lambda: _says(verifier, bob) == "ok", "level again", within=30)

    assert [grant for grant in acknowledged if _says(verifier, grant) != "revoked"] == []


def _says(verifier: Verifier, grant: dict[str, str]) -> str:
    try:
        verifier.verify(grant["access_token"])
    except Denied as denied:
        return denied.cause.value
    return "ok"
