"""Experiment 5, played: a page of another site forges requests in the browser of somebody who is logged in; then an old browser does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import urlencode

from keyfob.lab.device import Device
from keyfob.lab.plays.browsing import Browsing, Tab, log_in, shop_page
from keyfob.lab.processes import LabFailed
from keyfob.lab.readings.csrf import CsrfSeen, Forgery
from keyfob.lab.setups import Placement
from keyfob.lab.stage import Stage

_FORM = "application/x-www-form-urlencoded"
_FIELDS = urlencode({"to": "thief", "amount": "1"})
_IN_THE_BROWSER = ("form", "fetch", "get")


def play(stage: Stage, browsing: Browsing, *, control: list[Forgery]) -> CsrfSeen:
    """Forge requests to the set-up; *control* is what the same did to a shop without defences.

    Raises:
        LabFailed: something did not answer.
    """
    own_works, forgeries = forged(stage, browsing)
    return CsrfSeen(own_works=own_works, forgeries=forgeries, control=control)


def forged(stage: Stage, browsing: Browsing) -> tuple[bool, list[Forgery]]:
    """Forge requests to *stage*, wherever its cookies are; return whether the shop's own page works, and what each forgery did."""
    placements = dict.fromkeys((stage.setup.placements[0], *_with_cookie(stage)))
    works, changed = True, dict.fromkeys(_IN_THE_BROWSER, False)
    for placement in placements:
        with shop_page(stage, browsing, placement) as tab:
            log_in(stage, tab)
            works = works and _changes(stage, partial(tab.evaluate, "shop.transfer()"))
            for kind in _IN_THE_BROWSER:
                if _changes(stage, partial(_forge, stage, browsing, tab, kind)):
                    changed[kind] = True
    old = _OldBrowser(stage)
    changed["old_form"] = _changes(stage, lambda: old.post("/transfer"))
    changed["old_get"] = _changes(stage, old.get)
    changed["old_logout"] = old.is_signed_out_by(lambda: old.post("/logout"))
    return works, [Forgery(kind=kind, changed=did) for kind, did in changed.items()]


def _with_cookie(stage: Stage) -> tuple[Placement, ...]:
    return (Placement.COOKIE,) if Placement.COOKIE in stage.setup.placements else ()


def _changes(stage: Stage, act: Callable[[], object]) -> bool:
    before = stage.transfers()
    act()
    return stage.transfers() != before


def _forge(stage: Stage, browsing: Browsing, tab: Tab, kind: str) -> None:
    """Open the other site's page, and wait until what it forged is answered."""
    target = f"{stage.shop}/transfer"
    tab.open(f"{browsing.site.origin}/forgery?{urlencode({'kind': kind, 'target': target})}")
    if kind == "fetch":
        tab.wait_for("document.title === 'Answered' || document.title === 'Not sent'")
    else:  # a navigation: the answer takes the page's place
        tab.wait_for(f"location.href.startsWith('{target}') && document.readyState === 'complete'")


class _OldBrowser:
    """What a browser sends that knows neither SameSite nor Fetch Metadata nor Origin: its cookies, whoever asks it to."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._device = stage.user()

    def post(self, path: str) -> None:
        """Send the form of another site."""
        headers = {"Content-Type": _FORM, **_cookies(self._stage, self._device)}
        self._device.request("POST", self._stage.shop + path, headers=headers, body=_FIELDS.encode())

    def get(self) -> None:
        """Follow the link of another site."""
        self._device.request(
            "GET", f"{self._stage.shop}/transfer?{_FIELDS}", headers=_cookies(self._stage, self._device)
        )

    def is_signed_out_by(self, act: Callable[[], object]) -> bool:
        """Say whether *act* ends the login.

        Raises:
            LabFailed: it was no good before.
        """
        if not self._is_in():
            raise LabFailed(f"{self._stage.setup.name}: the old browser is not logged in")
        act()
        return not self._is_in()

    def _is_in(self) -> bool:
        if "refresh token" in self._device.held:
            return self._device.refresh().accepted
        return self._device.call(self._stage.shop).accepted


def _cookies(stage: Stage, device: Device) -> dict[str, str]:
    names = {"session token": stage.setup.session_cookie, "refresh token": stage.setup.refresh_cookie}
    pairs = [f"{names[kind]}={value}" for kind, value in device.held.items() if names.get(kind)]
    return {"Cookie": "; ".join(pairs)} if pairs else {}
