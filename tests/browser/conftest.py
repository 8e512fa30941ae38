"""What a page needs to be tested for real: the built package, a `keyfob serve`, a proxy that can lose answers, and Chromium with tabs."""

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
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import urllib3
from aiohttp import ClientSession, DummyCookieJar, web
from websockets.asyncio.client import connect

PACKAGE = Path(__file__).parent.parent.parent / "packages" / "browser"
PASSWORD = "seventeen green llamas"
REPLAY_WINDOW = 4.0  # seconds: as short as a busy machine bears, so that the tests that have to wait it out take no longer
DEADLINE = 30.0  # seconds
_AWAY = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH")
_CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)
_TEST_PAGE = """<!doctype html><title>test</title><script type="module">
import { Keyfob } from "/keyfob.js";
window.told = [];
window.keyfob = new Keyfob({ origins: [location.origin, ...(window.more ?? [])], timeout: window.timeout ?? 8000 });
for (const type of ["signedout", "signedin"]) keyfob.addEventListener(type, (event) => told.push(event.cause ?? type));
window.failure = (promise) => promise.then(() => "no failure", (error) => `${error.name} ${error.code}`);
</script>"""


# The package


@pytest.fixture(scope="session")
def npm() -> str:
    """Give the path of npm, where node is there too."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs node and npm")
    return npm


@pytest.fixture(scope="session")
def built(npm: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the package in a folder of its own, and return that."""
    folder = tmp_path_factory.mktemp("package")
    for part in ("package.json", "tsconfig.json", "tsconfig.build.json", "src", "tests"):
        copy = shutil.copytree if (PACKAGE / part).is_dir() else shutil.copy
        copy(PACKAGE / part, folder / part)
    (folder / "node_modules").symlink_to(_installed(npm))
    run_npm(npm, folder, "run", "build")
    return folder


def run_npm(npm: str, folder: Path, *arguments: str) -> str:
    """Run npm to its end, and return what it printed."""
    ran = subprocess.run(
        [npm, *arguments], cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    if ran.returncode and any(code in ran.stderr for code in _AWAY):
        pytest.skip(f"the registry of npm packages cannot be reached: {ran.stderr.strip().splitlines()[0]}")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def _installed(npm: str) -> Path:
    """Return a `node_modules` with what the lock file names, kept from one run to the next outside of the tree."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keyfob-tests"
    lock = (PACKAGE / "package-lock.json").read_bytes()
    modules = cache / f"browser-{hashlib.sha256(lock).hexdigest()[:16]}" / "node_modules"
    if not modules.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            for part in ("package.json", "package-lock.json", ".npmrc"):
                shutil.copy(PACKAGE / part, folder)
            run_npm(npm, Path(folder), "ci")
            with suppress(OSError):  # another process was faster
                Path(folder).rename(modules.parent)
            Path(folder).mkdir(exist_ok=True)
    return modules


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

    def events(self, code: str, subject: str) -> list[Any]:
        """Return what the audit trail has of a subject."""
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
    keyfob = [sys.executable, "-m", "keyfob.cli"]
    subprocess.run(
        [*keyfob, "user", "add", "root", "--role", "keyfob:admin", "--password-stdin"],
        input=PASSWORD,
        text=True,
        env=environment,
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=DEADLINE,
    )
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*keyfob, "serve", "--port", str(port)], env=environment, cwd=folder, stdout=log, stderr=log
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


def _first_answer(pool: urllib3.PoolManager, url: str, body: object, process: subprocess.Popen[bytes]) -> Any:
    until = time.monotonic() + DEADLINE
    while True:
        try:
            answer = pool.request("POST", url, json=body)
            assert answer.status == 200, answer.data
            return json.loads(answer.data)
        except urllib3.exceptions.HTTPError:
            assert process.poll() is None and time.monotonic() < until, "the server did not start"
            time.sleep(0.02)


# The proxy


class Site:
    """The origin that the browser sees: a page, the module, and everything else from the authority. It can hold answers back, and lose them."""

    def __init__(self, authority: Authority, built: Path) -> None:
        self.origin = authority.origin
        self.page = _TEST_PAGE
        self.seen: list[tuple[str, int]] = []
        """Path and status of what the authority has answered, in order."""
        self.refresh_cookies: list[str] = []
        self._authority = authority
        self._module = (built / "dist" / "index.js").read_text("utf-8")
        self._held: dict[str, list[Answer]] = {}

    def count(self, path: str) -> int:
        return sum(1 for seen, _ in self.seen if seen == path)

    def hold(self, path: str) -> Answer:
        """Hold back the next answer of *path* until it is let go."""
        answer = Answer()
        self._held.setdefault(path, []).append(answer)
        return answer

    def lose(self, path: str) -> None:
        """Lose the next answer of *path*: the connection ends without it."""
        self.hold(path).lose()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/":
            return web.Response(text=self.page, content_type="text/html")
        if request.path == "/keyfob.js":
            return web.Response(text=self._module, content_type="text/javascript")
        if request.path == "/favicon.ico":
            return web.Response(status=404)
        return await self._forward(request)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        headers = [
            (name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP
        ]
        async with (
            ClientSession(cookie_jar=DummyCookieJar(), auto_decompress=False) as session,
            session.request(
                request.method,
                self._authority.url + request.path_qs,
                headers=headers,
                data=await request.read(),
                allow_redirects=False,
            ) as upstream,
        ):
            body = await upstream.read()
            answer = web.Response(status=upstream.status, body=body)
            answer.headers.clear()
            for name, value in upstream.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    answer.headers.add(name, value)
        self.seen.append((request.path, answer.status))
        self.refresh_cookies += [
            value.split(";")[0].partition("=")[2]
            for value in answer.headers.getall("Set-Cookie", [])
            if value.startswith("__Host-refresh=") and "Max-Age=0" not in value
        ]
        held = self._held.get(request.path)
        if held and not await held.pop(0).has_come(answer.status):
            assert request.transport is not None
            request.transport.abort()
        return answer


class Answer:
    """An answer that a test holds in its hand."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        self._decided: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def let_go(self) -> None:
        self._decided.set_result(True)

    def lose(self) -> None:
        self._decided.set_result(False)

    async def has_come(self, status: int) -> bool:
        """Say that the authority has answered; return whether the answer may go on, once that is decided."""
        assert status == 200
        self.came.set()
        return await self._decided


_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "date", "server"}
)


