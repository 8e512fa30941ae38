"""Which passwords are taken. Pure."""

from __future__ import annotations

import unicodedata
from functools import cache
from importlib import resources

from keyfob.base.errors import InvalidRequest

MIN_PASSWORD = 8  # characters after NFC
MAX_PASSWORD = 128  # characters after NFC
# A composed character decomposes into four code points at most, so a longer text has more than MAX_PASSWORD after NFC. Checked before
# normalising, whose time grows with the square of a run of combining marks.
_MAX_RAW_PASSWORD = MAX_PASSWORD * 4
_CONTROL_OR_SURROGATE = frozenset({"Cc", "Cs"})

LENGTH_RULE = f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} characters."
CHARACTER_RULE = "A password has no control characters and is well-formed Unicode."
COMMON_RULE = "This password is one of the first that anybody would guess. Take another."


def readable_password(password: str) -> str | None:
    """Return *password* as it is hashed, in NFC; None if it can be nobody's: too long, control characters, lone surrogates.

    One that is too short is read, so that it costs what any other costs.
    """
    if len(password) > _MAX_RAW_PASSWORD:
        return None
    normal = unicodedata.normalize("NFC", password)
    if len(normal) > MAX_PASSWORD or _has_unfit_character(normal):
        return None
    return normal


def checked_password(password: str, *, name: str) -> str:
    """Return *password* in NFC, fit to be the password of the account *name*.

    8 and 128 characters are taken, 7 and 129 are not. All refusals of one kind have the same text.

    Raises:
        InvalidRequest: `password_length`, `password_characters`, or `password_common` (which the login name is, too).
    """
    if len(password) > _MAX_RAW_PASSWORD:
        raise InvalidRequest("password_length", LENGTH_RULE, status=422)
    normal = unicodedata.normalize("NFC", password)
    if _has_unfit_character(normal):
        raise InvalidRequest("password_characters", CHARACTER_RULE, status=422)
    if not MIN_PASSWORD <= len(normal) <= MAX_PASSWORD:
        raise InvalidRequest("password_length", LENGTH_RULE, status=422)
    if is_common(normal) or normal.casefold() == name.casefold():
        raise InvalidRequest("password_common", COMMON_RULE, status=422)
    return normal


def is_common(password: str) -> bool:
    """Say whether *password* is on the list of the most common ones, whatever its case, or one character again and again."""
    folded = password.casefold()
    return folded in _common_passwords() or len(set(folded)) == 1


def _has_unfit_character(text: str) -> bool:
    return any(unicodedata.category(character) in _CONTROL_OR_SURROGATE for character in text)


@cache
def _common_passwords() -> frozenset[str]:
    text = resources.files(__package__).joinpath("common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))
