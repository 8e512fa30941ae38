"""Login names, subjects and roles: how they are made, compared and refused. Pure, but for the random subject."""

from __future__ import annotations

import base64
import os
import unicodedata
from collections.abc import Iterable

from keyfob.base.errors import InvalidRequest
from keyfob.base.identifiers import Subject

MAX_NAME = 128  # characters, folded: an e-mail address has room, a page of text has not
MAX_ROLE = 100  # characters
MAX_ROLES = 64  # of one subject: they travel in every access token
SUBJECT_PREFIX = "usr_"
_SUBJECT_BYTES = 17  # 136 bits, of which 26 base32 characters hold 130
_SUBJECT_CHARACTERS = 26
_SUBJECT_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz234567")
# Folding makes a character at most three (U+0390), and composing undoes a decomposition of at most four code points.
_MAX_RAW_NAME = MAX_NAME * 4
# Control, format (zero width, writing direction), surrogate, private use, unassigned; line and paragraph separators.
_UNFIT_FOR_NAMES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

NAME_RULE = (
    f"A login name has 1 to {MAX_NAME} visible characters, no spaces at its ends, "
    f"and does not begin with {SUBJECT_PREFIX}."
)
ROLE_RULE = (
    f"A role has 1 to {MAX_ROLE} characters without spaces or control characters; at most {MAX_ROLES} roles."
)


def new_subject() -> Subject:
    """Make a subject: `usr_` and 26 random base32 characters, 130 bits."""
    text = base64.b32encode(os.urandom(_SUBJECT_BYTES)).decode("ascii").lower()
    return Subject(SUBJECT_PREFIX + text[:_SUBJECT_CHARACTERS])


def is_account_subject(text: str) -> bool:
    """Say whether *text* has the form of a subject made by `new_subject`."""
    body = text.removeprefix(SUBJECT_PREFIX)
    return len(body) == _SUBJECT_CHARACTERS == len(text) - len(
        SUBJECT_PREFIX
    ) and _SUBJECT_ALPHABET.issuperset(body)


def fold_name(name: str) -> str | None:
    """Return *name* as names are compared, NFC and case-folded; None if it can be nobody's.

    Folding what is folded changes nothing.
    """
    if not 0 < len(name) <= _MAX_RAW_NAME:
        return None
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
    if not 0 < len(folded) <= MAX_NAME or folded != folded.strip() or folded.startswith(SUBJECT_PREFIX):
        return None
    if any(unicodedata.category(character) in _UNFIT_FOR_NAMES for character in folded):
        return None
    return folded


def checked_name(name: str) -> str:
    """Return *name* folded.

    Raises:
        InvalidRequest: `invalid_name`, always with the same text.
    """
    folded = fold_name(name)
    if folded is None:
        raise InvalidRequest("invalid_name", NAME_RULE, status=422)
    return folded


def checked_roles(roles: Iterable[str]) -> frozenset[str]:
    """Return *roles* as a set.

    Raises:
        InvalidRequest: `invalid_role`, always with the same text; also for one string, which would be a set of letters.
    """
    checked = frozenset(roles)
    if isinstance(roles, str) or len(checked) > MAX_ROLES or not all(map(_is_role, checked)):
        raise InvalidRequest("invalid_role", ROLE_RULE, status=422)
    return checked


def _is_role(role: str) -> bool:
    if not 0 < len(role) <= MAX_ROLE or any(character.isspace() for character in role):
        return False
    return all(unicodedata.category(character) not in _UNFIT_FOR_NAMES for character in role)
