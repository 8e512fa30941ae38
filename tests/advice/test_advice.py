"""The advice: every need has one, the known situations come out as they should, and a stricter need is never answered more laxly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.advice.advice import Advice, advise
from keyfob.advice.guide import guide
from keyfob.advice.need import ClientKind, Need, Revocation
from keyfob.advice.rules import read_rules
from keyfob.advice.told import document, told
from keyfob.base.errors import ConfigurationError
from keyfob.base.identifiers import Strategy

RULES = read_rules()
GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "choose-a-strategy.md"
STRICTNESS = {
    Revocation.AT_EXPIRY: 0,
    Revocation.WITHIN_MINUTES: 1,
    Revocation.ON_DEMAND: 2,
    Revocation.ON_BREACH: 2,
}

needs = st.builds(
    Need,
    services=st.integers(1, 10_000),
    run_by=st.sampled_from(["us", "others"]),
    clients=st.lists(st.sampled_from(ClientKind), min_size=1, unique=True).map(tuple),
    domains=st.integers(1, 10_000),
    revocation=st.sampled_from(Revocation),
    cut_off=st.floats(0, 86_400),
    requests=st.floats(0, 1e8),
    logins=st.floats(0, 1e6),
    regions=st.integers(1, 100),
    profile=st.sampled_from(sorted(RULES.profile)),
)


def need_of(**answers: str) -> Need:
    return Need.of(RULES.question, answers)


@pytest.mark.parametrize("name", RULES.situation)
def test_a_known_situation_comes_out_as_it_should(name: str) -> None:
    situation = RULES.situation[name]
    advice = advise(Need.of(RULES.question, situation.answers), RULES)
    assert {one.client: one.chosen.strategy for one in advice.recommendations} == situation.expects


def test_the_six_situations_of_the_article_are_there() -> None:
    assert {name: set(situation.expects.values()) for name, situation in RULES.situation.items()} == {
        "monolith": {Strategy.SESSION},
        "log-out-on-demand": {Strategy.SESSION},
        "breach": {Strategy.SESSION},
        "microservices": {Strategy.HYBRID},
        "mobile-and-web": {Strategy.HYBRID},
        "security-and-scale": {Strategy.HYBRID, Strategy.JWT},
    }


def test_across_domains_the_token_goes_in_the_header() -> None:
    advice = advise(Need.of(RULES.question, RULES.situation["mobile-and-web"].answers), RULES)
    assert {one.carried for one in advice.recommendations} == {"header"}


def test_where_the_feed_changes_the_choice_both_are_said() -> None:
    advice = advise(need_of(services="3", run_by="others", revocation="on-demand"), RULES)
    (one,) = advice.recommendations
    assert (one.classical, one.chosen.strategy, one.changes) == (Strategy.SESSION, Strategy.HYBRID, True)
    assert "  The classical answer is session." in list(told(advice))


@given(needs)
def test_every_need_is_answered_for_every_client(need: Need) -> None:
    advice = advise(need, RULES)
    assert [one.client for one in advice.recommendations] == list(need.clients)
    assert advise(need, RULES) == advice
    assert list(told(advice))
    assert document(advice)
    assert all(step.value >= 0 for step in (*advice.steps, *advice.runner_up_steps))


def slowness(advice: Advice) -> list[tuple[float, ...]]:
    """How long each client's stolen credential goes on, and how long an access token lives."""
    return [
        (one.chosen.exposure.connected, one.chosen.exposure.cut_off, one.chosen.exposure.classical)
        for one in advice.recommendations
    ] + [(advice.access_seconds, advice.max_staleness, advice.worst_seconds)]


@given(needs, st.sampled_from(Revocation))
def test_a_stricter_revocation_is_never_slower(need: Need, other: Revocation) -> None:
    laxer, stricter = sorted((need.revocation, other), key=STRICTNESS.__getitem__)
    slow = slowness(advise(replace(need, revocation=laxer), RULES))
    fast = slowness(advise(replace(need, revocation=stricter), RULES))
    for one, two in zip(fast, slow, strict=True):
        assert all(mine <= theirs for mine, theirs in zip(one, two, strict=True))


@given(needs, st.floats(0, 86_400))
def test_who_may_go_on_for_less_time_never_goes_on_longer(need: Need, other: float) -> None:
    short, long = sorted((need.cut_off, other))
    assert (
        advise(replace(need, cut_off=short), RULES).worst_seconds
        <= advise(replace(need, cut_off=long), RULES).worst_seconds
    )


@pytest.mark.parametrize(
    ("profile", "absolute", "idle"),
    [("aal1", 2_592_000, 1_209_600), ("aal2", 86_400, 3_600), ("aal3", 43_200, 900)],
)
def test_a_profile_shortens_lifetimes(profile: str, absolute: int, idle: int) -> None:
    advice = advise(need_of(services="9", clients="mobile", profile=profile), RULES)
    (one,) = advice.recommendations
    assert (one.chosen.limits.absolute, one.chosen.limits.idle) == (absolute, idle)


@given(needs)
def test_no_profile_ever_lengthens_a_lifetime(need: Need) -> None:
    with_profile, without = advise(need, RULES), advise(replace(need, profile="none"), RULES)
    for one, other in zip(with_profile.recommendations, without.recommendations, strict=True):
        assert (one.chosen.limits.absolute or 0) <= (other.chosen.limits.absolute or 0)
        assert (one.chosen.limits.idle or 0) <= (other.chosen.limits.idle or 0)


def test_the_arithmetic_is_that_of_the_figures() -> None:
    advice = advise(need_of(services="10", revocation="within-minutes", logins="1000", requests="1e5"), RULES)
    steps = {step.what: step.value for step in advice.steps}
    # A thousand endings a second, each kept for a token's ten minutes and five more.
    assert steps["live entries"] == 1000 * 900
    assert steps["memory of each verifier"] == 1000 * 900 * 112
    assert steps["store, refreshes"] == 1000 * 1800 / 600
    assert steps["network, the feed"] == 10 * (400 + 1000 * 300)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("services", "0"), ("services", "10001"), ("services", "1.5"), ("services", "many"), ("services", ""),
        ("cut_off", "-1"), ("cut_off", "nan"), ("cut_off", "inf"), ("requests", "1e9"), ("logins", "1" * 21),
        ("revocation", "soon"), ("clients", ""), ("clients", "browser,fax"), ("profile", "aal4"), ("regions", "٣"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused_with_what_would_be(name: str, answer: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} is "):
        need_of(**{name: answer})


def test_an_answer_to_no_question_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="flavour is no question; they are services, "):
        need_of(flavour="vanilla")


@pytest.mark.parametrize(
    ("name", "bound"), [("services", "1"), ("services", "10000"), ("cut_off", "0"), ("cut_off", "86400")]
)
def test_bounds_are_answers(name: str, bound: str) -> None:
    need_of(**{name: bound})


def test_the_guide_is_what_the_rules_say() -> None:
    assert GUIDE.read_text("utf-8") == guide(RULES), (
        "python -m keyfob.advice > docs/how-to/choose-a-strategy.md"
    )
