"""An authority behind TLS with a CA of the test's own, and the clients that others wrote."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from keyfob.authority.authority import Authority

DEADLINE = 60.0  # seconds: with every core busy
NPM = Path(__file__).parent / "npm"
_LOCKED = ("package.json", "package-lock.json", ".npmrc")
_AWAY = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH")


# TLS


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Files: the CA that clients trust, and what the server shows."""

    ca: Path
    certificate: Path
    key: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make a CA, and a certificate of it for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    ca_key, ca = _certificate("The CA of these tests", None)
    key, certificate = _certificate("127.0.0.1", (ca_key, ca))
    files = Certificates(ca=folder / "ca.pem", certificate=folder / "server.pem", key=folder / "server.key")
    files.ca.write_bytes(ca.public_bytes(Encoding.PEM))
    files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


def _certificate(
    name: str, by: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Make a certificate, signed by another's key, or a CA's by its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signing, issuer = (key, subject) if by is None else (by[0], by[1].subject)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=by is None,
                crl_sign=by is None,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if by is not None:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return key, builder.sign(signing, hashes.SHA256())


# The authority


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A `keyfob serve` over HTTPS on a SQLite file."""

    issuer: str
    ca: Path
    store: str
    port: int
    pool: urllib3.PoolManager = field(repr=False)

    def with_authority(self, work: Callable[[Authority], Awaitable[Any]]) -> Any:
        """Open the database in this process, beside the server, and return what *work* returns."""

        async def opened() -> Any:
            async with Authority.open(self.store, issuer=self.issuer) as authority:
                return await work(authority)

        return asyncio.run(opened())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Site]:
    """Start a server on a SQLite file."""
    folder = tmp_path_factory.mktemp("authority")
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
    issuer, store = f"https://127.0.0.1:{port}", f"sqlite:///{folder}/keyfob.db"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KEYFOB_")}
    environment |= {
        "KEYFOB_STORE": store,
        "KEYFOB_ISSUER": issuer,
        "KEYFOB_STATE_FOLDER": str(folder / "state"),
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "keyfob.cli", "serve", "--port", str(port)),
                *("--tls-cert", str(certificates.certificate), "--tls-key", str(certificates.key)),
            ],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    pool = urllib3.PoolManager(retries=False, timeout=DEADLINE, ca_certs=str(certificates.ca))
    try:
        _await(pool, issuer, process, folder / "server.log")
        yield Site(issuer=issuer, ca=certificates.ca, store=store, port=port, pool=pool)
    finally:
        pool.clear()
        process.terminate()
        assert process.wait(DEADLINE) == 0, (folder / "server.log").read_text()
    assert '"level": "error"' not in (folder / "server.log").read_text()


def _await(pool: urllib3.PoolManager, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + DEADLINE
    while True:
        with suppress(urllib3.exceptions.HTTPError):
            if pool.request("GET", f"{url}/readyz").status == 200:
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, "the server did not start"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def _no_other_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no variable of this machine say which certificates clients trust."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


# Node


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Install what package-lock.json says, once for all runs, outside of the tree; give the folder."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs node and npm")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keyfob-tests"
    digest = hashlib.sha256(b"".join((NPM / name).read_bytes() for name in _LOCKED))
    made = cache / f"real-clients-{digest.hexdigest()[:24]}"
    if made.is_dir():
        return made
    cache.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=cache))
    try:
        for name in _LOCKED:
            shutil.copy(NPM / name, folder / name)
        ran = subprocess.run(
            [npm, "ci"], cwd=folder, capture_output=True, text=True, timeout=240, check=False
        )
        if ran.returncode and any(code in ran.stderr for code in _AWAY):
            pytest.skip("the registry of npm packages cannot be reached")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        with suppress(OSError):  # another process was faster
            folder.rename(made)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return made


@pytest.fixture(scope="session")
def run_node(node_modules: Path, certificates: Certificates) -> Callable[..., Any]:
    """Run a script of the folder npm with a JSON object; return the one that it prints."""

    def run(script: str, world: object, *, ca: Path | None = certificates.ca) -> Any:
        copy = node_modules / f"{os.getpid()}-{script}"  # node looks for packages beside the script
        copy.write_bytes((NPM / script).read_bytes())
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NODE_")}
        if ca is not None:
            environment["NODE_EXTRA_CA_CERTS"] = str(ca)
        try:
            ran = subprocess.run(
                ["node", str(copy)],
                input=json.dumps(world),
                env=environment,
                capture_output=True,
                text=True,
                timeout=DEADLINE,
                check=False,
            )
        finally:
            copy.unlink()
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return json.loads(ran.stdout)

    return run
