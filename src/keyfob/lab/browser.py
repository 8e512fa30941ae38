"""The browser of the lab, where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from keyfob.lab.elsewhere import elsewhere
from keyfob.lab.plays.browsing import Browsing
from keyfob.lab.processes import LabFailed

if TYPE_CHECKING:
    from keyfob.testing.chromium import Page

NO_BROWSER = "no browser"
"""What is said in place of a figure that needs one."""


class ChromiumTab:
    """A tab whose failures are those of the lab."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def open(self, url: str) -> None:
        """See `browsing.Tab`."""
        with _failing():
            self._page.open(url)

    def evaluate(self, script: str) -> Any:
        """See `browsing.Tab`."""
        with _failing():
            return self._page.evaluate(script)

    def wait_for(self, script: str, *, seconds: float = 30.0) -> None:
        """See `browsing.Tab`."""
        with _failing():
            self._page.wait_for(script, seconds=seconds)

    def command(self, method: str, **parameters: object) -> object:
        """See `browsing.Tab`."""
        with _failing():
            return self._page.command(method, **parameters)


@contextmanager
def browser() -> Iterator[tuple[Browsing | None, str]]:
    """Run a browser and the other site while the block lasts; give them and the browser's name, or None and why there is none."""
    with ExitStack() as stack:
        try:
            from keyfob.testing.chromium import BrowserFailed, chromium, installed
        except ModuleNotFoundError as absent:
            yield None, f"none: its driver needs {absent.name}"
            return
        program = installed()
        if program is None:
            yield None, "none: Chromium is not installed"
            return
        try:
            page = stack.enter_context(chromium(program)).page()
            version = page.command("Browser.getVersion")["product"]
        except (BrowserFailed, OSError) as error:
            yield None, f"none: {error}"
            return
        yield Browsing(tab=ChromiumTab(page), site=stack.enter_context(elsewhere())), str(version)


@contextmanager
def _failing() -> Iterator[None]:
    from websockets.exceptions import WebSocketException

    from keyfob.testing.chromium import BrowserFailed

    try:
        yield
    except (BrowserFailed, WebSocketException, OSError) as error:  # a timeout is an OSError
        raise LabFailed(f"the browser: {error}") from None
