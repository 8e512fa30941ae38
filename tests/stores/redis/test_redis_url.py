"""From `redis://` URLs to options."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyfob.base.errors import ConfigurationError
from keyfob.stores.redis import RedisOptions, read_url
from keyfob.stores.redis.options import Tls, Topology


def test_a_url_says_where_who_and_which_database() -> None:
    assert read_url("redis://ann:p%40ss@127.0.0.1:7000/3?connections=5&replicas=1") == RedisOptions(
        topology=Topology.SINGLE,
        addresses=(("127.0.0.1", 7000),),
        user="ann",
        password="p@ss",
        database=3,
        connections=5,
        replicas=1,
    )
    assert read_url("valkey://localhost").addresses == (("localhost", 6379),)
    assert read_url("redis://[::1]:7000").addresses == (("::1", 7000),)


def test_sentinels_are_several_and_name_a_primary() -> None:
    options = read_url("redis+sentinel://:p@localhost:1,127.0.0.1/main?db=2&sentinel_password=s")
    assert options.topology is Topology.SENTINEL
    assert options.addresses == (("localhost", 1), ("127.0.0.1", 26379))
    assert (options.primary, options.database) == ("main", 2)
    assert (options.password, options.sentinel_password) == ("p", "s")
    assert options.name == "main by localhost:1,127.0.0.1:26379"


def test_another_machine_is_reached_by_tls_or_on_purpose_without(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="another machine without TLS"):
        read_url("redis://cache.example")
    assert read_url("redis://cache.example?tls_verify=off").tls is None
    assert read_url("rediss://cache.example").tls == Tls()
    ca = tmp_path / "ca.pem"
    ca.touch()
    assert read_url(f"rediss://cache.example?tls_ca={ca}&tls_verify=ca").tls == Tls(
        ca_file=str(ca), checks_name=False
    )


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis:///0",
        "redis://:hunter2@localhost/x",
        "redis://localhost/0/1",
        "redis://localhost:0",
        "redis://localhost:65536",
        "redis://localhost:6379x",
        "redis://localhost,127.0.0.1",
        "redis://localhost#1",
        "redis://localhost?connections=0",
        "redis://localhost?connections=65",
        "redis://localhost?replicas=6",
        "redis://localhost?db=1",
        "redis://localhost?connections=1&connections=2",
        "redis://localhost?tls_ca=/etc/passwd",
        "redis://localhost?tls_verify=full",
        "rediss://localhost?tls_verify=off",
        "rediss://localhost?tls_ca=/nowhere.pem",
        "rediss://localhost?tls_cert=/etc/hostname",
        "redis+sentinel://localhost",
        "redis+sentinel://localhost/a/b",
        "redis://[::1",
    ],
)
def test_what_is_not_meant_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="redis:// URL") as raised:
        read_url(url)
    assert "hunter2" not in str(raised.value)


def test_a_repr_holds_no_password() -> None:
    assert "hunter2" not in repr(read_url("redis+sentinel://:hunter2@localhost/m?sentinel_password=hunter2"))
