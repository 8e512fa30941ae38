"""A store that is locked, full, moved away or replaced under a running server: 503, and never a wrong answer.

What was locked or full is gone on with as soon as it works. A file that was away is not: another process may have written to it
meanwhile, beside the log that this one holds. So that takes a restart, and loses nothing.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

HEARTBEAT = "0.2"  # seconds; five of them without the store, and no cache answers any more
KIB = 1024


class Desk:
    """A server with people who are signed in, and whatever they may ask of it."""

    def __init__(self, deployment: Any) -> None:
        self.deployment = deployment
        self.api = deployment.api
        deployment.add_users("alice", "bob")
        self.server = deployment.start()
        self.browser = self._login("session")
        self.phone = self._login("hybrid")
        self.never_checked = self._login("session")
        for token in (self.browser["session_token"], self.phone["access_token"]):
            assert self.check(token) == 204  # cached from here on

    def _login(self, strategy: str) -> dict[str, str]:
        reply = self.api.login("alice", strategy=strategy)
        assert reply.status == 200, reply.raw
        return reply.body

    def check(self, token: str) -> int:
        return int(self.api.get("/check", token=token).status)

    def checks(self) -> set[int]:
        """Ask about every credential, and return the answers."""
        replies = [
            self.api.get("/check", token=self.browser["session_token"]),
            self.api.get("/check", token=self.phone["access_token"]),
            self.api.get("/check", token=self.never_checked["session_token"]),
            self.api.get("/session", cookie=("__Host-session", self.browser["session_token"])),
        ]
        for reply in replies:
            if reply.status >= 400:
                require_unavailable(reply)
        return {204 if reply.status == 200 else int(reply.status) for reply in replies}

    def write(self) -> list[Any]:
        """Log in, refresh and log out, at once; return the answers."""
        cookie = ("__Host-refresh", self.phone["refresh_token"])
        asked = [
            lambda: self.api.login("bob", strategy="session", transport="cookie"),
            lambda: self.api.post("/refresh", cookie=cookie),
            lambda: self.api.post("/refresh", {"refresh_token": self.phone["refresh_token"]}),
            lambda: self.api.post("/logout", cookie=cookie),
            lambda: self.api.post("/logout", token=self.browser["session_token"]),
            lambda: self.api.post("/logout", {"devices": "all"}, token=self.phone["access_token"]),
        ]
        with ThreadPoolExecutor(len(asked)) as threads:
            return list(threads.map(lambda ask: ask(), asked))

    def require_no_writes(self) -> None:
        for reply in self.write():
            require_unavailable(reply)

    def require_nothing_lost(self) -> None:
        """Everybody is still signed in, and everything works."""
        assert self.api.get("/readyz").status == 200
        assert self.checks() == {204}
        refreshed = self.api.post("/refresh", {"refresh_token": self.phone["refresh_token"]})
        assert refreshed.status == 200, refreshed.raw
        assert self.api.login("bob", strategy="session").status == 200
        for token in (self.browser["session_token"], refreshed.body["access_token"]):
            assert self.api.post("/logout", token=token).status == 204
            assert self.api.get("/check", token=token).code == "revoked"
        assert self.check(self.never_checked["session_token"]) == 204


def require_unavailable(reply: Any) -> None:
    """The answer says that it cannot be found out, and nothing about the credential."""
    assert reply.status == 503, reply.raw
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert int(reply.headers["Retry-After"]) >= 1
    assert reply.body["status"] == 503
    assert reply.body["next"] == "retry"
    assert reply.code in {"store_unavailable", "unavailable"}
    for header in ("Set-Cookie", "Clear-Site-Data", "WWW-Authenticate"):
        assert header not in reply.headers, "nobody is signed out"


@pytest.fixture
def desk(deploy: Any) -> Desk:
    return Desk(deploy(feed_heartbeat=HEARTBEAT))


def test_a_database_that_another_process_locks_answers_503_to_writes_alone(desk: Desk) -> None:
    with closing(sqlite3.connect(desk.deployment.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        desk.require_no_writes()
        # Nothing can be revoked meanwhile, by anybody: what was good is good.
        assert desk.checks() == {204}
        assert desk.api.get("/readyz").status == 200
        other.execute("ROLLBACK")
    desk.require_nothing_lost()


def test_a_database_that_was_moved_away_answers_503_until_a_restart(desk: Desk, eventually: Any) -> None:
    database = desk.deployment.database
    away = database.with_name("away.db")
    database.rename(away)
    _require_nothing_answered(desk, eventually)
    away.rename(database)
    _require_lasting_refusal(desk)
    desk.server.end()
    desk.server = desk.deployment.start()
    desk.require_nothing_lost()


def test_a_database_that_was_replaced_answers_503_until_a_restart(desk: Desk, eventually: Any) -> None:
    database = desk.deployment.database
    away = database.with_name("away.db")
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(away)) as target:
        source.backup(target)
    other = database.with_name("other.db")
    shutil.copy(away, other)
    database.rename(away)
    other.rename(database)
    _require_nothing_answered(desk, eventually)
    away.rename(database)
    _require_lasting_refusal(desk)
    desk.server.end()
    desk.server = desk.deployment.start()
    desk.require_nothing_lost()


def _require_nothing_answered(desk: Desk, eventually: Any) -> None:
    """Writes are refused at once; checks may be answered from memory for as long as a verifier might, and no longer."""
    desk.require_no_writes()
    seen: set[int] = set()

    def is_all_refused() -> bool:
        answers = desk.checks()
        seen.update(answers)
        return answers == {503}

    eventually(is_all_refused, "no check is answered")
    assert seen <= {204, 503}
    _require_lasting_refusal(desk)


def _require_lasting_refusal(desk: Desk) -> None:
    desk.require_no_writes()
    assert desk.checks() == {503}
    assert desk.api.get("/healthz").status == 200
    require_unavailable(desk.api.get("/readyz"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit, which Linux has")
def test_a_disk_that_fails_under_a_write_answers_503_until_it_works(desk: Desk) -> None:
    """No file of the server may grow: what SQLite makes of that is an error of input and output."""
    import resource

    log = desk.deployment.database.with_name("keyfob.db-wal")
    while log.stat().st_size < 256 * KIB:  # longer than the server's log file can get
        assert desk.api.login("alice", strategy="jwt").status == 200
    before = resource.prlimit(desk.server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(desk.server.pid, resource.RLIMIT_FSIZE, (log.stat().st_size, before[1]))
    desk.require_no_writes()
    assert desk.checks() == {204}
    resource.prlimit(desk.server.pid, resource.RLIMIT_FSIZE, before)
    desk.require_nothing_lost()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if sys.platform != "linux" or mount is None or os.geteuid() != 0:
        pytest.skip("needs to mount a file system, which root alone may on Linux")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_answers_503_until_there_is_room(
    small_disk: Path, deploy: Callable[..., Any]
) -> None:
    deployment = deploy(feed_heartbeat=HEARTBEAT)
    deployment.database = small_disk / "keyfob.db"
    desk = Desk(deployment)
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4 * KIB)):
                pass
        except OSError:
            pass
    desk.require_no_writes()
    assert desk.checks() == {204}
    assert "cannot grow: the disk or its quota is full" in desk.server.log.read_text()
    ballast.unlink()
    desk.require_nothing_lost()
