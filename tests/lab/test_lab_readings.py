"""What observations are read to say: made ones, limits, and broken ones, which never become a figure."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyfob.lab.readings import csrf, load, logout, replays, revocation, services, storage, theft, xss
from keyfob.lab.readings.cell import Unreadable, scaled, seconds, until_exp
from keyfob.lab.readings.csrf import CsrfSeen, Forgery
from keyfob.lab.readings.load import LoadSeen, LoadsSeen
from keyfob.lab.readings.logout import LogoutSeen
from keyfob.lab.readings.replays import Replay, Track
from keyfob.lab.readings.revocation import Denial, RevocationSeen, Round
from keyfob.lab.readings.services import Outage, Sample, ServicesSeen, Spread
from keyfob.lab.readings.storage import PlacementSeen, StorageSeen, Take
from keyfob.lab.readings.theft import Act, TheftSeen
from keyfob.lab.readings.xss import InjectionSeen, XssSeen
from keyfob.lab.setups import Placement

# Words


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.0 ms"), (0.0042, "4.2 ms"), (0.042, "42 ms"), (0.0995, "0.1 s"), (5.83, "5.8 s"), (42.0, "42 s"), (60, "1.0 min"), (583.0, "9.7 min")],
)  # fmt: skip
def test_a_duration_is_shown_in_the_unit_that_fits_it(value: float, shown: str) -> None:
    assert seconds(value) == shown


@given(st.floats(min_value=0.1, max_value=600), st.floats(min_value=1, max_value=600))
def test_a_scaled_duration_keeps_its_share_of_the_lifetime(value: float, lifetime: float) -> None:
    assert scaled(value, access_seconds=lifetime) / 600 == pytest.approx(value / lifetime)


def test_what_is_scaled_says_so_beside_what_was_measured() -> None:
    assert until_exp(5.8, access_seconds=6) == "5.8 s of 6 s, until exp (9.7 min of 10 min)"


# 1 Revocation


def revoked(*rounds: list[tuple[float | None, str]], accepted: bool = True) -> RevocationSeen:
    made = [
        Round(
            took=0.001,
            denials=[
                Denial(door=number, after=after, code=code, accepted_before=accepted)
                for number, (after, code) in enumerate(one)
            ],
        )
        for one in rounds
    ]
    return RevocationSeen(access_seconds=6, watched=11, rounds=made, load_per_second=100)


def test_the_first_and_the_last_service_are_told_apart_and_the_worst_round_is_kept() -> None:
    seen = revoked([(0.001, "revoked"), (0.005, "revoked")], [(0.002, "revoked"), (0.003, "revoked")])
    cell = revocation.read(seen)["denied"]
    assert cell.figures["first"] == 0.0015
    assert cell.figures["last"] == 0.004
    assert cell.figures["worst"] == 0.005
    assert cell.text == "first after 1.5 ms, last after 4.0 ms; worst of 2 rounds 5.0 ms"


def test_a_denial_before_the_acknowledgement_counts_as_no_time() -> None:
    assert revocation.read(revoked([(-0.2, "revoked")]))["denied"].figures["last"] == 0.0
    assert revocation.lags(revoked([(-0.2, "revoked"), (0.1, "revoked")])) == [0.0, 0.1]


def test_a_denial_by_expiry_is_no_revocation() -> None:
    cell = revocation.read(revoked([(5.8, "expired"), (0.004, "revoked")]))["denied"]
    assert cell.figures["until_exp"] is True
    assert cell.text.startswith("not before exp: 5.8 s of 6 s")


def test_a_service_that_never_denies_is_counted_and_not_averaged() -> None:
    cell = revocation.read(revoked([(0.004, "revoked"), (None, "")]))["denied"]
    assert cell.text == "not within 11 s: 1 still accept"


def test_a_credential_that_was_refused_before_it_was_revoked_measures_nothing() -> None:
    with pytest.raises(Unreadable, match="before it was revoked"):
        revocation.read(revoked([(0.0, "expired")], accepted=False))


def test_no_round_is_no_figure() -> None:
    assert revocation.read(revoked())["denied"].missing == "nothing was revoked"
    assert revocation.read(revoked([]))["denied"].missing == "nothing was revoked"


# 2 Logout


def track(*accepted: bool, name: str = "access token", code: str = "revoked", begin: float = 0.0) -> Track:
    return Track(
        name=name,
        replays=[
            Replay(begin + number * 0.25, one, "" if one else code) for number, one in enumerate(accepted)
        ],
    )


def signed_out(*tracks: Track) -> LogoutSeen:
    return LogoutSeen(access_seconds=6, interval=0.25, tracks=list(tracks))


def test_what_is_refused_at_its_first_replay_did_not_survive() -> None:
    cell = logout.read(signed_out(track(False, False), track(False, name="refresh token")))["survival"]
    assert cell.text == "all 2 refused at their first replay"
    assert cell.figures["longest"] == 0


def test_the_longest_survivor_is_named_and_scaled_where_it_ended_by_expiry() -> None:
    seen = signed_out(track(True, True, True, False, code="expired"), track(False, name="refresh token"))
    cell = logout.read(seen)["survival"]
    assert cell.text == "access token: 0.5 s of 6 s, until exp (50 s of 10 min); 1 of 2 refused at once"


def test_a_survivor_that_did_not_end_by_expiry_is_not_scaled() -> None:
    assert logout.read(signed_out(track(True, True, False)))["survival"].text == "access token: for 0.2 s"


def test_a_credential_that_comes_back_is_no_figure() -> None:
    with pytest.raises(Unreadable, match="accepted again"):
        logout.read(signed_out(track(False, True, False)))


def test_a_credential_that_is_never_refused_is_no_figure() -> None:
    with pytest.raises(Unreadable, match="still accepted"):
        logout.read(signed_out(track(True, True)))


@pytest.mark.parametrize("code", sorted(replays.NOT_FOUND_OUT))
def test_a_service_that_cannot_say_has_refused_nothing(code: str) -> None:
    with pytest.raises(Unreadable, match="could not say"):
        logout.read(signed_out(track(True, False, code=code)))


def test_nothing_captured_and_nothing_replayed_are_no_figures() -> None:
    assert logout.read(signed_out())["survival"].missing == "nothing was captured"
    with pytest.raises(Unreadable, match="was not replayed"):
        logout.read(signed_out(Track(name="access token", replays=[])))


def test_the_curve_falls_by_a_share_for_each_credential_and_ends_at_nothing() -> None:
    seen = signed_out(track(True, False, code="expired"), track(False, name="refresh token"))
    assert logout.curve(seen) == [(0.0, 1.0), (0.0, 0.5), (0.25, 0.0)]


@given(st.lists(st.integers(min_value=0, max_value=20), min_size=1, max_size=6))
@settings(max_examples=50)
def test_the_curve_never_rises(lengths: list[int]) -> None:
    tracks = [track(*[True] * length, False, name=f"token {place}") for place, length in enumerate(lengths)]
    points = logout.curve(signed_out(*tracks))
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)
    assert points[-1][1] == 0


# 3 Storage


def kept(placement: Placement, *takes: tuple[str, str], works: bool = True) -> PlacementSeen:
    return PlacementSeen(
        placement=placement,
        page_works=works,
        acted=True,
        takes=[Take(means=means, good_for=good_for) for means, good_for in takes],
    )


def test_what_a_script_found_counts_only_where_it_works_elsewhere() -> None:
    seen = StorageSeen(
        placements=[
            kept(Placement.LOCAL_STORAGE, ("localStorage", "access token"), ("document.cookie", "")),
            kept(Placement.COOKIE, ("document.cookie", "")),
        ]
    )
    read = storage.read(seen)
    assert read["own"].text == "localStorage: access token, by localStorage"
    assert read["own"].figures["got"] == 1
    assert read["others"].text == "HttpOnly cookie: nothing"


def test_a_page_that_does_not_work_shows_nothing_about_where_it_keeps_things() -> None:
    with pytest.raises(Unreadable, match="memory does not work"):
        storage.read(StorageSeen(placements=[kept(Placement.MEMORY, works=False)]))
    assert storage.read(StorageSeen(placements=[]))["own"].missing == "no page was opened"


# 4 XSS


def injected(*tracks: Track, arrived: bool = True) -> XssSeen:
    one = InjectionSeen(placement=Placement.MEMORY, arrived=arrived, acted=True, tracks=list(tracks))
    return XssSeen(access_seconds=6, injections=[one])


def test_a_script_that_brings_nothing_can_still_act() -> None:
    cell = xss.read(injected())["own"]
    assert cell.text == "memory of the page: nothing to replay; the script acted in the page"


def test_replays_that_end_with_the_sign_out_are_told_from_those_that_end_by_expiry() -> None:
    ended = xss.read(injected(track(True, True, False, begin=-0.3)))["own"]
    assert (
        ended.text == "memory of the page: 2 replays, none after the sign-out; the script acted in the page"
    )
    expired = xss.read(injected(track(True, True, True, False, begin=-0.25, code="expired")))["own"]
    assert expired.text.startswith("memory of the page: 3 replays, 0.2 s of 6 s, until exp")


def test_loot_that_never_arrived_or_was_never_good_is_no_figure() -> None:
    with pytest.raises(Unreadable, match="did not reach"):
        xss.read(injected(arrived=False))
    with pytest.raises(Unreadable, match="refused by a service before"):
        xss.read(injected(track(False, False, begin=-0.25)))
    assert xss.read(XssSeen(access_seconds=6, injections=[]))["own"].missing == "no page was opened"


# 5 CSRF


def forged(*changed: str, control: bool = True, works: bool = True) -> CsrfSeen:
    return CsrfSeen(
        own_works=works,
        forgeries=[Forgery(kind=kind, changed=kind in changed) for kind in csrf.KINDS],
        control=[Forgery(kind="form", changed=control)],
    )


def test_forgeries_that_changed_something_are_named() -> None:
    assert csrf.read(forged())["changed"].text == "none of 6"
    assert csrf.read(forged("form", "old_get"))["changed"].text == "2 of 6: a form, an old browser's GET"


def test_forgeries_that_cannot_work_at_all_prove_nothing() -> None:
    with pytest.raises(Unreadable, match="where nothing defends either"):
        csrf.read(forged(control=False))
    with pytest.raises(Unreadable, match="own page"):
        csrf.read(forged(works=False))
    nothing = CsrfSeen(own_works=True, forgeries=[], control=[])
    assert csrf.read(nothing)["changed"].missing == "nothing was forged"


# 6 Theft


def stolen(*acts: Act, what: tuple[str, ...] = ("access token",)) -> TheftSeen:
    return TheftSeen(access_seconds=6, stolen=list(what), acts=list(acts))


def call(at: float, code: str = "") -> Act:
    return Act(at, "thief", "call", not code, code)


def test_a_theft_that_is_noticed_says_when_and_for_how_long_the_thief_went_on() -> None:
    seen = stolen(
        call(0.0),
        Act(1.8, "thief", "refresh", True),
        call(2.0),
        Act(3.6, "user", "refresh", False, "reused"),
        call(6.6),
        call(7.7, "expired"),
    )
    read = theft.read(seen)
    assert read["detected"].figures == {"detected": True, "after": 3.6, "lifetimes": 0.6}
    assert read["thief"].text.startswith(
        "3 calls and 1 refresh; for 3.0 s of 6 s, until exp (5.0 min of 10 min)"
    )
    assert read["thief"].figures["beyond"] == pytest.approx(3.0)


def test_a_theft_that_nobody_notices_ends_with_the_sign_out() -> None:
    seen = stolen(call(0.0), Act(5.4, "user", "sign-out", True), call(5.5, "revoked"))
    read = theft.read(seen)
    assert read["detected"].text == "no"
    assert read["thief"].text == "1 calls; none after the sign-out"


def test_what_goes_on_past_the_end_of_the_watch_or_never_ends_is_no_figure() -> None:
    with pytest.raises(Unreadable, match="still went on"):
        theft.read(stolen(call(0.0), Act(5.4, "user", "sign-out", True), call(6.0)))
    with pytest.raises(Unreadable, match="neither"):
        theft.read(
            stolen(call(0.0), Act(5.4, "user", "sign-out", False, "cross_origin"), call(5.5, "revoked"))
        )
    assert theft.read(stolen(call(0.0), what=()))["thief"].missing == "nothing was stolen"
    assert theft.read(stolen())["detected"].missing == "nothing was stolen"


# 7 Load


def loaded(**changes: float) -> LoadsSeen:
    figures: dict[str, float] = {
        "requests": 1000, "seconds": 0.5, "refused": 0, "store_queries": 1000, "network_calls": 1000, "cpu": 0.1,
        "floor_requests": 1000, "floor_cpu": 0.04, "floor_seconds": 0.25,
    }  # fmt: skip
    return LoadsSeen(variants=[LoadSeen(where="in a file", pinned=True, **(figures | changes))])  # type: ignore[arg-type]


def test_counts_are_divided_by_the_requests_that_they_belong_to() -> None:
    read = load.read(loaded())
    assert {key: cell.text for key, cell in read.items()} == {
        "queries": "1", "calls": "1", "cpu": "100 µs, 60 µs", "rate": "2,000",
    }  # fmt: skip


def test_a_check_that_cannot_be_told_from_none_is_not_given_a_figure_below_nothing() -> None:
    assert load.read(loaded(cpu=0.03))["cpu"].text == "30 µs, under 1 µs"


def test_ways_of_keeping_things_are_named_where_there_are_several() -> None:
    one = loaded().variants[0]
    assert load.read(LoadsSeen(variants=[one, one]))["queries"].text == "1 (in a file); 1 (in a file)"


@pytest.mark.parametrize(
    "broken",
    [
        {"requests": 0},
        {"floor_requests": 0},
        {"refused": 1},
        {"store_queries": -1},
        {"cpu": -0.1},
        {"seconds": 0},
    ],
    ids=str,
)
def test_counters_that_do_not_fit_are_no_figure(broken: dict[str, float]) -> None:
    with pytest.raises(Unreadable):
        load.read(loaded(**broken))


def test_no_request_is_no_figure() -> None:
    assert {cell.missing for cell in load.read(LoadsSeen(variants=[])).values()} == {"no request was counted"}


# 8 Services


def outage(*samples: tuple[float, int], stopped: str = "authority", path: str = "/orders") -> Outage:
    return Outage(
        stopped=stopped, path=path, watched=7, samples=[Sample(at, 0, status) for at, status in samples]
    )


def asked(*outages: Outage, accepted: int = 100) -> ServicesSeen:
    spread = Spread(doors=1, requests=100, accepted=accepted, network_calls=2)
    return ServicesSeen(spreads=[spread], outages=list(outages), store="process")


def test_services_that_go_on_to_the_end_of_the_watch_say_how_long_that_was() -> None:
    read = services.read(asked(outage((0.0, 204), (6.9, 204)), outage((0.0, 503), stopped="store")))
    assert read["calls"].text == "0.02"
    assert read["authority"].text == "yes (7.0 s watched)"
    assert read["store"].text == "not at all"


def test_services_went_on_until_the_first_refusal_by_any_of_them() -> None:
    read = services.read(asked(outage((0.0, 204), (4.6, 204), (4.7, 503), (4.8, 204))))
    assert read["authority"].figures["/orders.until"] == 4.6


def test_routes_are_named_where_there_are_several() -> None:
    read = services.read(asked(outage((0.0, 204), (4.7, 503)), outage((0.0, 204), path="/catalogue")))
    assert read["authority"].text == "not at all on /orders; yes on /catalogue (7.0 s watched)"


def test_good_requests_that_were_refused_and_outages_that_nobody_saw_are_no_figures() -> None:
    with pytest.raises(Unreadable, match="1 of 100"):
        services.read(asked(outage((0.0, 204)), accepted=99))
    with pytest.raises(Unreadable, match="nobody asked"):
        services.read(asked(outage()))
    assert services.read(asked())["authority"].missing == "nothing was stopped"


# At the limit


def test_what_was_accepted_in_the_very_moment_of_the_sign_out_did_survive_it() -> None:
    cell = logout.read(signed_out(track(True, False), track(False, name="refresh token")))["survival"]
    assert cell.text == "access token: for 0.0 ms; 1 of 2 refused at once"
    assert "until 0.0 ms after the sign-out" in xss.read(injected(track(True, False)))["own"].text
    late = stolen(call(0.0), Act(5.4, "user", "sign-out", True), call(5.4), call(5.5, "revoked"))
    assert theft.read(late)["thief"].text == "2 calls; for 0.0 ms after the sign-out"
