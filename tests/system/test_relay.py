"""Relays between a server and its verifiers: real processes, one relay, a chain of them, and one that cheats."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import urllib3

from keyfob import Denied, Verifier

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

HEARTBEAT = timedelta(seconds=0.2)
MAX_STALENESS = timedelta(seconds=2)


class Site:
    """A server with accounts, an administrator, and clients that may follow."""

    def __init__(self, deployment: Any) -> None:
        self.deployment = deployment
        self.api = deployment.api
        self.relay_client = deployment.add_client("relay", "keyfob:feed")
        self.verifier_client = deployment.add_client("orders", "keyfob:feed")
        deployment.add_users("alice", "bob")
        deployment.add_users("admin", roles=("keyfob:admin",))
        self.server = deployment.start()
        self.admin = self.api.login("admin", strategy="session").body["session_token"]

    def login(self, name: str = "alice") -> dict[str, str]:
        reply = self.api.login(name, audience=["orders", self.api.url])
        assert reply.status == 200, reply.raw
        return reply.body

    def revoke(self, scope: str, target: str = "") -> int:
        reply = self.api.post("/admin/api/revocations", {"scope": scope, "id": target}, token=self.admin)
        assert reply.status == 201, reply.raw
        return int(reply.body["position"])


class Relay:
    """One relay process."""

    def __init__(self, process: subprocess.Popen[bytes], place: Any) -> None:
        self.process = process
        self.url = place.url
        self.api = place.api

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(15)

    def status(self, path: str) -> int:
        try:
            return int(self.api.get(path).status)
        except self.api.NoAnswer:
            return 0

    def metric(self, name: str) -> float:
        text = self.api.get("/metrics").raw.decode()
        match = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        assert match, text
        return float(match[1])


@pytest.fixture
def site(deploy: Any) -> Site:
    return Site(deploy(feed_heartbeat=f"{HEARTBEAT.total_seconds()}"))


@pytest.fixture
def relay(deploy: Any, eventually: Any) -> Iterator[Callable[..., Relay]]:
    started: list[Relay] = []

    def start(site: Site, upstream: str | None = None, *, ready: bool = True, place: Any = None) -> Relay:
        place = place or deploy()
        client_id, secret = site.relay_client
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("KEYFOB_")},
            "KEYFOB_CLIENT_ID": client_id,
            "KEYFOB_CLIENT_SECRET": secret,
            "KEYFOB_FEED_HEARTBEAT": f"{HEARTBEAT.total_seconds()}",
        }
        with (place.folder / f"relay-{len(started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "keyfob.cli", "relay", "--port", str(place.port)),
                    *("--upstream", upstream or site.api.url),
                ],
                env=environment,
                cwd=place.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        one = Relay(process, place)
        one.place = place
        started.append(one)
        if ready:
            eventually(lambda: one.status("/readyz") == 200, "the relay is level", within=40)
        return one

    yield start
    for one in started:
        one.process.send_signal(signal.SIGTERM)
    for one in started:
        try:
            one.process.wait(15)
        except subprocess.TimeoutExpired:
            one.kill()
            raise


@pytest.fixture
def follow() -> Iterator[Callable[..., Verifier]]:
    with ExitStack() as stack:

        def following(site: Site, feed_url: str, **more: Any) -> Verifier:
            verifier = Verifier.follow(
                site.api.url,
                feed_url=feed_url,
                audience="orders",
                credentials=site.verifier_client,
                heartbeat=HEARTBEAT,
                max_staleness=MAX_STALENESS,
                start_timeout=timedelta(seconds=30),
                **more,
            )
            return stack.enter_context(verifier)

        yield following


def says(verifier: Verifier, grant: dict[str, str]) -> str:
    try:
        verifier.verify(grant["access_token"])
    except Denied as denied:
        return denied.cause.value
    return "ok"


def test_a_verifier_behind_a_chain_of_relays_denies_at_once(site, relay, follow, eventually):
    first = relay(site)
    second = relay(site, first.url)
    verifiers = [follow(site, url) for url in (first.url, second.url, site.api.url)]
    before, other = site.login(), site.login("bob")
    site.revoke("session", site.login()["session_id"])
    assert {says(verifier, before) for verifier in verifiers} == {"ok"}

    position = site.revoke("subject", before["subject"])

    for verifier in verifiers:
        eventually(lambda v=verifier: says(v, before) == "revoked", "denied", within=2)
        assert says(verifier, other) == "ok"
    heads = {(verifier.stats().position, verifier.is_level) for verifier in verifiers}
    assert heads == {(position, True)}, "positions are the authority's everywhere"


def test_a_verifier_behind_a_chain_of_relays_is_measured_as_any_other(site, relay, follow, eventually):
    first = relay(site)
    second = relay(site, first.url)
    names = {"near": site.api.url, "far": second.url}
    for name, url in names.items():
        follow(site, url, report_as=name)

    def slo() -> dict[str, Any]:
        return site.api.get("/admin/api/revocation-slo", token=site.admin).body

    eventually(
        lambda: [one["canaries"] >= 1 for one in slo()["verifiers"]] == [True, True],
        "a canary came through both relays",
        within=40,
    )
    found = slo()
    assert found["state"] == "level"
    assert {one["verifier"] for one in found["verifiers"]} == set(names)
    assert all(one["missed"] == one["doubtful"] == 0 for one in found["verifiers"])


def test_a_hundred_followers_of_a_relay_are_one_to_the_authority(site, relay, follow, eventually):
    one = relay(site)
    for _ in range(5):
        follow(site, one.url)

    assert one.metric("keyfob_feed_followers") == 5
    text = site.api.get("/metrics").raw.decode()
    assert "keyfob_feed_followers 1.0" in text


def test_a_late_verifier_begins_with_the_authoritys_snapshot_byte_for_byte(site, relay, follow):
    grant, kept = site.login(), site.login("bob")
    site.revoke("session", grant["session_id"])
    one = relay(site)
    verifier = follow(site, one.url)
    assert (says(verifier, grant), says(verifier, kept)) == ("revoked", "ok")

    client_id, secret = site.verifier_client
    headers = urllib3.make_headers(basic_auth=f"{client_id}:{secret}")
    with urllib3.PoolManager() as pool:
        packed = [
            pool.request("GET", f"{url}/feed/snapshot", headers=headers, decode_content=False).data
            for url in (one.url, site.api.url)
        ]
    assert packed[0] == packed[1]


def test_staleness_adds_up_when_the_authority_is_gone(site, relay, follow, eventually):
    first = relay(site)
    second = relay(site, first.url)
    verifier = follow(site, second.url)
    grant = site.login()
    assert says(verifier, grant) == "ok"

    site.server.kill()
    gone = time.monotonic()

    eventually(lambda: says(verifier, grant) == "verifier_stale", "stale", within=15)
    stale_after = time.monotonic() - gone
    assert stale_after <= MAX_STALENESS.total_seconds() + 1, "nothing on the way may make it look fresher"
    eventually(
        lambda: first.status("/readyz") == 503 and second.status("/readyz") == 503, "not ready", within=15
    )
    assert first.status("/healthz") == 200
    done = site.deployment.command("revoke", "session", grant["session_id"])
    assert done.returncode == 0, done.stderr
    site.server = site.deployment.start()
    eventually(lambda: says(verifier, grant) == "revoked", "what was missed is known", within=30)
    bob = site.login("bob")
    eventually(lambda: says(verifier, bob) == "ok", "level again", within=30)


def test_a_relay_that_is_killed_and_comes_back_is_followed_again(site, relay, follow, eventually):
    one = relay(site)
    verifier = follow(site, one.url)
    grant = site.login()
    assert says(verifier, grant) == "ok"
    one.kill()
    site.revoke("session", grant["session_id"])
    eventually(lambda: says(verifier, grant) != "ok", "stale within its bound", within=10)

    relay(site, place=one.place)

    eventually(lambda: says(verifier, grant) == "revoked", "what was missed is known", within=30)
    bob = site.login("bob")
    eventually(lambda: says(verifier, bob) == "ok", "level again", within=30)


def test_a_relay_may_be_started_before_its_authority(site, relay, follow, eventually):
    site.server.end()
    one = relay(site, ready=False)
    eventually(lambda: one.status("/readyz") == 503, "it runs, and is not ready", within=20)
    assert one.status("/feed/keys") == 503

    site.server = site.deployment.start()

    eventually(lambda: one.status("/readyz") == 200, "it is level", within=30)
    assert says(follow(site, one.url), site.login()) == "ok"


def test_whoever_may_not_follow_the_authority_may_not_follow_its_relay(site, relay, follow):
    one = relay(site)
    client_id, secret = site.verifier_client
    stranger = site.deployment.add_client("stock", "keyfob:introspect")
    for credentials in ((client_id, secret[:-1] + "x"), ("nobody", "secret"), stranger):
        headers = urllib3.make_headers(basic_auth=":".join(credentials))
        for path in ("/feed", "/feed/snapshot", "/feed/time?nonce=0123456789abcdef"):
            with urllib3.PoolManager() as pool:
                answer = pool.request("GET", one.url + path, headers=headers)
            assert answer.status in {401, 403}, (credentials[0], path)
    for path in ("/feed", "/feed/snapshot", "/feed/time?nonce=0123456789abcdef"):
        assert one.status(path) == 401
    assert says(follow(site, one.url), site.login()) == "ok"


def test_a_relay_without_an_upstream_or_a_client_says_what_to_do(site):
    nothing = site.deployment.command("relay")
    assert (nothing.returncode, "--upstream" in nothing.stderr) == (1, True)
    no_client = site.deployment.command("relay", "--upstream", site.api.url)
    assert (no_client.returncode, "KEYFOB_CLIENT_ID" in no_client.stderr) == (1, True)


class CheatingRelay:
    """Passes everything on, but what `change` makes of the events of the stream."""

    def __init__(self, upstream: str) -> None:
        self.change: Callable[[str], str] = lambda event: event
        cheat = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                wanted = {
                    name: self.headers[name]
                    for name in ("Authorization", "Last-Event-ID", "Accept")
                    if self.headers[name]
                }
                request = urllib.request.Request(upstream + self.path, headers=wanted)
                try:
                    with urllib.request.urlopen(request, timeout=10) as answer:
                        self._pass_on(answer)
                except OSError:
                    self.close_connection = True

            def _pass_on(self, answer: Any) -> None:
                self.send_response(answer.status)
                is_stream = self.path == "/feed"
                for name in ("Content-Type", "Content-Encoding"):
                    if answer.headers[name]:
                        self.send_header(name, answer.headers[name])
                self.end_headers()
                if not is_stream:
                    self.wfile.write(answer.read())
                    return
                pending = ""
                while piece := answer.read1(65536):
                    pending += piece.decode()
                    *events, pending = pending.split("\n\n")
                    for event in events:
                        self.wfile.write(cheat.change(event + "\n\n").encode())
                        self.wfile.flush()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def cheating(site: Site) -> Iterator[CheatingRelay]:
    relay = CheatingRelay(site.api.url)
    yield relay
    relay.server.shutdown()
    relay.server.server_close()


def _flipped(event: str) -> str:
    """Alter one character inside the signed payload of an entry."""
    head, dot, rest = event.partition(".")
    return head + dot + ("A" if rest[20] != "A" else "B").join([rest[:20], rest[21:]])


CHEATS: dict[str, Callable[[str], str]] = {
    "drops entries": lambda event: "" if "event: entry" in event else event,
    "alters entries": lambda event: _flipped(event) if "event: entry" in event else event,
    "repeats entries": lambda event: event + event if "event: entry" in event else event,
    "sends half of entries": lambda event: (
        event[: len(event) // 2] + "\n\n" if "event: entry" in event else event
    ),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_relay_that_cheats_is_found_out_within_a_heartbeat(site, cheating, follow, eventually, cheat):
    told: list[str] = []
    verifier = follow(site, cheating.url, on_event=lambda event: told.append(event.code))
    grant, other = site.login(), site.login("bob")
    assert says(verifier, other) == "ok"
    cheating.change = CHEATS[cheat]

    site.revoke("session", grant["session_id"])
    revoked_at = time.monotonic()

    eventually(lambda: says(verifier, grant) != "ok", "denied, by entry or for staleness", within=5)
    assert time.monotonic() - revoked_at < HEARTBEAT.total_seconds() + 1.5
    eventually(lambda: "feed_resync" in told, "the event is told", within=5)
    cheating.change = lambda event: event
    eventually(lambda: says(verifier, other) == "ok", "level once it is honest", within=20)
    assert says(verifier, grant) == "revoked"


def test_a_relay_that_withholds_everything_makes_verifiers_stale_within_their_bound(
    site, cheating, follow, eventually
):
    verifier = follow(site, cheating.url)
    grant = site.login()
    assert says(verifier, grant) == "ok"
    recorded: list[str] = []

    def replay(event: str) -> str:
        """Send the last heartbeat that was honest, again and again."""
        if "event: heartbeat" in event and not recorded:
            recorded.append(event)
        return recorded[0] if recorded else event

    cheating.change = replay
    site.revoke("session", grant["session_id"])
    revoked_at = time.monotonic()

    eventually(lambda: says(verifier, grant) != "ok", "stale", within=15)
    assert time.monotonic() - revoked_at <= MAX_STALENESS.total_seconds() + 1


def test_an_authority_on_an_older_copy_learns_from_the_relay_what_it_has_lost(
    site, relay, follow, eventually
):
    """The whole folder was put back, so nothing beside the database tells of it; the relay hands back what the authority signed."""
    site.deployment.expected_errors |= {"feed_went_back", "feed_reappended"}
    one = relay(site)
    verifier = follow(site, one.url)
    grant, other = site.login(), site.login("bob")
    site.server.end()
    copies = {path: path.read_bytes() for path in site.deployment.folder.glob("keyfob.db*")}
    site.server = site.deployment.start()
    lost = site.revoke("session", grant["session_id"])
    eventually(lambda: says(verifier, grant) == "revoked", "denied", within=10)
    site.server.end()
    for path in site.deployment.folder.glob("keyfob.db*"):
        path.unlink()
    for path, raw in copies.items():
        path.write_bytes(raw)
        path.chmod(0o600)
    site.server = site.deployment.start()

    def is_over_again() -> bool:
        assert says(verifier, grant) in {"revoked", "verifier_stale"}
        return site.api.get("/session", token=grant["access_token"]).status == 401

    eventually(is_over_again, "the authority denies it too", within=30)
    assert site.api.post("/refresh", {"refresh_token": grant["refresh_token"]}).code == "revoked"
    eventually(lambda: one.status("/readyz") == 200, "level", within=30)
    eventually(lambda: says(verifier, other) == "ok", "nobody else was logged out", within=30)
    assert verifier.stats().position >= lost
    assert says(verifier, grant) == "revoked"
