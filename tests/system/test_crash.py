"""The crash test: a server is killed at random moments, started again on the same file, and must have kept every word that it gave.

Customers log in, refresh, log out and are revoked over HTTP, each in a thread of its own and with a ledger of its own: what was
acknowledged, and what was under way when the server went. After each restart the ledgers are held against the server:

1. What was ended, by an acknowledged call or seen so after a lost one, is refused as `revoked`, and stays so for good.
2. What nobody ended works, with the last acknowledged token, also where the answer to a refresh was lost.
3. A lost call took effect wholly or not at all.
4. The file is sound; the feed has no gap, its chain holds, and no entry that was once there has changed.

`--crash-rounds 300` makes a soak test of it.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from keyfob.authority.authority import Authority
from keyfob.base.clock import SystemClock
from keyfob.base.identifiers import Position
from keyfob.revocation.entry import CHAIN_START, Entry, next_chain
from keyfob.stores.opening import open_store

ROUNDS = 8
LONGEST = 60.0  # seconds after which a slow machine begins no further round, unless a soak is asked for
CUSTOMERS = 8
FRESH = 6  # sessions that each customer is given before a burst
REPLAY_WINDOW = 60  # seconds, within which a server must be back for a lost refresh to be repeated
SAFE_REPLAYS = (
    2  # of one session: the third in a row closes its window, and then a lost answer costs the login
)
CHECKED = 40  # ended sessions that a customer looks at after a restart: the newest half, and any others

MIXED = {
    "log_in": 5,
    "refresh": 8,
    "log_out": 3,
    "log_out_others": 1,
    "log_out_everywhere": 1,
    "revoke_session": 3,
    "revoke_claims": 2,
    "revoke_subject": 1,
}
BURST = {"refresh": 10, "log_out": 4, "revoke_session": 4, "revoke_claims": 3, "log_out_others": 1}


class State(Enum):
    LIVE = "live"
    ENDED = "ended"
    UNCERTAIN = "uncertain"  # an end was under way when the server went


@dataclass
class Held:
    """A session as its customer knows it. `token` is what was acknowledged last: a refresh token, or the credential itself."""

    strategy: str
    session_id: str
    token: str
    access_token: str
    state: State = State.LIVE
    lost_refresh_at: float | None = None
    replays: int = 0
    """How often the answer to a refresh was lost."""
    stale: list[str] = field(default_factory=list)


class Tally:
    """Counts what is acknowledged in a round; whoever kills the server waits for a number."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._broken = False

    def note(self) -> None:
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def give_up(self) -> None:
        with self._changed:
            self._broken = True
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            reached = self._changed.wait_for(lambda: self._broken or self._count >= count, timeout=60)
        assert reached, f"only {self._count} calls of {count} were answered within a minute"


