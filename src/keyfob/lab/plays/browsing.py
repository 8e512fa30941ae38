"""The shop's page in a real Chromium: opened afresh, with nothing left of the page before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlencode

import msgspec

from keyfob.lab.device import Credential, Device
from keyfob.lab.elsewhere import Elsewhere
from keyfob.lab.processes import LabFailed
from keyfob.lab.setups import Placement
from keyfob.lab.stage import FIRST, Stage


class Tab(Protocol):
    """A tab of a browser, as `keyfob.testing.chromium` gives it."""

    def open(self, url: str) -> None:
        """Go to *url* and wait until it is loaded."""
        ...

    def evaluate(self, script: str) -> object:
        """Return the value of *script*."""
        ...

    def wait_for(self, script: str, *, seconds: float = ...) -> None:
        """Return as soon as *script* is true."""
        ...

    def command(self, method: str, **parameters: object) -> object:
        """Send a command of the DevTools protocol."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Browsing:
    """A tab, and the other site."""

    tab: Tab
    site: Elsewhere


class Find(msgspec.Struct, frozen=True):
    """Something that the injected script found, and how."""

    means: str
    value: str


class Loot(msgspec.Struct, frozen=True):
    """All that it found, and the status of what it did in the page's name."""

    found: list[Find]
    acted: int


@contextmanager
def shop_page(stage: Stage, browsing: Browsing, placement: Placement, *, injected: str = "") -> Iterator[Tab]:
    """Open the shop's page with *placement*; *injected* stands in its address, where the page has its hole."""
    tab = browsing.tab
    query = urlencode({"placement": placement.value, "strategy": stage.setup.design})
    clear(stage, tab)
    tab.open(f"{stage.shop}/shop?{query}#{quote(injected)}")
    tab.wait_for("typeof shop === 'object'")
    tab.evaluate("shop.ready")
    try:
        yield tab
    finally:
        clear(stage, tab)


def clear(stage: Stage, tab: Tab) -> None:
    """Have the browser forget everything of the shop, its worker and cookies included."""
    tab.open("about:blank#cleared")
    tab.command("Storage.clearDataForOrigin", origin=stage.shop, storageTypes="all")
    tab.command("Network.clearBrowserCookies")


def log_in(stage: Stage, tab: Tab) -> None:
    """Log the page in.

    Raises:
        LabFailed: it is refused.
    """
    stage.wait_for_the_second()
    status = tab.evaluate(f"shop.logIn({_text(FIRST)}, {_text(stage.password)})")
    if status != 200:
        raise LabFailed(f"{stage.setup.name}: the page cannot log in: {status}")


def good_for(stage: Stage, thief: Device, value: str) -> Credential | None:
    """Return what *value* is good for when somebody else presents it; None for nothing."""
    candidates = [Credential("access token", value)] if stage.setup.has_access_token else []
    if stage.setup.session_cookie:
        candidates.append(Credential("session token", value))
    for candidate in candidates:
        if thief.call(stage.shop, credential=candidate).accepted:
            return candidate
    if stage.setup.refresh_cookie and _is_header_safe(value) and thief.refresh(value).accepted:
        return Credential("refresh token", value)
    return None


def _is_header_safe(value: str) -> bool:
    return value.isascii() and value.isprintable()


def _text(value: str) -> str:
    return msgspec.json.encode(value).decode()
