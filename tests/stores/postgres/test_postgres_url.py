"""A `postgresql://` URL is read strictly, and its password stays out of sight."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from keyfob.base.errors import ConfigurationError
from keyfob.stores.postgres.url import read_url


def test_all_of_it_is_read() -> None:
    options = read_url(
        "postgresql://al%40ice:p%3Ass%2Fw@db.example:6432,other.example/key%20fob?connections=3"
    )
    assert options.addresses == (("db.example", 6432), ("other.example", 5432))
    assert (options.user, options.password, options.database) == ("al@ice", "p:ss/w", "key fob")
    assert options.connections == 3
    assert options.name == "key fob at db.example:6432,other.example:5432"
    assert not options.is_pooled


def test_the_password_is_in_no_repr() -> None:
    options = read_url("postgresql://user:hunter2@127.0.0.1/db")
    assert "hunter2" not in repr(options) + str(options) + options.name


def test_a_socket_is_a_folder() -> None:
    options = read_url("postgresql://user@/db?host=/run/postgresql")
    assert options.addresses == (("/run/postgresql", 5432),)
    assert options.tls is None
    assert read_url("postgresql://user@:5433/db?host=/run").addresses == (("/run", 5433),)


def test_a_pooler_needs_the_server_itself_beside_it() -> None:
    options = read_url("postgresql://user@127.0.0.1:6432/db?pooler=127.0.0.1:5432")
    assert options.addresses == (("127.0.0.1", 6432),)
    assert options.listen_at == (("127.0.0.1", 5432),)
    assert options.is_pooled


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_the_loopback_address_needs_no_tls(host: str) -> None:
    assert read_url(f"postgresql://user@{host}/db").tls is None


@pytest.mark.parametrize(
    ("query", "verifies", "checks_name"),
    [
        ("", ssl.CERT_REQUIRED, True),
        ("?sslmode=verify-full", ssl.CERT_REQUIRED, True),
        ("?sslmode=verify-ca", ssl.CERT_REQUIRED, False),
        ("?sslmode=require", ssl.CERT_NONE, False),
    ],
)
@pytest.mark.parametrize("hosts", ["db.example", "127.0.0.1,db.example"])
def test_everybody_else_is_spoken_to_by_tls(
    hosts: str, query: str, verifies: ssl.VerifyMode, checks_name: bool
) -> None:
    tls = read_url(f"postgresql://user@{hosts}/db{query}").tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname) == (verifies, checks_name)


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "user:hunter2@host",
        "user:hunter2@host/",
        "user:hunter2@/db",
        "host/db",
        ":hunter2@host/db",
        "user:hunter2@host/db/more",
        "user:hunter2@host:0/db",
        "user:hunter2@host:65536/db",
        "user:hunter2@host:x/db",
        "user:hunter2@host:/db",
        "user:hunter2@host,/db",
        "user:hunter2@[::1/db",
        "user:hunter2@[::1]x/db",
        "user:hunter2@ho st/db",
        "user:hunter2@host/db#part",
        "user:hunter2@host/d%00b",
        "user:hunter2@host/db?sslmode=prefer",
        "user:hunter2@host/db?sslmode=allow",
        "user:hunter2@host/db?sslmode=",
        "user:hunter2@host/db?sslmode=disable&sslmode=require",
        "user:hunter2@host/db?sslrootcert=/nowhere",
        "user:hunter2@host/db?sslmode=disable&sslrootcert=/dev/null",
        "user:hunter2@host/db?connections=0",
        "user:hunter2@host/db?connections=501",
        "user:hunter2@host/db?options=-csearch_path=x",
        "user:hunter2@host/db?password=hunter2",
        "user:hunter2@host/db?pooler=",
        "user:hunter2@host/db?host=/run",
        "user:hunter2@/db?host=run",
        "user:hunter2@host/db?x",
    ],
)
def test_what_is_not_known_is_refused_in_one_line_without_the_password(rest: str) -> None:
    with pytest.raises(ConfigurationError, match="postgresql://") as raised:
        read_url(f"postgresql://{rest}")
    assert "hunter2" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root.pem"
    root.write_text("no certificate")
    with pytest.raises(ConfigurationError, match="TLS files"):
        read_url(f"postgresql://user:hunter2@db.example/db?sslrootcert={root}")
