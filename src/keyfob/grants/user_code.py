"""User codes of the device flow: what a person reads on one screen and types on another (RFC 8628, section 6.1).

Eight letters of twenty: no vowels, so that no words come out, nothing that looks like a digit, and no Y. That is 34 bits, for ten minutes,
behind a login and a throttle that leaves one account some fourteen tries in that time: it finds one particular code once in a billion lives.
"""

from __future__ import annotations

import secrets
from typing import Final

from keyfob.grants.secret import digest_of

LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
LENGTH: Final = 8
_HALF: Final = LENGTH // 2
_PASSED_OVER: Final = str.maketrans("", "", " -_.\u2010\u2011\u2013\u2014\t")


def new_user_code() -> str:
    """Make a code, of the operating system's CSPRNG."""
    return "".join(secrets.choice(LETTERS) for _ in range(LENGTH))


def shown(code: str) -> str:
    """Return *code* as people read it, in two halves."""
    return f"{code[:_HALF]}-{code[_HALF:]}"


def read(text: str) -> str | None:
    """Return the code that somebody typed, whatever its case and with or without dashes; None where it is none."""
    code = text.translate(_PASSED_OVER).upper()
    return code if len(code) == LENGTH and set(code) <= set(LETTERS) else None


def alias_of(code: str) -> bytes:
    """Return what a store keeps of *code*."""
    return digest_of(code)
