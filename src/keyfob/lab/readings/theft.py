"""Experiment 6: everything that a device holds is copied, and its user goes on working."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from keyfob.lab.readings.cell import Cell, Observation, Row, Unreadable, missing, seconds, until_exp, usual

ROWS = (
    Row(key="detected", title="a stolen credential: noticed by the server"),
    Row(key="thief", title="what the thief could do"),
)


class Act(Observation, frozen=True, array_like=True):
    """What somebody did: seconds after the theft, who, what, whether it was accepted, else why not.

    The moment of a call is that at which it was sent; that of a refresh or a sign-out is when it was answered.
    """

    at: float
    who: Literal["user", "thief"]
    what: Literal["call", "refresh", "sign-out"]
    accepted: bool
    code: str = ""


class TheftSeen(Observation, frozen=True, kw_only=True):
    """Everything that both did, in order; `stolen` is what was copied. The user signs out when nothing was noticed until then."""

    access_seconds: float
    stolen: list[str]
    acts: list[Act]


def read(seen: TheftSeen) -> Mapping[str, Cell]:
    """Say whether and when the theft was noticed, and for how long the thief went on."""
    acts = sorted(seen.acts, key=lambda act: act.at)
    calls = [act for act in acts if act.who == "thief" and act.what == "call"]
    if not seen.stolen or not calls:
        return {"detected": missing("nothing was stolen"), "thief": missing("nothing was stolen")}
    if calls[-1].accepted:
        raise Unreadable(f"the thief still went on after {calls[-1].at:.1f} s, when nobody looked any longer")
    noticed = next((act.at for act in acts if act.code == "reused"), None)
    signed_out = next((act.at for act in acts if act.what == "sign-out" and act.accepted), None)
    if noticed is None and signed_out is None:
        raise Unreadable("neither was the theft noticed, nor did the user sign out")
    return {
        "detected": _detected(noticed, seen.access_seconds),
        "thief": _thief(acts, noticed=noticed, signed_out=signed_out, access_seconds=seen.access_seconds),
    }


def _detected(noticed: float | None, access_seconds: float) -> Cell:
    if noticed is None:
        return Cell(text="no", figures={"detected": False})
    share = noticed / access_seconds
    return Cell(
        text=f"yes, at the user's next refresh, {share:.2f} lifetimes of an access token after the theft",
        brief="yes, at the next refresh",
        figures={"detected": True, "after": noticed, "lifetimes": share},
    )


def _thief(
    acts: list[Act], *, noticed: float | None, signed_out: float | None, access_seconds: float
) -> Cell:
    done = [act for act in acts if act.who == "thief" and act.accepted]
    calls = [act for act in done if act.what == "call"]
    refreshes = len(done) - len(calls)
    last = calls[-1].at if calls else 0.0
    stopped = next(
        (act.code for act in acts if act.who == "thief" and act.what == "call" and act.at > last), ""
    )
    end, what = (noticed, "it was noticed") if noticed is not None else (signed_out, "the sign-out")
    assert end is not None
    beyond = max(0.0, last - end)
    figures = {"calls": len(calls), "refreshes": refreshes, "last": last, "beyond": beyond}
    words = (
        f"{len(calls)} calls"
        + (f" and {refreshes} refresh" if refreshes else "")
        + ("es" if refreshes > 1 else "")
    )
    if last < end:
        return Cell(text=f"{words}; none after {what}", brief=f"nothing after {what}", figures=figures)
    lasting = brief = seconds(beyond)
    if stopped == "expired":
        lasting = f"{until_exp(beyond, access_seconds=access_seconds)},"
        brief = usual(beyond, access_seconds=access_seconds)
    return Cell(text=f"{words}; for {lasting} after {what}", brief=f"{brief} after {what}", figures=figures)
