"""Experiment 5: a page of another site has the user's browser send requests; an old browser sends them without saying where they come from."""

from __future__ import annotations

from collections.abc import Mapping

from keyfob.lab.readings.cell import Cell, Observation, Row, Unreadable, missing, several

ROWS = (Row(key="changed", title="forged requests that changed something"),)

KINDS = {
    "form": "a form",
    "fetch": "a simple fetch",
    "get": "a top-level GET",
    "old_form": "an old browser's form",
    "old_get": "an old browser's GET",
    "old_logout": "an old browser's sign-out",
}
"""What is forged, and what it is called: the first three by a real Chromium, the others as a browser sends them that knows neither SameSite nor
Fetch Metadata nor Origin."""


class Forgery(Observation, frozen=True, kw_only=True):
    """One forged request: whether it changed something."""

    kind: str
    changed: bool


class CsrfSeen(Observation, frozen=True, kw_only=True):
    """`own_works` says that the shop's own page could change something; `control` is what the same forgeries did to a shop without defences."""

    own_works: bool
    forgeries: list[Forgery]
    control: list[Forgery]


def read(seen: CsrfSeen) -> Mapping[str, Cell]:
    """Say which forged requests changed something."""
    if not seen.forgeries:
        return {"changed": missing("nothing was forged")}
    if not seen.own_works:
        raise Unreadable("the shop's own page cannot change anything")
    if not any(forgery.changed for forgery in seen.control):
        raise Unreadable("the same forgeries change nothing where nothing defends either")
    changed = [KINDS[forgery.kind] for forgery in seen.forgeries if forgery.changed]
    text = f"{len(changed)} of {len(seen.forgeries)}"
    controlled = sum(forgery.changed for forgery in seen.control)
    return {
        "changed": Cell(
            text=f"{text}: {several(changed)}" if changed else f"none of {len(seen.forgeries)}",
            brief=text if changed else f"none of {len(seen.forgeries)}",
            figures={"changed": len(changed), "forged": len(seen.forgeries), "control": controlled},
        )
    }
