"""Debian's Redis 7.0, the oldest that is supported: what touches sessions and the feed, in plain text and by TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis

from keyfob.stores.opening import open_store
from keyfob.stores.store import Store
from keyfob.testing.account_store_contract import AccountStoreContract
from keyfob.testing.feed_mending_contract import FeedMendingContract
from keyfob.testing.feed_store_contract import FeedStoreContract
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.racers import ProcessRacers, Racers
from keyfob.testing.races import StoreRaces
from keyfob.testing.redis_server import RedisServer, free_port, redis_program
from keyfob.testing.renewal_contract import RenewalContract
from keyfob.testing.rotation_contract import RotationContract
from keyfob.testing.session_end_contract import SessionEndContract
from keyfob.testing.session_history import SessionHistories
from keyfob.testing.session_store_contract import SessionStoreContract
from keyfob.testing.transfer_contract import TransferContract


@pytest.fixture(scope="module")
def debian(
    tmp_path_factory: pytest.TempPathFactory, certify: Callable[[Path, str], Path]
) -> Iterator[tuple[RedisServer, Path]]:
    """Give a server that speaks both, and its certificate."""
    program = redis_program()
    if program is None:
        pytest.skip("Debian's redis-server is not installed")
    certificate = certify(tmp_path_factory.mktemp("debians-redis"), "127.0.0.1")
    settings = {
        "tls-port": str(free_port()),
        "tls-cert-file": str(certificate),
        "tls-key-file": str(certificate.with_suffix(".key")),
        "tls-ca-cert-file": str(certificate),
        "tls-auth-clients": "no",
    }
    with RedisServer(program=program, settings=settings) as server:
        yield server, certificate


@pytest.fixture(params=["plain", "tls"])
async def url(request: pytest.FixtureRequest, debian: tuple[RedisServer, Path]) -> str:
    """Give the URL of an empty store, in plain text and by TLS."""
    server, certificate = debian
    async with Redis(port=server.port) as raw:
        await raw.flushall()
    if request.param == "plain":
        return server.url
    return f"rediss://127.0.0.1:{server.setting('tls-port')}/0?tls_ca={certificate}"


class OnDebiansRedis:
    @pytest.fixture
    async def store(self, clock: FrozenClock, url: str) -> AsyncIterator[Store]:
        store = await open_store(url, clock=clock)
        yield store
        await store.close()


class Plainly:
    @pytest.fixture
    async def store(self, clock: FrozenClock, debian: tuple[RedisServer, Path]) -> AsyncIterator[Store]:
        server, _ = debian
        async with Redis(port=server.port) as raw:
            await raw.flushall()
        store = await open_store(server.url, clock=clock)
        yield store
        await store.close()


class TestSessionsInDebiansRedis(OnDebiansRedis, SessionStoreContract):
    pass


class TestRotationInDebiansRedis(OnDebiansRedis, RotationContract):
    pass


class TestSessionEndsInDebiansRedis(Plainly, SessionEndContract):
    pass


class TestRenewalInDebiansRedis(Plainly, RenewalContract):
    pass


class TestFeedInDebiansRedis(OnDebiansRedis, FeedStoreContract):
    pass


class TestFeedMendingInDebiansRedis(Plainly, FeedMendingContract):
    pass


class TestAccountsInDebiansRedis(Plainly, AccountStoreContract):
    reads_holder_along = True


class TestTransferOfDebiansRedis(Plainly, TransferContract):
    @pytest.fixture
    async def other(
        self, store: Store, clock: FrozenClock, debian: tuple[RedisServer, Path]
    ) -> AsyncIterator[Store]:
        """A second database, with a store of the same salt: both are copies of one."""
        server, _ = debian
        async with Redis(port=server.port) as first, Redis(port=server.port, db=1) as second:
            meta = await first.hgetall("kf:{feed}:meta")
            await second.hset("kf:{feed}:meta", mapping=meta | {b"timeline": "another"})
        other = await open_store(f"{server.url.removesuffix('/0')}/1", clock=clock)
        yield other
        await other.close()


class Between(OnDebiansRedis):
    rounds = 2

    @pytest.fixture
    def racers(self, store: Store, url: str, processes: ProcessRacers) -> Racers:
        processes.open(partial(open_store, url, clock=FrozenClock()))
        return processes


class TestRacesInDebiansRedis(Between, StoreRaces):
    pass


class TestHistoriesInDebiansRedis(Between, SessionHistories):
    pass
