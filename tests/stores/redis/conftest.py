"""Stores on a server of the test's own, and what an operator or bad luck may do to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.asyncio import Redis

from keyfob.stores.opening import open_store
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.redis_server import RedisServer, redis_program, valkey_program

Opener = Callable[[str], Awaitable[Store]]


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
async def opened(clock: FrozenClock) -> AsyncIterator[Opener]:
    """Open stores that are closed at the end."""
    async with AsyncExitStack() as stack:

        async def opened(url: str) -> Store:
            store = await open_store(url, clock=clock)
            stack.push_async_callback(store.close)
            return store

        yield opened


@pytest.fixture
async def store(opened: Opener, redis_url: str) -> Store:
    return await opened(redis_url)


@pytest.fixture
async def raw(redis_server: RedisServer) -> AsyncIterator[Any]:
    """Give a client past the store."""
    async with Redis(port=redis_server.port) as client:
        yield client


@pytest.fixture(params=["valkey", "redis"])
def own_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Give a server that the test may kill: Valkey, and Debian's Redis where it is installed."""
    program = valkey_program() if request.param == "valkey" else redis_program()
    if program is None:
        pytest.skip(f"no {request.param}-server is installed")
    with RedisServer(program=program) as server:
        yield server


@pytest.fixture
def until() -> Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]:
    """Give what waits until something is so."""

    async def until(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(10):
            while not await condition():
                await asyncio.sleep(0.01)

    return until


@pytest.fixture(scope="session")
def certify() -> Callable[[Path, str], Path]:
    """Give what writes a certificate of its own for an address, and its key beside it."""
    return _certificate


def _certificate(folder: Path, name: str) -> Path:
    """Write a certificate of its own for *name*, and its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(name))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    path.with_suffix(".key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path
