"""The built package, and a `keyfob serve` behind an address of its own."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import urllib3

from keyfob.authority.authority import Authority as OpenAuthority

PACKAGE = Path(__file__).parent.parent.parent / "packages" / "browser"
PASSWORD = "seventeen green llamas"
REPLAY_WINDOW = 6.0  # seconds: as short as a busy machine bears, so that the tests that have to wait it out take no longer
DEADLINE = 60.0  # seconds: with every core busy
_LOCKED = ("package.json", "package-lock.json", ".npmrc")
_AWAY = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH")


# The package


@pytest.fixture(scope="session")
def npm() -> str:
    """Give the path of npm, where node is there too."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs node and npm")
    return npm


@pytest.fixture(scope="session")
def built(npm: str) -> Path:
    """Build the package, and return the folder.

    It lies outside of the tree, under the digest of what goes into it, so that packages are fetched and sources are built once.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keyfob-tests"
    modules = _made_once(cache, "modules", _LOCKED, lambda folder: _run(npm, folder, "ci"))

    def build(folder: Path) -> None:
        (folder / "node_modules").symlink_to(modules / "node_modules")
        _run(npm, folder, "run", "build")

    return _made_once(
        cache, "built", (*_LOCKED, "tsconfig.json", "tsconfig.build.json", "src", "tests"), build
    )


def _made_once(cache: Path, kind: str, parts: Sequence[str], make: Callable[[Path], None]) -> Path:
    """Return a folder with *parts* of the package and what *make* makes of them."""
    files = sorted(
        file for part in parts for file in [PACKAGE / part, *(PACKAGE / part).rglob("*")] if file.is_file()
    )
    digest = hashlib.sha256(b"".join(b"%b\0%b\0" % (str(file).encode(), file.read_bytes()) for file in files))
    made = cache / f"browser-{kind}-{digest.hexdigest()[:24]}"
    if made.is_dir():
        return made
    cache.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=cache))
    try:
        for file in files:
            copy = folder / file.relative_to(PACKAGE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
        make(folder)
        with suppress(OSError):  # another process was faster
            folder.rename(made)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return made


def _run(npm: str, folder: Path, *arguments: str) -> None:
    """Run npm to its end."""
    ran = subprocess.run(
        [npm, *arguments], cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    if ran.returncode and any(code in ran.stderr for code in _AWAY):
        pytest.skip("the registry of npm packages cannot be reached")
    assert ran.returncode == 0, ran.stdout + ran.stderr


# The server


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A `keyfob serve` behind an address of its own: `origin` is what browsers see, `url` where it listens."""

    origin: str
    url: str
    admin: str = field(repr=False)
    pool: urllib3.PoolManager = field(repr=False)
    numbers: Iterator[int] = field(repr=False, default_factory=lambda: itertools.count(1))

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Call the admin API; return what it answers."""
        answer = self.pool.request(
            method, self.url + path, json=body, headers={"Authorization": f"Bearer {self.admin}"}
        )
        assert answer.status < 300, (method, path, answer.status, answer.data)
        return json.loads(answer.data) if answer.data else None

    def add_user(self) -> str:
        """Add a user that no other test has."""
        name = f"user{next(self.numbers)}"
        self.ask("POST", "/admin/api/users", {"name": name, "password": PASSWORD})
        return name

    def events(self, code: str, user: str) -> list[Any]:
        """Return what the audit trail has of a user."""
        subject = self.ask("GET", f"/admin/api/users/{user}")["subject"]
        events: list[Any] = self.ask("GET", f"/admin/api/audit?limit=100&code={code}&subject={subject}")[
            "events"
        ]
        return events


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """Start a server on a SQLite file; its issuer is the address of the proxy that each test opens in front of it."""
    folder = tmp_path_factory.mktemp("authority")
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        port, front = first.getsockname()[1], second.getsockname()[1]
    origin, url = f"http://127.0.0.1:{front}", f"http://127.0.0.1:{port}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KEYFOB_")}
    environment |= {
        "KEYFOB_STORE": f"sqlite:///{folder}/keyfob.db",
        "KEYFOB_ISSUER": origin,
        "KEYFOB_REFRESH_REPLAY_WINDOW": str(REPLAY_WINDOW),
    }
    asyncio.run(_add_root(environment["KEYFOB_STORE"], origin))
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "keyfob.cli", "serve", "--port", str(port)],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    pool = urllib3.PoolManager(retries=False, timeout=DEADLINE)
    try:
        login = {"username": "root", "password": PASSWORD, "strategy": "session", "transport": "body"}
        admin = _first_answer(pool, url + "/login", login, process)["session_token"]
        yield Authority(origin=origin, url=url, admin=admin, pool=pool)
    finally:
        pool.clear()
        process.terminate()
        assert process.wait(DEADLINE) == 0, (folder / "server.log").read_text()
    assert '"level": "error"' not in (folder / "server.log").read_text()


async def _add_root(store: str, issuer: str) -> None:
    async with OpenAuthority.open(store, issuer=issuer) as authority:
        await authority.accounts.add("root", PASSWORD, roles=("keyfob:admin",), actor="test")


def _first_answer(pool: urllib3.PoolManager, url: str, body: object, process: subprocess.Popen[bytes]) -> Any:
    until = time.monotonic() + DEADLINE
    while True:
        try:
            answer = pool.request("POST", url, json=body)
            assert answer.status == 200, answer.data
            return json.loads(answer.data)
        except urllib3.exceptions.HTTPError:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < until, "the server did not start"
            time.sleep(0.02)
