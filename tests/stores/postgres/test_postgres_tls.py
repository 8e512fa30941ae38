"""TLS and SCRAM against Debian's PostgreSQL 15, and a few verbs as through a pooler."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Ended, Rotated
from keyfob.stores.opening import migrate_store, open_store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.postgres_server import PostgresServer
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import found, position, put_new, revocation

DEBIAN = Path("/usr/lib/postgresql/15/bin")
PASSWORD = "hunter2 p@ss"
QUOTED = "hunter2%20p%40ss"


def _certificate(folder: Path, name: str) -> Path:
    """Write a certificate of its own for *name*, and its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    try:
        alternative: x509.GeneralName = x509.IPAddress(ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = path.with_suffix(".key")
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    secret.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(secret, folder.stat().st_uid, folder.stat().st_gid)
    return path


@pytest.fixture(scope="module")
def debian() -> Iterator[PostgresServer]:
    """Give a PostgreSQL 15 that speaks TLS, to users with a password alone."""
    if not (DEBIAN / "postgres").exists():
        pytest.skip("Debian's PostgreSQL 15 is not installed")
    server = PostgresServer(bin_folder=DEBIAN)
    try:
        certificate = _certificate(server.folder, "127.0.0.1")
        _certificate(server.folder, "elsewhere.example")
        server = _with_tls(server, certificate)
        yield server
    finally:
        server.remove()


def _with_tls(server: PostgresServer, certificate: Path) -> PostgresServer:
    server.configure(
        {
            "ssl": "on",
            "ssl_cert_file": str(certificate),
            "ssl_key_file": str(certificate.with_suffix(".key")),
            "password_encryption": "scram-sha-256",
        }
    )
    server.start()
    (server.data / "pg_hba.conf").write_text(
        "host all keyfob 127.0.0.1/32 trust\nhostssl all app 127.0.0.1/32 scram-sha-256\n"
    )
    server.stop(mode="fast")
    server.start()
    return server


@pytest.fixture
async def url(debian: PostgresServer) -> str:
    """Return the URL of a new database of the user `app`, without its query."""
    if await debian.count("SELECT count(*) FROM pg_roles WHERE rolname = 'app'") == 0:
        await debian.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
    name = await debian.create_database()
    await debian.execute(f"ALTER DATABASE {name} OWNER TO app")
    return f"postgresql://app:{QUOTED}@127.0.0.1:{debian.port}/{name}"


async def test_verbs_over_tls_with_a_password(debian: PostgresServer, url: str) -> None:
    trusted = f"{url}?sslrootcert={debian.folder / '127.0.0.1.pem'}"
    assert (await migrate_store(trusted)).before == 0
    clock = FrozenClock()
    store = await open_store(trusted, clock=clock)
    assert (
        await debian.count(
            "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'app' AND ssl"
        )
        > 0
    )
    session = await put_new(store, clock)
    assert isinstance(await rotate(store, session.session_id, 0, clock.now()), Rotated)
    order = revocation(Scope.SESSION, session.session_id, clock.now())
    assert isinstance(await store.sessions.end(order, now=clock.now()), Ended)
    assert await position(store) == 1
    assert (await found(store, session.session_id)).ended_position == 1
    assert await store.sessions.delete_expired(clock.now(), 10) == 0
    await store.close()


@pytest.mark.parametrize("query", ["sslmode=verify-full", "sslmode=verify-ca", "sslrootcert={elsewhere}"])
async def test_a_server_that_cannot_prove_who_it_is_is_not_spoken_to(
    debian: PostgresServer, url: str, query: str
) -> None:
    chosen = query.format(elsewhere=debian.folder / "elsewhere.example.pem")
    with pytest.raises(StoreUnavailable, match="SSL") as raised:
        await open_store(f"{url}?{chosen}", clock=FrozenClock())
    assert "hunter2" not in str(raised.value)


async def test_a_wrong_password_is_a_matter_of_configuration(debian: PostgresServer, url: str) -> None:
    wrong = url.replace(QUOTED, "wrong-hunter2")
    with pytest.raises(ConfigurationError, match="refuses user") as raised:
        await open_store(f"{wrong}?sslmode=require", clock=FrozenClock())
    assert "hunter2" not in str(raised.value)


async def test_without_tls_the_server_refuses(url: str) -> None:
    with pytest.raises(ConfigurationError, match="refuses user"):
        await open_store(f"{url}?sslmode=disable", clock=FrozenClock())


async def test_as_through_a_pooler_nothing_is_prepared_and_followers_are_woken(postgres_url: str) -> None:
    """What pgbouncer asks for in transaction mode; pgbouncer itself is not here."""
    address = postgres_url.partition("@")[2].partition("/")[0]
    clock = FrozenClock()
    store = await open_store(f"{postgres_url}?pooler={address}", clock=clock)
    session = await put_new(store, clock)
    for generation in range(2):
        clock.advance(60)
        assert isinstance(await rotate(store, session.session_id, generation, clock.now()), Rotated)
    assert await found(store, session.session_id)
    await store.close()
