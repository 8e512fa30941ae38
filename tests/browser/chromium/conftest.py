"""Chromium with tabs, and the origin that it sees: a proxy in front of the authority that can hold answers back, and lose them."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, DummyCookieJar, web
from websockets.asyncio.client import connect

DEADLINE = 60.0  # seconds: with every core busy
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
window.near = [];
window.keyfob = new Keyfob({ origins: [location.origin, ...(window.more ?? [])], timeout: window.timeout ?? 8000 });
keyfob.addEventListener("signedout", ({ cause }) => told.push(cause));
keyfob.addEventListener("signedin", () => near.push("signedin"));
window.failure = (promise) => promise.then(() => "no failure", (error) => `${error.name} ${error.code}`);
</script>"""


# The proxy


class Site:
    """The origin that the browser sees: a page, the module, and everything else from the authority. It can hold answers back, and lose them."""

    def __init__(self, authority: Any, built: Path) -> None:
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
async def site(authority: Any, built: Path) -> AsyncIterator[Site]:
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

    async def come_forward(self) -> None:
        await self.send("Page.bringToFront")

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
