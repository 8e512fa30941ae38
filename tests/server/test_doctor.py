"""The doctor: each thing that is unsafe has a finding of its own, and looking changes nothing."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from keyfob.accounts.passwords import PasswordPolicy
from keyfob.base.identifiers import Issuer
from keyfob.server.doctor import Finding, Severity, check, examine
from keyfob.server.opening import open_authority
from keyfob.server.settings import Settings, Tls
from keyfob.server.surroundings import Found, look
from keyfob.sessions.policy import SessionPolicy
from keyfob.testing.frozen_clock import FrozenClock

NOW = datetime(2026, 12, 1, tzinfo=UTC)
SAFE = Settings(
    issuer=Issuer("https://auth.example"), master_key=bytes(32), trusted_proxies=("127.0.0.1/32",)
)
SURROUNDED = Found(
    now=NOW,
    cores=4,
    database=Path("/srv/keyfob.db"),
    database_mode=0o600,
    key_file=Path("/srv/keyfob.db.key"),
    free_bytes=50 * 2**30,
    disk_bytes=100 * 2**30,
    schema=1,
    current_schema=1,
    has_administrator=True,
    latest=NOW,
)


def changed(settings: Settings = SAFE, found: Found = SURROUNDED, **changes: object) -> list[Finding]:
    from dataclasses import replace

    of_settings = {name: value for name, value in changes.items() if name in Settings.__slots__}
    of_found = {name: value for name, value in changes.items() if name not in Settings.__slots__}
    return check(replace(settings, **of_settings), replace(found, **of_found))


def test_a_deployment_that_is_safe_has_nothing_to_mend() -> None:
    assert changed() == []


TLS = Tls(cert=Path("/srv/chain.pem"), key=Path("/srv/key.pem"))
UNSAFE, CONSIDER = Severity.UNSAFE, Severity.CONSIDER


@pytest.mark.parametrize(
    ("changes", "id_", "severity"),
    [
        ({"issuer": None}, "issuer-not-set", CONSIDER),
        ({"issuer": "http://localhost:8080"}, "issuer-http", CONSIDER),
        ({"issuer": "https://example.org/auth"}, "cookie-path", CONSIDER),
        ({"host": "0.0.0.0"}, "listening-without-tls", CONSIDER),
        ({"trusted_proxies": ()}, "proxy-not-trusted", CONSIDER),
        ({"trusted_proxies": ("0.0.0.0/0",)}, "trusted-proxies-everyone", UNSAFE),
        ({"trusted_proxies": ("10.0.0.0/8", "::/0")}, "trusted-proxies-everyone", UNSAFE),
        ({"access_lifetime": timedelta(minutes=15, seconds=1)}, "access-lifetime", UNSAFE),
        ({"policy": SessionPolicy(replay_window=timedelta(0))}, "replay-window-zero", CONSIDER),
        ({"policy": SessionPolicy(replay_window=timedelta(seconds=61))}, "replay-window-long", CONSIDER),
        ({"master_key": None, "key_file_mode": 0o600}, "master-key-beside-database", CONSIDER),
        ({"next_key_file": Path("keyfob.db.key.new")}, "rewrap-interrupted", CONSIDER),
        ({"database_mode": 0o644}, "database-readable", UNSAFE),
        ({"config": Path("keyfob.toml"), "config_mode": 0o664}, "config-writable", UNSAFE),
        ({"tls": TLS, "tls_key_mode": 0o644}, "tls-key-readable", UNSAFE),
        ({"tls": TLS, "certificate_fault": "no"}, "tls-certificate", UNSAFE),
        ({"tls": TLS, "certificate_ends": NOW}, "tls-certificate-expired", UNSAFE),
        ({"tls": TLS, "certificate_ends": NOW + timedelta(days=14)}, "tls-certificate-ends", CONSIDER),
        ({"store_fault": "locked"}, "store", UNSAFE),
        ({"store": "memory://"}, "store-memory", CONSIDER),
        ({"store": "sqlite:///keyfob.db?synchronous=normal"}, "synchronous-not-full", UNSAFE),
        ({"schema": 1, "current_schema": 2}, "schema-older", CONSIDER),
        ({"free_bytes": 64 * 2**20 - 1}, "disk-full", UNSAFE),
        ({"free_bytes": 4 * 2**30}, "disk-nearly-full", CONSIDER),
        ({"workers": 5}, "workers-over-cores", CONSIDER),
        ({"has_administrator": False}, "no-administrator", CONSIDER),
        ({"now": datetime(2026, 10, 31, tzinfo=UTC), "latest": None}, "clock-behind", UNSAFE),
        ({"latest": NOW + timedelta(seconds=6)}, "clock-went-back", UNSAFE),
    ],
)
def test_each_thing_that_is_not_as_it_should_be_has_one_finding(
    changes: dict[str, object], id_: str, severity: Severity
) -> None:
    (finding,) = changed(**changes)
    assert (finding.id, finding.severity) == (id_, severity)
    for line in (finding.what, finding.mend):
        assert line
        assert "\n" not in line


@pytest.mark.parametrize(
    "changes",
    [
        {"access_lifetime": timedelta(minutes=15)},
        {"policy": SessionPolicy(replay_window=timedelta(seconds=60))},
        {"policy": SessionPolicy(replay_window=timedelta(seconds=1))},
        {"tls": TLS, "host": "0.0.0.0", "tls_key_mode": 0o640, "certificate_ends": NOW + timedelta(days=15)},
        {"config": Path("keyfob.toml"), "config_mode": 0o644},
        {"trusted_proxies": ("10.0.0.1/32",)},
        {"trusted_proxies": (), "tls": TLS, "certificate_ends": NOW + timedelta(days=90)},
        {"workers": 4},
        {"latest": NOW + timedelta(seconds=5)},
        {"schema": None, "has_administrator": None, "latest": None, "free_bytes": None},
        {"schema": 0, "current_schema": 2},
    ],
)
def test_at_the_limit_there_is_nothing_to_mend(changes: dict[str, object]) -> None:
    assert changed(**changes) == []


def test_a_readable_key_file_is_unsafe_and_one_that_is_not_used_is_not_looked_at() -> None:
    ids = [finding.id for finding in changed(master_key=None, key_file_mode=0o640)]
    assert ids == ["master-key-readable", "master-key-beside-database"]
    assert changed(key_file_mode=0o640) == []


def test_what_is_unsafe_comes_first() -> None:
    findings = changed(workers=5, access_lifetime=timedelta(hours=1), has_administrator=False)
    assert [finding.severity for finding in findings] == [UNSAFE, CONSIDER, CONSIDER]


# Looking around


@pytest.fixture
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("KEYFOB_")]:
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("_in_an_empty_directory")
def test_settings_that_do_not_load_are_a_finding_and_not_an_error() -> None:
    Path("keyfob.toml").write_text("prot = 1")
    (finding,) = examine()
    assert finding.id == "configuration"
    assert finding.severity is UNSAFE
    assert "prot" in finding.what


@pytest.mark.usefixtures("_in_an_empty_directory")
def test_looking_at_nothing_makes_nothing(tmp_path: Path) -> None:
    ids = [finding.id for finding in examine()]
    assert "no-administrator" not in ids
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_in_an_empty_directory")
def test_a_real_store_is_looked_into_and_not_changed(tmp_path: Path) -> None:
    settings = Settings(passwords=PasswordPolicy(memory_kib=8, iterations=1, threads=1))

    async def add(name: str, role: str) -> None:
        async with open_authority(settings) as authority:
            await authority.accounts.add(name, "correct horse battery", roles=[role])

    asyncio.run(add("alice", "buyer"))
    before = Path("keyfob.db").read_bytes()
    assert {"no-administrator", "master-key-beside-database"} <= {finding.id for finding in examine()}
    assert Path("keyfob.db").read_bytes() == before
    asyncio.run(add("root", "keyfob:admin"))
    assert "no-administrator" not in {finding.id for finding in examine()}
    Path("keyfob.db.key").chmod(0o644)
    Path("keyfob.db").chmod(0o640)
    assert {"master-key-readable", "database-readable"} <= {finding.id for finding in examine()}


@pytest.mark.usefixtures("_in_an_empty_directory")
def test_an_administrator_who_is_disabled_is_none() -> None:
    settings = Settings(passwords=PasswordPolicy(memory_kib=8, iterations=1, threads=1))

    async def add_and_disable() -> Found:
        async with open_authority(settings) as authority:
            root = await authority.accounts.add("root", "correct horse battery", roles=["keyfob:admin"])
            await authority.accounts.disable(root.subject, actor="cli")
        return await look(settings, FrozenClock())

    assert asyncio.run(add_and_disable()).has_administrator is False


@pytest.mark.usefixtures("_in_an_empty_directory")
def test_an_older_schema_is_seen_without_migrating_it() -> None:
    asyncio.run(_open_once(Settings()))
    file = Path("keyfob.db")
    header = bytearray(file.read_bytes())
    current = int.from_bytes(header[60:64], "big")
    found = asyncio.run(look(Settings(), FrozenClock()))
    assert found.schema == found.current_schema == current
    header[60:64] = (current + 1).to_bytes(4, "big")
    file.write_bytes(header)
    found = asyncio.run(look(Settings(), FrozenClock()))
    assert found.schema == current + 1
    assert found.has_administrator is None


async def _open_once(settings: Settings) -> None:
    async with open_authority(settings):
        pass


@pytest.mark.usefixtures("_in_an_empty_directory")
def test_the_end_of_a_certificate_is_read_and_what_is_none_is_a_fault(tmp_path: Path) -> None:
    cert, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    cert.write_bytes(_certificate(NOW + timedelta(days=3)))
    key.write_text("-")
    key.chmod(0o604)
    settings = Settings(store="memory://", tls=Tls(cert=cert, key=key))
    found = asyncio.run(look(settings, FrozenClock(NOW)))
    assert found.certificate_ends == NOW + timedelta(days=3)
    assert found.tls_key_mode == 0o604
    cert.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert asyncio.run(look(settings, FrozenClock(NOW))).certificate_fault


def _certificate(ends: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "auth.example")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(ends - timedelta(days=90))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("late", "found"), [(timedelta(0), False), (timedelta(minutes=15), False), (timedelta(minutes=16), True)]
)
def test_a_client_that_takes_no_logout_token_is_found(late: timedelta, found: bool) -> None:
    around = Found(now=datetime(2027, 1, 1, tzinfo=UTC), cores=8, told_late=late)
    findings = {finding.id: finding for finding in check(Settings(), around)}
    assert ("backchannel-stuck" in findings) is found
    if found:
        assert "16m" in findings["backchannel-stuck"].what
