"""A real Chromium without a window, driven over its own DevTools protocol.

It needs the `websockets` package and a `chromium` in the path. Every profile is new, lies in a folder of its own and is removed with the browser.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

START_SECONDS = 60.0
ANSWER_SECONDS = 30.0
_FLAGS = (
    "--headless",
    "--no-sandbox",  # as root, as in containers; only pages of the test's own servers are opened
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)


class BrowserFailed(Exception):
    """The browser did not start, did not answer in time, or said that something went wrong."""


class _Refused(BrowserFailed):
    """The browser does not carry out a command, in whatever words it says so."""


def installed() -> str | None:
    """Return the path of Chromium, None where there is none."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))),
        None,
    )


class Page:
    """One tab. Not for several threads at once."""

    def __init__(self, socket: ClientConnection, session: str) -> None:
        self._socket = socket
        self._session = session
        self._number = 0

    def open(self, url: str) -> None:
        """Go to *url* and wait until it is loaded.

        Raises:
            BrowserFailed: it cannot be reached, or is not loaded in time.
        """
        answer = self.command("Page.navigate", url=url)
        if answer.get("errorText"):
            raise BrowserFailed(f"{url}: {answer['errorText']}")
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, script: str) -> Any:
        """Return the value of *script*, of a promise when it is kept.

        Raises:
            BrowserFailed: it throws.
        """
        answer = self.command(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"]
            raise BrowserFailed(str(thrown.get("exception", {}).get("description", thrown.get("text"))))
        return answer["result"].get("value")

    def wait_for(self, script: str, *, seconds: float = ANSWER_SECONDS) -> None:
        """Return as soon as *script* is true, while pages may come and go.

        Raises:
            BrowserFailed: it is not true within *seconds*.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if self.evaluate(script):
                    return
            except _Refused:
                pass  # a page that is just being replaced cannot be asked; a script that throws is another fault
            time.sleep(0.02)
        raise BrowserFailed(f"not within {seconds} s: {script}")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command of the protocol and return its answer; events that come meanwhile are passed over.

        Raises:
            BrowserFailed: it is refused, or not answered in time.
        """
        self._number += 1
        return _asked(
            self._socket,
            {"id": self._number, "method": method, "params": parameters, "sessionId": self._session},
        )


class Chromium:
    """A browser that runs."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 1_000_000

    def page(self) -> Page:
        """Open a tab that shares cookies and storage with the other tabs."""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self._socket, session)

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        return _asked(self._socket, {"id": self._number, "method": method, "params": parameters})


@contextmanager
def chromium(program: str) -> Iterator[Chromium]:
    """Run *program* while the block lasts.

    Raises:
        BrowserFailed: it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="keyfob-chromium-", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with connect(
                _place(Path(folder), process), max_size=64 << 20, open_timeout=START_SECONDS
            ) as socket:
                yield Chromium(socket)
        finally:
            process.terminate()
            try:
                process.wait(ANSWER_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _place(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """Return the address that the browser writes down when it listens."""
    written = folder / "DevToolsActivePort"
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise BrowserFailed(f"the browser ended with {process.returncode}")
        lines = written.read_text("ascii").split() if written.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.02)
    raise BrowserFailed("the browser does not listen")


def _asked(socket: ClientConnection, command: dict[str, Any]) -> dict[str, Any]:
    socket.send(json.dumps(command))
    until = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < until:
        answer = json.loads(socket.recv(timeout=ANSWER_SECONDS))
        if answer.get("id") != command["id"] or answer.get("sessionId") != command.get("sessionId"):
            continue
        if "error" in answer:
            raise _Refused(f"{command['method']}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result
    raise BrowserFailed(f"{command['method']} is not answered")