@pytest.fixture
async def site(authority: Authority, built: Path) -> AsyncIterator[Site]:
    """Open the origin of the authority to browsers."""
    site = Site(authority, built)
    runner = web.AppRunner(_catching_all(site), handler_cancellation=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(authority.origin.rpartition(":")[2])).start()
    yield site
    await runner.cleanup()


def _catching_all(site: Site) -> web.Application:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", site.answer)
    return application


# The browser


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start Chromium with an empty profile, and give the address of its DevTools."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs chromium")
    folder = tmp_path_factory.mktemp("chromium")
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *_CHROMIUM_FLAGS, f"--user-data-dir={folder}/profile", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield _devtools(folder, process)
    finally:
        process.terminate()
        process.wait(DEADLINE)


def _devtools(folder: Path, process: subprocess.Popen[bytes]) -> str:
    port_file = folder / "profile" / "DevToolsActivePort"
    until = time.monotonic() + DEADLINE
    while True:
        lines = port_file.read_text().split() if port_file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        assert process.poll() is None, (folder / "chromium.log").read_text()
        assert time.monotonic() < until, "Chromium did not start"
        time.sleep(0.02)


class Tab:
    """One tab."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session

    async def send(self, method: str, **parameters: Any) -> Any:
        """Send one command of the DevTools protocol, and return its result."""
        return await self._browser.send(method, session=self._session, **parameters)

    async def run(self, script: str) -> Any:
        """Evaluate an expression, wait for it if it is a promise, and return its value."""
        answer = await self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait until an expression is true."""
        async with asyncio.timeout(DEADLINE):
            while not await self.run(script):
                await asyncio.sleep(0.01)

    async def open(self, url: str, *, ready: str = "window.keyfob") -> None:
        await self.send("Page.navigate", url=url)
        await self.until(f"document.readyState === 'complete' && !!({ready})")

    async def freeze(self) -> None:
        await self.send("Page.setWebLifecycleState", state="frozen")

    async def thaw(self) -> None:
        await self.send("Page.setWebLifecycleState", state="active")

    async def close(self) -> None:
        await self._browser.send("Target.closeTarget", targetId=self._target)


class Browser:
    """A browser with cookies of its own, over one connection to Chromium."""

    def __init__(self, connection: Any, origin: str) -> None:
        self._connection = connection
        self._origin = origin
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._context = ""

    async def begin(self) -> None:
        self._context = (await self.send("Target.createBrowserContext"))["browserContextId"]

    async def end(self) -> None:
        await self.send("Target.disposeBrowserContext", browserContextId=self._context)

    async def listen(self) -> None:
        """Take answers until the connection is closed."""
        async for text in self._connection:
            message = json.loads(text)
            if "id" in message:
                self._waiting.pop(message["id"]).set_result(message)

    async def send(self, method: str, *, session: str | None = None, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        await self._connection.send(json.dumps(message | ({"sessionId": session} if session else {})))
        async with asyncio.timeout(DEADLINE):
            answer = await self._waiting[number]
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    async def tab(self, *, before: str = "", url: str | None = None, ready: str = "window.keyfob") -> Tab:
        """Open a tab on the test page, after a script that runs before all others."""
        target = (await self.send("Target.createTarget", url="about:blank", browserContextId=self._context))[
            "targetId"
        ]
        session = (await self.send("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        tab = Tab(self, target, session)
        await tab.send("Page.enable")
        if before:
            await tab.send("Page.addScriptToEvaluateOnNewDocument", source=before)
        await tab.open(url or self._origin + "/", ready=ready)
        return tab

    async def cookie(self, name: str = "__Host-refresh") -> str | None:
        """Return what the browser holds as a cookie, HttpOnly or not."""
        answer = await self.send("Storage.getCookies", browserContextId=self._context)
        return next((cookie["value"] for cookie in answer["cookies"] if cookie["name"] == name), None)


@pytest.fixture
async def browser(chromium: str, site: Site) -> AsyncIterator[Browser]:
    """Give a browser without cookies, on the origin of *site*."""
    async with connect(chromium, max_size=None) as connection:
        browser = Browser(connection, site.origin)
        listening = asyncio.create_task(browser.listen())
        await browser.begin()
        yield browser
        await browser.end()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
