"""Posting a logout token over TLS: to the name of the URL, by a chain that is trusted, at an address that was judged."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from keyfob.authority import logout_post
from keyfob.authority.logout_post import BackchannelPolicy, LogoutPost, NotDelivered
from keyfob.base.errors import ConfigurationError

from .receiver import Receiver

NETWORKS = ("127.0.0.0/8",)


def certificate(folder: Path, *names: x509.GeneralName) -> Path:
    """Write a certificate that signs itself, with its key, for *names*."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{len(list(folder.iterdir()))}.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + made.public_bytes(Encoding.PEM)
    )
    return file


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return certificate(tmp_path, x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")))


def serving(file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def test_a_client_whose_certificate_is_trusted_is_told(good: Path) -> None:
    async with Receiver(tls=serving(good)) as shop:
        await LogoutPost(BackchannelPolicy(networks=NETWORKS, ca=good))(
            f"https://localhost:{shop.port}/out", "a.b.c"
        )
        assert shop.tokens == ["a.b.c"]


@pytest.mark.parametrize("fault", ["not trusted", "another name"])
async def test_a_client_that_cannot_prove_its_name_is_told_nothing(
    good: Path, tmp_path: Path, fault: str
) -> None:
    other = certificate(tmp_path, x509.DNSName("other.example"))
    served, trusted = (good, other) if fault == "not trusted" else (other, other)
    async with Receiver(tls=serving(served)) as shop:
        with pytest.raises(NotDelivered):
            await LogoutPost(BackchannelPolicy(networks=NETWORKS, ca=trusted))(
                f"https://localhost:{shop.port}/out", "a.b.c"
            )
        assert shop.tokens == []


async def test_a_name_is_resolved_once_and_only_a_judged_address_of_it_is_connected_to(
    good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebinding: what the name says a moment later is not asked."""
    asked: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> Any:
        asked.append(host)
        return [
            (2, 1, 6, "", ("10.0.0.1", port)),
            (2, 1, 6, "", ("127.0.0.1", port)),
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    async with Receiver(tls=serving(good)) as shop:
        await LogoutPost(BackchannelPolicy(networks=NETWORKS, ca=good))(
            f"https://localhost:{shop.port}/out", "a.b.c"
        )
        assert shop.tokens == ["a.b.c"]
    assert asked.count("localhost") == 1


async def test_a_name_that_leads_nowhere_public_is_not_connected_to(good: Path) -> None:
    async with Receiver(tls=serving(good)) as shop:
        for url in (f"https://localhost:{shop.port}/", f"https://127.0.0.1:{shop.port}/"):
            with pytest.raises(NotDelivered, match=r"backchannel\.networks"):
                await LogoutPost(BackchannelPolicy(ca=good))(url, "a.b.c")
        assert shop.most_under_way == 0


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logout_post, "DEADLINE", timedelta(seconds=0.3))


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 2"])
async def test_an_answer_that_does_not_come_is_waited_for_so_long_and_no_longer(
    soon: None, answer: bytes | None
) -> None:
    async with Receiver(answer) as shop:
        with pytest.raises(NotDelivered):
            await LogoutPost(BackchannelPolicy(networks=NETWORKS))(shop.url, "a.b.c")


async def test_who_is_not_there_is_not_told() -> None:
    async with Receiver() as shop:
        url = shop.url
    with pytest.raises(NotDelivered):
        await LogoutPost(BackchannelPolicy(networks=NETWORKS))(url, "a.b.c")
    with pytest.raises(NotDelivered):
        await LogoutPost(BackchannelPolicy())("https://does-not-exist.invalid/", "a.b.c")


async def test_a_policy_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        BackchannelPolicy(networks=("everywhere",))
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    with pytest.raises(ConfigurationError):
        await LogoutPost(BackchannelPolicy(networks=NETWORKS, ca=empty))("https://127.0.0.1:9/", "a.b.c")
