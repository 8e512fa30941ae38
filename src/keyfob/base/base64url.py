"""Strict base64url without padding (RFC 4648, section 5; RFC 7515, section 2).

Every decoder of the standard library takes more than one text for the same bytes; this one takes exactly one.
"""

from __future__ import annotations

import binascii
import re

_ALPHABET = re.compile(rb"[A-Za-z0-9_-]*")
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_FROM_STANDARD = bytes.maketrans(b"+/", b"-_")
# The last character of a text with 2 or 3 characters over may only be one whose unused low bits are zero.
_LAST = {2: frozenset(b"AQgw"), 3: frozenset(b"AEIMQUYcgkosw048")}


def encode(raw: bytes) -> str:
    """Return the base64url text of *raw*, without padding."""
    return binascii.b2a_base64(raw, newline=False).translate(_FROM_STANDARD).rstrip(b"=").decode("ascii")


def decode(text: bytes) -> bytes:
    """Return the bytes of *text*, the one canonical encoding of them.

    Raises:
        ValueError: a character outside the alphabet, padding, an impossible length, or unused bits that are not zero.
    """
    over = len(text) % 4
    if over == 1 or _ALPHABET.fullmatch(text) is None:
        raise ValueError("not base64url")
    if not over:
        return binascii.a2b_base64(text.translate(_TO_STANDARD))
    if text[-1] not in _LAST[over]:
        raise ValueError("not canonical base64url")
    return binascii.a2b_base64(text.translate(_TO_STANDARD) + b"==")
