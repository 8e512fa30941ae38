"""TLS and SCRAM with PostgreSQL 15, whose programs of the distribution know TLS. Neither a wrong CA nor a wrong password says the password."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.stores.opening import migrate_store, open_store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.postgres_server import PostgresServer
from keyfob.testing.store_contract import is_live, put_new

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
PASSWORD = "sesame-7f3a"  # of a database of the test
NOBODY = 65534

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        not (PROGRAMS / "initdb").exists() or shutil.which("openssl") is None,
        reason="PostgreSQL 15 of the distribution, or openssl, is not installed",
    ),
]


def _make_certificate(folder: Path, name: str) -> Path:
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
            "-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem"),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return folder / f"{name}.pem"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[PostgresServer]:
    _make_certificate(folder, "wrong")
    with PostgresServer(bin_folder=PROGRAMS) as server:
        certificate = shutil.copy(_make_certificate(folder, "server"), server.folder)
        key = shutil.copy(folder / "server.key", server.folder)
        for path in (certificate, key):
            os.chmod(path, 0o600)
            if os.geteuid() == 0:
                os.chown(path, NOBODY, NOBODY)
        asyncio.run(_demand_scram(server, certificate, key))
        yield server


async def _demand_scram(server: PostgresServer, certificate: str, key: str) -> None:
    for statement in (
        "CREATE DATABASE guarded",
        f"ALTER USER keyfob PASSWORD '{PASSWORD}'",
        f"ALTER SYSTEM SET ssl_cert_file = '{certificate}'",
        f"ALTER SYSTEM SET ssl_key_file = '{key}'",
        "ALTER SYSTEM SET ssl = on",
    ):
        await server.execute(statement)
    (server.data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    await server.execute("SELECT pg_reload_conf()")


def _url(server: PostgresServer, *, ca: Path, password: str = PASSWORD, host: str = "localhost") -> str:
    return f"postgresql://keyfob:{password}@{host}:{server.port}/guarded?sslmode=verify-full&sslrootcert={ca}"


async def test_a_server_with_the_right_certificate_and_password_is_a_store(
    server: PostgresServer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = _url(server, ca=folder / "server.pem")
    clock = FrozenClock()
    with caplog.at_level(logging.DEBUG):
        await migrate_store(url)
        store = await open_store(url, clock=clock)
        session = await put_new(store, clock)
        assert await is_live(store, session.session_id, clock.now())
        await store.close()
    assert PASSWORD not in caplog.text
    # The server saw TLS only, and no password either.
    assert PASSWORD not in (server.folder / "log").read_text()


@pytest.mark.parametrize("wrong", ["certificate", "name", "password", "no TLS"])
async def test_everything_else_is_refused_without_saying_the_password(
    server: PostgresServer, folder: Path, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    right = folder / "server.pem"
    secret = PASSWORD[::-1] if wrong == "password" else PASSWORD
    url = {
        "certificate": _url(server, ca=folder / "wrong.pem"),
        "name": _url(server, ca=right, host="127.0.0.1"),
        "password": _url(server, ca=right, password=secret),
        "no TLS": f"postgresql://keyfob:{PASSWORD}@localhost:{server.port}/guarded?sslmode=disable",
    }[wrong]
    expected = StoreUnavailable if wrong in {"certificate", "name"} else ConfigurationError
    with caplog.at_level(logging.DEBUG), pytest.raises(expected) as refused:
        await open_store(url, clock=FrozenClock())
    assert refused.value.__cause__ is None
    assert secret not in f"{refused.value!r} {refused.value}"
    assert secret not in caplog.text
