"""What an authorization request asks of the browser's login: every rule, and the ways around it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyfob.base.identifiers import Subject
from keyfob.grants.prompting import (
    MAX_AGE_LIMIT,
    Answered,
    AskConsent,
    BrowserLogin,
    ChooseAccount,
    GoOn,
    Next,
    Prompt,
    PromptError,
    Refuse,
    SignIn,
    Wanted,
    next_step,
    read_max_age,
    read_prompts,
)

ASKED = datetime(2026, 1, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
ALICE, BOB = Subject("alice"), Subject("bob")
ALLOWED = Answered(is_allowed=True)


def wanted(*prompts: Prompt, max_age: float | None = None, hinted: Subject | None = None) -> Wanted:
    limit = None if max_age is None else timedelta(seconds=max_age)
    return Wanted(asked_at=ASKED, prompts=frozenset(prompts), max_age=limit, hinted=hinted)


def login(ago: timedelta = timedelta(hours=1), subject: Subject = ALICE) -> BrowserLogin:
    return BrowserLogin(subject=subject, auth_time=ASKED - ago)


def step(asked: Wanted, browser: BrowserLogin | None, answered: Answered = ALLOWED) -> Next:
    return next_step(asked, browser, answered, ASKED + timedelta(seconds=5))


def test_a_login_that_will_do_is_gone_on_with() -> None:
    assert step(wanted(), login()) == GoOn()
    assert step(wanted(Prompt.NONE), login()) == GoOn()


def test_nobody_is_asked_to_sign_in_but_where_nothing_may_be_shown() -> None:
    assert step(wanted(), None) == SignIn()
    assert step(wanted(Prompt.NONE), None) == Refuse(PromptError.LOGIN_REQUIRED)


def test_prompt_login_is_answered_by_a_login_after_the_request_alone() -> None:
    asked = wanted(Prompt.LOGIN)
    assert step(asked, login()) == SignIn()
    assert step(asked, login(ago=timedelta(0))) == SignIn()
    assert step(asked, login(ago=-TICK)) == GoOn()


def test_no_answer_of_the_browser_stands_for_a_login() -> None:
    everything = Answered(has_chosen=True, has_consented=True, is_allowed=True)
    assert step(wanted(Prompt.LOGIN), login(), everything) == SignIn()
    assert step(wanted(max_age=0), login(), everything) == SignIn()


@pytest.mark.parametrize(
    ("ago", "expected"), [(25.0 - 1e-6, GoOn()), (25.0, GoOn()), (25.0 + 1e-6, SignIn())]
)
def test_a_login_is_too_old_past_max_age(ago: float, expected: Next) -> None:
    assert step(wanted(max_age=30), login(ago=timedelta(seconds=ago))) == expected


@pytest.mark.meets("9470-8")
def test_a_max_age_of_zero_is_answered_once_in_a_request() -> None:
    assert step(wanted(max_age=0), login()) == SignIn()
    assert step(wanted(max_age=0), login(ago=-TICK)) == GoOn()


def test_a_login_too_old_is_refused_where_nothing_may_be_shown() -> None:
    assert step(wanted(Prompt.NONE, max_age=30), login()) == Refuse(PromptError.LOGIN_REQUIRED)


def test_somebody_else_than_the_client_means_is_asked_to_sign_in_and_then_refused() -> None:
    asked = wanted(hinted=BOB)
    assert step(asked, login()) == SignIn()
    assert step(asked, login(ago=-TICK)) == Refuse(PromptError.LOGIN_REQUIRED)
    assert step(asked, login(subject=BOB)) == GoOn()
    assert step(wanted(Prompt.NONE, hinted=BOB), login()) == Refuse(PromptError.LOGIN_REQUIRED)


def test_an_account_is_chosen_once_in_a_request_and_by_a_login_too() -> None:
    asked = wanted(Prompt.SELECT_ACCOUNT)
    assert step(asked, login()) == ChooseAccount()
    assert step(asked, login(), Answered(has_chosen=True, is_allowed=True)) == GoOn()
    assert step(asked, login(ago=-TICK)) == GoOn()


def test_consent_is_asked_for_where_it_is_not_given_or_wanted_again() -> None:
    assert step(wanted(), login(), Answered()) == AskConsent()
    assert step(wanted(Prompt.CONSENT), login()) == AskConsent()
    assert step(wanted(Prompt.CONSENT), login(), Answered(has_consented=True, is_allowed=True)) == GoOn()
    assert step(wanted(Prompt.CONSENT), login(), Answered(has_consented=True)) == AskConsent()
    assert step(wanted(Prompt.NONE), login(), Answered()) == Refuse(PromptError.CONSENT_REQUIRED)


PROMPTS = st.frozensets(st.sampled_from(Prompt))
LOGINS = st.none() | st.builds(
    login,
    st.timedeltas(min_value=timedelta(seconds=-5), max_value=timedelta(days=400)),
    st.sampled_from([ALICE, BOB]),
)
ANSWERS = st.builds(Answered, has_chosen=st.booleans(), has_consented=st.booleans(), is_allowed=st.booleans())


@settings(max_examples=200)
@given(PROMPTS, LOGINS, ANSWERS, st.none() | st.integers(0, 10**6), st.none() | st.just(BOB))
def test_a_code_is_given_for_nothing_less_than_what_was_asked(
    prompts: frozenset[Prompt],
    browser: BrowserLogin | None,
    answered: Answered,
    max_age: int | None,
    hinted: Subject | None,
) -> None:
    asked = wanted(*prompts, max_age=max_age, hinted=hinted)
    found = step(asked, browser, answered)
    if Prompt.NONE in prompts:
        assert isinstance(found, GoOn | Refuse)
    if found != GoOn():
        return
    assert browser is not None
    assert hinted in {None, browser.subject}
    assert answered.is_allowed
    is_fresh = browser.auth_time > ASKED
    assert is_fresh or Prompt.LOGIN not in prompts
    assert is_fresh or max_age is None or ASKED - browser.auth_time <= timedelta(seconds=max_age)
    assert is_fresh or answered.has_chosen or Prompt.SELECT_ACCOUNT not in prompts
    assert answered.has_consented or Prompt.CONSENT not in prompts


def test_prompts_are_read() -> None:
    assert read_prompts(None) == frozenset()
    assert read_prompts("none") == {Prompt.NONE}
    assert read_prompts("consent login") == {Prompt.CONSENT, Prompt.LOGIN}


@pytest.mark.parametrize(
    "text", ["", " ", "Login", "create", "none login", "login login", "login  consent", "none\tlogin", "x"]
)
def test_other_prompts_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_prompts(text)


def test_max_age_is_read() -> None:
    assert read_max_age(None) is None
    assert read_max_age("0") == timedelta(0)
    assert read_max_age(str(MAX_AGE_LIMIT)) == timedelta(seconds=MAX_AGE_LIMIT)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "1e3", "٣", str(MAX_AGE_LIMIT + 1), "9" * 5000, " 1"])
def test_another_max_age_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_max_age(text)
