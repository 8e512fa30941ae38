"""Whether a browser's login will do for an authorization request: `prompt`, `max_age`, `id_token_hint` (OpenID Connect Core 1.0, section 3.1.2.1).

Pure. What asks decides again each time the browser comes back, always from the same `asked_at`: a login counts as done for this request
if, and only if, the user proved who they are after it was asked. So nothing in the browser can say that it was done.

1. `prompt=none` shows nothing: what would be shown is refused by name instead.
2. Nobody has signed in, or somebody else than the client means: sign in. Somebody else again: the client is told.
3. `prompt=login`, and a login that `max_age` finds too old: sign in, once in a request.
4. `prompt=select_account`: choose, once in a request. A fresh login is a choice.
5. `prompt=consent`, and scopes that were not allowed yet: ask, once in a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from keyfob.base.identifiers import Subject

MAX_AGE_LIMIT: Final = 2**31 - 1  # seconds: what every client can write


class Prompt(StrEnum):
    """What the client wants the user to be asked."""

    NONE = "none"
    LOGIN = "login"
    CONSENT = "consent"
    SELECT_ACCOUNT = "select_account"


class PromptError(StrEnum):
    """What the client is told instead of what would have to be shown (OpenID Connect Core 1.0, section 3.1.2.6)."""

    LOGIN_REQUIRED = "login_required"
    ACCOUNT_SELECTION_REQUIRED = "account_selection_required"
    CONSENT_REQUIRED = "consent_required"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an authorization request asks of the login. `asked_at` is when it first came; `hinted` is whom `id_token_hint` is about."""

    asked_at: datetime
    prompts: frozenset[Prompt] = frozenset()
    max_age: timedelta | None = None
    hinted: Subject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserLogin:
    """The login of the browser: whose, and when they last proved it."""

    subject: Subject
    auth_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What was answered in this request already. `is_allowed`: what it asks for is allowed, by this answer, an earlier one, or a rule."""

    has_chosen: bool = False
    has_consented: bool = False
    is_allowed: bool = False


@dataclass(frozen=True, slots=True)
class GoOn:
    """Nothing need be asked (any more): give the code."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """The user is to prove who they are, now; whatever login there is does not count."""


@dataclass(frozen=True, slots=True)
class ChooseAccount:
    """The user is to say whether to go on as who is signed in."""


@dataclass(frozen=True, slots=True)
class AskConsent:
    """The user is to be asked whether the client may."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The client is told so: it wants nothing shown, or somebody else signed in than it meant."""

    error: PromptError


Next = GoOn | SignIn | ChooseAccount | AskConsent | Refuse


def read_prompts(text: str | None) -> frozenset[Prompt]:
    """Read the parameter `prompt`: values with a space between two; absent is none of them.

    Raises:
        ValueError: a value that there is not, one that is there twice, or `none` beside another.
    """
    if text is None:
        return frozenset()
    values = text.split(" ")
    prompts = frozenset(map(Prompt, values))
    if len(prompts) != len(values) or (Prompt.NONE in prompts and len(prompts) > 1):
        raise ValueError("prompt is a list of different values, and none stands alone")
    return prompts


def read_max_age(text: str | None) -> timedelta | None:
    """Read the parameter `max_age`, in seconds; absent is no limit.

    Raises:
        ValueError: no whole number from 0 to `MAX_AGE_LIMIT`.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= MAX_AGE_LIMIT):
        raise ValueError("max_age is a whole number of seconds")
    return timedelta(seconds=int(text))


def next_step(wanted: Wanted, login: BrowserLogin | None, answered: Answered, now: datetime) -> Next:
    """Say what comes next for a request at *now*, with the browser's *login* (None: nobody has signed in).

    A login at exactly `max_age` is not too old. A login at exactly `asked_at` was before the request.
    """
    step = _next_shown(wanted, login, answered, now)
    if Prompt.NONE not in wanted.prompts:
        return step
    match step:
        case SignIn():
            return Refuse(PromptError.LOGIN_REQUIRED)
        case ChooseAccount():
            return Refuse(PromptError.ACCOUNT_SELECTION_REQUIRED)
        case AskConsent():
            return Refuse(PromptError.CONSENT_REQUIRED)
        case _:
            return step


def _next_shown(wanted: Wanted, login: BrowserLogin | None, answered: Answered, now: datetime) -> Next:
    if login is None:
        return SignIn()
    is_fresh = login.auth_time > wanted.asked_at
    if wanted.hinted is not None and login.subject != wanted.hinted:
        return Refuse(PromptError.LOGIN_REQUIRED) if is_fresh else SignIn()
    if not is_fresh and (Prompt.LOGIN in wanted.prompts or _is_too_old(wanted, login, now)):
        return SignIn()
    if Prompt.SELECT_ACCOUNT in wanted.prompts and not (is_fresh or answered.has_chosen):
        return ChooseAccount()
    if not answered.is_allowed or (Prompt.CONSENT in wanted.prompts and not answered.has_consented):
        return AskConsent()
    return GoOn()


def _is_too_old(wanted: Wanted, login: BrowserLogin, now: datetime) -> bool:
    return wanted.max_age is not None and now - login.auth_time > wanted.max_age
