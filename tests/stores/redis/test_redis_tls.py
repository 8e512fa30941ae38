"""`rediss://` against Debian's Redis 7.0: the server must prove who it is, and may ask the same of a client."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from keyfob.base.errors import StoreUnavailable
from keyfob.sessions.store import Rotated
from keyfob.stores.opening import open_store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.redis_server import RedisServer, free_port, redis_program
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import found, put_new

Certify = Callable[[Path, str], Path]


@pytest.fixture(autouse=True)
async def until_closed() -> AsyncIterator[None]:
    """Wait until the sockets of refused connections are closed: asyncio does so after the farewell of TLS, and not before the loop's end."""
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("there is no /proc")
    before = _sockets(folder)
    yield
    async with asyncio.timeout(10):
        while _sockets(folder) > before:
            await asyncio.sleep(0.01)


def _sockets(folder: Path) -> int:
    count = 0
    for each in folder.iterdir():
        with suppress(OSError):  # the one that lists the folder is gone again
            count += os.readlink(each).startswith("socket:")
    return count


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("redis-tls")


@pytest.fixture(scope="module")
def debian(folder: Path, certify: Certify) -> Iterator[RedisServer]:
    """Give a Redis that speaks TLS alone, to clients with a certificate alone."""
    program = redis_program()
    if program is None:
        pytest.skip("Debian's redis-server is not installed")
    certificate = certify(folder, "127.0.0.1")
    server = RedisServer(
        program=program,
        settings={
            "port": "0",
            "tls-port": str(free_port()),
            "tls-cert-file": str(certificate),
            "tls-key-file": str(certificate.with_suffix(".key")),
            "tls-ca-cert-file": str(certificate),
            "tls-auth-clients": "yes",
        },
    )
    with server:
        yield server


@pytest.fixture
def url(debian: RedisServer, folder: Path) -> str:
    certificate = folder / "127.0.0.1.pem"
    port = debian.setting("tls-port")
    own = f"tls_cert={certificate}&tls_key={certificate.with_suffix('.key')}"
    return f"rediss://127.0.0.1:{port}/0?tls_ca={certificate}&{own}"


async def test_it_works_by_tls(url: str, clock: FrozenClock) -> None:
    store = await open_store(url, clock=clock)
    session = await put_new(store, clock)
    assert isinstance(await rotate(store, session.session_id, 0, clock.now()), Rotated)
    assert (await found(store, session.session_id)).generation == 1
    await store.close()


async def test_a_server_that_nobody_vouches_for_is_refused(
    url: str, folder: Path, certify: Certify, clock: FrozenClock
) -> None:
    stranger = certify(folder, "127.0.0.9")
    with pytest.raises(StoreUnavailable):
        await open_store(url.replace("127.0.0.1.pem&tls_cert", f"{stranger.name}&tls_cert"), clock=clock)


async def test_a_certificate_of_another_name_is_refused(url: str, clock: FrozenClock) -> None:
    by_name = url.replace("127.0.0.1:", "localhost:")
    with pytest.raises(StoreUnavailable):
        await open_store(by_name, clock=clock)
    store = await open_store(f"{by_name}&tls_verify=ca", clock=clock)
    await store.close()


async def test_a_client_without_a_certificate_is_refused(url: str, clock: FrozenClock) -> None:
    with pytest.raises(StoreUnavailable):
        await open_store(url.partition("&tls_cert")[0], clock=clock)


async def test_plain_text_is_no_way_in(url: str, clock: FrozenClock) -> None:
    with pytest.raises(StoreUnavailable):
        await open_store(url.partition("?")[0].replace("rediss", "redis"), clock=clock)