class Customer:
    """One user with several devices, and what it was told about each."""

    def __init__(self, api: Any, name: str, *, admin_token: str, seed: str) -> None:
        self.api = api
        self.name = name
        self.subject = ""
        self.sessions: list[Held] = []
        self.appended: list[tuple[int, str]] = []
        """Position and chain of every entry that the admin API acknowledged."""
        self._admin_token = admin_token
        self._random = random.Random(seed)

    def act(self, moves: dict[str, int], tally: Tally) -> None:
        """Make moves until the server is gone."""
        try:
            while True:
                (move,) = self._random.choices(list(moves), list(moves.values()))
                getattr(self, move)()
                tally.note()
        except self.api.NoAnswer:
            return
        except BaseException:
            tally.give_up()
            raise

    # Moves. Whatever may be lost is written into the ledger before it is sent.

    def log_in(self) -> None:
        strategy = self._random.choice(["session", "jwt", "hybrid", "hybrid"])
        reply = self.api.login(self.name, strategy=strategy)
        if reply.status == 429:  # logins that a kill left unfinished count as attempts
            return
        assert reply.status == 200, (self.name, reply)
        self.keep(reply.body)

    def keep(self, grant: dict[str, str]) -> None:
        """Write an acknowledged login into the ledger."""
        self.subject = grant["subject"]
        access_token = grant.get("access_token") or grant["session_token"]
        token = grant.get("refresh_token") or access_token
        held = Held(grant["strategy"], grant["session_id"], token, access_token)
        self.sessions.append(held)

    def refresh(self) -> None:
        held = self._pick(lambda held: held.strategy == "hybrid" and held.replays < SAFE_REPLAYS)
        if held is None:
            return self.log_in()
        held.lost_refresh_at = time.monotonic()
        reply = self._use(held)
        held.lost_refresh_at = None
        assert reply.status == 200, (held, reply)
        return self._take(held, reply)

    def log_out(self) -> None:
        held = self._pick()
        if held is None:
            return self.log_in()
        held.state = State.UNCERTAIN
        reply = (
            self.api.post("/logout", {"refresh_token": held.token})
            if held.strategy == "hybrid"
            else self.api.post("/logout", token=held.token)
        )
        assert reply.status == 204, (held, reply)
        held.state = State.ENDED
        return self._require_ended(held)

    def log_out_others(self) -> None:
        spared = self._pick(lambda held: held.strategy != "jwt" or not held.stale)
        if spared is None:
            return self.log_in()
        others = [held for held in self.sessions if held is not spared]
        return self._end(others, lambda: self._post_logout(spared, "others"), 204)

    def log_out_everywhere(self) -> None:
        held = self._pick()
        if held is None:
            return self.log_in()
        return self._end(self.sessions, lambda: self._post_logout(held, "all"), 204)

    def revoke_session(self) -> None:
        held = self._pick()
        if held is None:
            return self.log_in()
        reply = self._end([held], lambda: self._order("session", held.session_id), 201)
        self._note_entry(reply)
        return self._require_ended(held)

    def revoke_subject(self) -> None:
        if not self.subject:
            return self.log_in()
        reply = self._end(self.sessions, lambda: self._order("subject", self.subject), 201)
        return self._note_entry(reply)

    def revoke_claims(self) -> None:
        held = self._pick(lambda held: held.strategy == "hybrid")
        if held is None:
            return self.log_in()
        reply = self._order("session", held.session_id, reach="claims")
        assert reply.status == 201, (held, reply)
        held.stale = [*held.stale[-2:], held.access_token]
        return self._note_entry(reply)

    # After a restart

    def require_kept_word(self) -> None:
        """Hold the ledger against the server."""
        # Lost refreshes first: they can be repeated for as long as the window is open.
        for held in sorted(self.sessions, key=lambda held: held.lost_refresh_at is None):
            if held.state is not State.ENDED:
                self._settle(held)
        ended = [held for held in self.sessions if held.state is State.ENDED]
        older = ended[: -CHECKED // 2]
        for held in [*ended[-CHECKED // 2 :], *self._random.sample(older, min(len(older), CHECKED // 2))]:
            self._require_ended(held)

    def _settle(self, held: Held) -> None:
        reply = self._use(held)
        lost_at, held.lost_refresh_at = held.lost_refresh_at, None
        if held.state is State.UNCERTAIN and reply.status == 401:
            held.state = State.ENDED
            return self._require_ended(held)
        held.state = State.LIVE
        if lost_at is not None and time.monotonic() - lost_at > REPLAY_WINDOW - 1:
            held.state = State.ENDED if reply.code == "reused" else held.state
            return None
        assert reply.status == 200, (held, reply, reply.raw)
        if held.strategy == "hybrid":
            held.replays += lost_at is not None
            self._take(held, reply)
        assert self.api.get("/session", token=held.access_token).status == 200, held
        for token in held.stale:
            reply = self.api.get("/session", token=token)
            assert (reply.status, reply.code) == (401, "stale_claims"), held
        return None

    def _require_ended(self, held: Held) -> None:
        for reply in (self._use(held), self.api.get("/session", token=held.access_token)):
            assert (reply.status, reply.code) == (401, "revoked"), (held, reply, reply.raw)

    # Parts of moves

    def _pick(self, fits: Callable[[Held], bool] = lambda held: True) -> Held | None:
        fitting = [held for held in self.sessions if held.state is State.LIVE and fits(held)]
        return self._random.choice(fitting) if fitting else None

    def _use(self, held: Held) -> Any:
        if held.strategy == "hybrid":
            return self.api.post("/refresh", {"refresh_token": held.token})
        return self.api.get("/session", token=held.token)

    def _take(self, held: Held, reply: Any) -> None:
        assert reply.body["session_id"] == held.session_id
        held.token, held.access_token = reply.body["refresh_token"], reply.body["access_token"]

    def _post_logout(self, held: Held, devices: str) -> Any:
        if held.strategy == "hybrid":
            return self.api.post("/logout", {"refresh_token": held.token, "devices": devices})
        return self.api.post("/logout", {"devices": devices}, token=held.token)

    def _end(self, sessions: Sequence[Held], send: Callable[[], Any], status: int) -> Any:
        ending = [held for held in sessions if held.state is not State.ENDED]
        for held in ending:
            held.state = State.UNCERTAIN
        reply = send()
        assert reply.status == status, (reply, reply.raw)
        for held in ending:
            held.state = State.ENDED
        return reply

    def _order(self, scope: str, target: str, *, reach: str = "end") -> Any:
        body = {"scope": scope, "id": target, "reach": reach}
        return self.api.post("/admin/api/revocations", body, token=self._admin_token)

    def _note_entry(self, reply: Any) -> None:
        self.appended.append((reply.body["position"], reply.body["chain"]))


class Feed:
    """The feed of a file, as it was read so far: nothing in it may ever change."""

    def __init__(self) -> None:
        self._chains: dict[int, str] = {0: CHAIN_START.hex()}

    def require_sound(self, database: Path, appended: Sequence[tuple[int, str]]) -> None:
        """Read the file at *database*: it is whole, its feed goes on from what is known, and holds all of *appended*."""
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        entries = asyncio.run(_read_feed(database))
        assert len(entries) >= len(self._chains) - 1, "entries are gone"
        chain = CHAIN_START
        for position, entry in enumerate(entries, start=1):
            assert entry.position == position
            chain = _chain_after(chain, entry)
            assert entry.chain == chain
            assert self._chains.setdefault(position, chain.hex()) == chain.hex()
        for position, acknowledged in appended:
            assert self._chains.get(position) == acknowledged, f"entry {position} was acknowledged"

    def __len__(self) -> int:
        return len(self._chains) - 1


def _chain_after(chain: bytes, entry: Entry) -> bytes:
    return next_chain(
        chain,
        position=entry.position,
        at=entry.at,
        scope=entry.scope,
        id=entry.id,
        reach=entry.reach,
        spared=entry.spared,
        until=entry.until,
    )


async def _read_feed(database: Path) -> list[Entry]:
    store = await open_store(f"sqlite:///{database}", clock=SystemClock())
    try:
        entries: list[Entry] = []
        while more := await store.feed.read_after(Position(len(entries)), 1000):
            entries += more
        assert (await store.feed.head()).position == len(entries)
        return entries
    finally:
        await store.close()


def _copy(database: Path, folder: Path) -> Path:
    """Copy the file and its log as the crash left them, so that looking at them does not mend them."""
    folder.mkdir()
    for suffix in ("", "-wal"):
        source = database.with_name(database.name + suffix)
        if source.exists():
            shutil.copy(source, folder / source.name)
    return folder / database.name


class CrashTest:
    """Rounds of start, check, work, kill."""

    def __init__(self, deployment: Any, seed: int) -> None:
        self.deployment = deployment
        self.random = random.Random(seed)
        self.feed = Feed()
        names = [f"customer-{number}" for number in range(CUSTOMERS)]
        deployment.add_users(*names)
        deployment.add_users("admin", roles=("keyfob:admin",))
        server = deployment.start()
        admin_token = deployment.api.login("admin", strategy="jwt").body["access_token"]
        self.customers = [
            Customer(deployment.api, name, admin_token=admin_token, seed=f"{seed} {name}") for name in names
        ]
        for customer in self.customers:
            customer.log_in()
        server.end()

    def round(self, number: int) -> None:
        """Start the server, see that it kept its word, let everybody work, kill it in the middle."""
        is_burst = number % 2 == 1
        if is_burst:
            self.deployment.with_authority(self._give_sessions)
        server = self.deployment.start("--workers", "2" if number % 4 == 3 else "1")
        tally = Tally()
        with ThreadPoolExecutor(CUSTOMERS) as threads:
            list(threads.map(Customer.require_kept_word, self.customers))
            moves = BURST if is_burst else MIXED
            working = [threads.submit(customer.act, moves, tally) for customer in self.customers]
            try:
                tally.wait_for(self.random.randint(5, 250 if is_burst else 80))
                threading.Event().wait(self.random.random() / 100)  # somewhere inside whatever is under way
            finally:
                server.kill()
            for customer in working:
                customer.result(60)
        copy = _copy(self.deployment.database, self.deployment.folder / f"after-{number}")
        self.feed.require_sound(copy, self._appended())

    def finish(self) -> None:
        """Start once more, check everything, end it gently and read the file itself."""
        server = self.deployment.start()
        with ThreadPoolExecutor(CUSTOMERS) as threads:
            list(threads.map(Customer.require_kept_word, self.customers))
        server.end()
        self.feed.require_sound(self.deployment.database, self._appended())

    async def _give_sessions(self, authority: Authority) -> None:
        for customer in self.customers:
            account = await authority.accounts.resolve(customer.name)
            for _ in range(FRESH):
                issued = await authority.login(account, strategy="hybrid")
                customer.keep(
                    {
                        "strategy": issued.strategy.value,
                        "subject": issued.subject,
                        "session_id": issued.session_id,
                        "access_token": issued.access_token or "",
                        "refresh_token": issued.refresh_token or "",
                    }
                )

    def _appended(self) -> list[tuple[int, str]]:
        return [entry for customer in self.customers for entry in customer.appended]


@pytest.mark.slow
def test_whatever_was_acknowledged_survives_a_kill_at_any_moment(
    deploy: Any, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    asked = request.config.getoption("--crash-rounds", default=None)
    rounds = asked or ROUNDS
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    deployment = deploy(
        refresh_replay_window=str(REPLAY_WINDOW),
        access_lifetime="24h",
        sessions_jwt_absolute="24h",
        sessions_per_subject="100000",
    )
    crash_test = CrashTest(deployment, seed)
    began = time.monotonic()
    for number in range(rounds):
        crash_test.round(number)
        if asked is None and time.monotonic() - began > LONGEST:
            break
    crash_test.finish()
    sessions = [held for customer in crash_test.customers for held in customer.sessions]
    replays = sum(held.replays for held in sessions)
    print(
        f"{number + 1} rounds, {len(sessions)} sessions, {len(crash_test.feed)} entries, {replays} lost refreshes"
    )
    record_property("rounds", number + 1)
    assert len(crash_test.feed) > number
