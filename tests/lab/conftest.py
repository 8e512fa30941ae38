"""A result of the lab, made up: everything that the report can be asked to show."""

from __future__ import annotations

from typing import Any

import pytest

from keyfob.lab.readings.csrf import CsrfSeen, Forgery
from keyfob.lab.readings.load import LoadSeen, LoadsSeen
from keyfob.lab.readings.logout import LogoutSeen
from keyfob.lab.readings.replays import Replay, Track
from keyfob.lab.readings.revocation import Denial, RevocationSeen, Round
from keyfob.lab.readings.services import Outage, Sample, ServicesSeen, Spread
from keyfob.lab.readings.storage import PlacementSeen, StorageSeen, Take
from keyfob.lab.readings.theft import Act, TheftSeen
from keyfob.lab.readings.xss import InjectionSeen, XssSeen
from keyfob.lab.result import FORMAT, Column, Machine, Result
from keyfob.lab.setups import SETUPS, Placement


def _column(name: str) -> Column:
    denial = Denial(door=0, after=0.004, code="revoked", accepted_before=True)
    track = Track(name="access token", replays=[Replay(0.0, True), Replay(0.25, False, "revoked")])
    before = Track(name="access token", replays=[Replay(-0.1, True), Replay(0.0, False, "revoked")])
    acts = [
        Act(0.0, "thief", "call", True),
        Act(5.4, "user", "sign-out", True),
        Act(5.5, "thief", "call", False, "revoked"),
    ]
    counted = LoadSeen(
        where="in the service", requests=10, seconds=0.5, refused=0, store_queries=0, network_calls=0, cpu=0.01,
        floor_requests=10, floor_cpu=0.005, floor_seconds=0.4, pinned=True,
    )  # fmt: skip
    outage = Outage(stopped="authority", path="/orders", watched=7, samples=[Sample(0.0, 0, 204)])
    return Column(
        setup=name,
        revocation=RevocationSeen(
            access_seconds=6, watched=11, rounds=[Round(took=0.001, denials=[denial])], load_per_second=100
        ),
        logout=LogoutSeen(access_seconds=6, interval=0.25, tracks=[track]),
        storage=StorageSeen(
            placements=[
                PlacementSeen(
                    placement=Placement.MEMORY,
                    page_works=True,
                    acted=True,
                    takes=[Take(means="<b>", good_for="access token")],
                )
            ]
        ),
        xss=XssSeen(
            access_seconds=6,
            injections=[InjectionSeen(placement=Placement.MEMORY, arrived=True, acted=True, tracks=[before])],
        ),
        csrf=CsrfSeen(
            own_works=True,
            forgeries=[Forgery(kind="form", changed=False)],
            control=[Forgery(kind="form", changed=True)],
        ),
        theft=TheftSeen(access_seconds=6, stolen=["access token"], acts=acts),
        load=LoadsSeen(variants=[counted]),
        services=ServicesSeen(
            spreads=[Spread(doors=1, requests=10, accepted=10, network_calls=0)],
            outages=[outage],
            store="none",
        ),
    )


@pytest.fixture
def made_result() -> Any:
    machine = Machine(
        date="2026-01-01 12:00 UTC", processor="made up", cores=2, system="Linux", python="CPython 3.11",
        keyfob="0.1.0", browser="none", load_at_start=0.5, load_at_end=1.5,
    )  # fmt: skip
    columns = [_column(setup.name) for setup in SETUPS]
    return Result(format=FORMAT, machine=machine, access_seconds=6, took=200, columns=columns)
