"""A verifier in a network of its own, joined to the server's by a wire that is pulled: with Linux's network namespaces, where root."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

BOUND = 2.0  # seconds: max_staleness
SLACK = 0.05
FOLLOWER = """
import json, sys, time
from datetime import timedelta
from keyfob import Denied, Verifier
issuer, client_id, secret, ca, token = sys.argv[1:]
with Verifier.follow(issuer, audience="orders", credentials=(client_id, secret), ca=ca, heartbeat=timedelta(seconds=0.2),
                     max_staleness=timedelta(seconds=2), start_timeout=timedelta(seconds=30)) as verifier:
    accepted_at, last = 0.0, ""
    while True:
        begun = time.monotonic()
        try:
            verifier.verify(token)
            said, accepted_at = "ok", begun
        except Denied as denied:
            said = denied.cause.value
        if said != last:
            last = said
            print(json.dumps([said, accepted_at]), flush=True)
        time.sleep(0.001)
"""


class Wire:
    """Two ends of one wire: this machine's at `near`, and a namespace's."""

    def __init__(self) -> None:
        number = os.getpid() % 250 + 1
        self.name = f"keyfob-{os.getpid()}"
        self._near_end, self._far_end = f"kf{os.getpid()}a"[:15], f"kf{os.getpid()}b"[:15]
        self.near, self._far = f"10.213.{number}.1", f"10.213.{number}.2"
        self._ip("netns", "add", self.name)
        self._ip("link", "add", self._near_end, "type", "veth", "peer", "name", self._far_end)
        self._ip("link", "set", self._far_end, "netns", self.name)
        self._ip("addr", "add", f"{self.near}/30", "dev", self._near_end)
        self._ip("link", "set", self._near_end, "up")
        self._ip("-n", self.name, "addr", "add", f"{self._far}/30", "dev", self._far_end)
        self._ip("-n", self.name, "link", "set", self._far_end, "up")
        self._ip("-n", self.name, "link", "set", "lo", "up")

    def pull(self) -> None:
        self._ip("-n", self.name, "link", "set", self._far_end, "down")

    def plug_in(self) -> None:
        self._ip("-n", self.name, "link", "set", self._far_end, "up")

    def close(self) -> None:
        subprocess.run(["ip", "link", "delete", self._near_end], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def wire() -> Iterator[Wire]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip(
            "needs root and iproute2 to make a network namespace; the TCP proxy of the other tests stands for it"
        )
    try:
        wire = Wire()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this system makes no network namespace: {error.stderr.decode().strip()}")
    yield wire
    wire.close()


def _certificate(folder: Path, address: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "keyfob test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(certificate.public_bytes(Encoding.PEM))
    private.touch(mode=0o600)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return chain, private


def test_a_verifier_whose_wire_is_pulled_denies_within_its_bound_and_learns_what_it_missed(
    deploy: Any, wire: Wire, eventually: Callable[..., None], record_property: Callable[[str, object], None]
) -> None:
    deployment = deploy(feed_heartbeat="0.2")
    chain, private = _certificate(deployment.folder, wire.near)
    issuer = f"https://{wire.near}:{deployment.port}"
    client_id, secret = deployment.add_client("orders", "keyfob:feed")
    deployment.add_users("alice")
    server = deployment.launch(
        *("--host", wire.near, "--issuer", issuer, "--tls-cert", str(chain), "--tls-key", str(private))
    )
    eventually(server.has_announced, "the server serves", within=40)
    with urllib3.PoolManager(ca_certs=str(chain)) as pool:

        def post(path: str, body: dict[str, object]) -> urllib3.BaseHTTPResponse:
            return pool.request("POST", issuer + path, json=body)

        login = {"username": "alice", "password": "seventeen green llamas", "strategy": "hybrid"}
        grant = post("/login", {**login, "audience": "orders", "transport": "body"}).json()
        arguments = [issuer, client_id, secret, str(chain), grant["access_token"]]
        heard = deployment.folder / "follower.out"
        with heard.open("wb") as output:
            follower = subprocess.Popen(
                ["ip", "netns", "exec", wire.name, sys.executable, "-c", FOLLOWER, *arguments],
                stdout=output,
                stdin=subprocess.DEVNULL,
            )
        try:

            def said() -> list[tuple[str, float]]:
                return [tuple(json.loads(line)) for line in heard.read_text().splitlines()]

            eventually(lambda: [word for word, _ in said()] == ["ok"], "it accepts", within=40)

            wire.pull()
            assert post("/logout", {"refresh_token": grant["refresh_token"]}).status == 204
            revoked_at = time.monotonic()

            eventually(lambda: said()[-1][0] == "verifier_stale", "it is stale", within=BOUND + 10)
            late = said()[-1][1] - revoked_at
            record_property("worst_ms", round(late * 1000, 1))
            assert late <= BOUND + SLACK
            wire.plug_in()
            eventually(lambda: said()[-1][0] == "revoked", "level again, and it knows", within=60)
            assert [word for word, _ in said()].count("ok") == 1
        finally:
            follower.terminate()
            follower.wait(15)
