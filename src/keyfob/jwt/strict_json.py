"""JSON as a token may hold it: one reading only (RFC 8259; RFC 7515, section 4; RFC 7519, section 4; RFC 7493).

Refused: anything that is not UTF-8, a byte order mark, duplicate member names at any depth, member names written with escapes, NaN and
infinities, lone surrogates, more than 16 levels, whole numbers past 64 bits, and everything that is no object at the top.
"""

from __future__ import annotations

import json
import math
import re

import msgspec

MAX_DEPTH = 16  # levels of objects and lists, the outermost included; ours have 2
MAX_INTEGER = 2**63 - 1
_DECODER = msgspec.json.Decoder(dict[str, object])
_ENCODER = msgspec.json.Encoder()
# One string, with the colon that makes it a member name; or one bracket. A string without an end takes the rest of the text, and
# nothing is tried twice, so that the time is linear.
_PIECE = re.compile(r'"((?:[^"\\]++|\\.)*+)(?:"(\s*+:)?|\\?\Z)|[\[{]|([\]}])', re.DOTALL)


def read_object(raw: bytes) -> dict[str, object]:
    """Return the object that *raw* is, read in the only possible way.

    The short way: where *raw* is octet for octet what our own encoder writes for what was read, nothing in it was passed over, so no
    name stands twice. The encoder writes no escapes but for quotes, backslashes and control characters, so a text without a backslash
    and with few brackets needs no other look.

    Raises:
        ValueError: it is no such object.
    """
    try:
        if b"\\" not in raw and raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH:
            members = _DECODER.decode(raw)
            if _ENCODER.encode(members) == raw:
                _require_small_integers(members)
                return members
        return _read_slowly(raw)
    except RecursionError:  # the caller stands near the limit already
        raise ValueError("too many levels") from None


def _read_slowly(raw: bytes) -> dict[str, object]:
    text = raw.decode("utf-8")
    _require_plain_structure(text)
    members = json.loads(
        text,
        object_pairs_hook=_members,
        parse_constant=_refuse_constant,
        parse_float=_finite,
        parse_int=_bounded,
    )
    if not isinstance(members, dict):
        raise ValueError("not an object")  # noqa: TRY004 - text that came in
    if "\\u" in text:
        # The only way to write a lone surrogate in UTF-8 is an escape.
        json.dumps(members, ensure_ascii=False).encode("utf-8")
    return members


def _require_plain_structure(text: str) -> None:
    """Raise for too many levels or an escaped name, before anything walks the levels."""
    depth = 0
    for piece in _PIECE.finditer(text):
        name, colon, closing = piece.groups()
        if name is not None:
            if colon and "\\" in name:
                raise ValueError("a member name with escapes")
        elif closing:
            depth -= 1
        else:
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError("too many levels")


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member name twice")
    return members


def _refuse_constant(text: str) -> object:
    raise ValueError(f"{text} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number out of range")
    return number


def _bounded(text: str) -> int:
    number = int(text)
    _require_small_integers(number)
    return number


def _require_small_integers(value: object) -> None:
    # A bool is an int, and small.
    if isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise ValueError("a whole number past 64 bits")
    elif isinstance(value, dict):
        for member in value.values():
            _require_small_integers(member)
    elif isinstance(value, list):
        for item in value:
            _require_small_integers(item)
