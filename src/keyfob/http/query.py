"""The query of a request, read strictly: nothing is guessed, repeated or ignored in silence."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from keyfob.base.errors import InvalidRequest

MAX_QUERY = 4096  # bytes
MAX_FIELDS = 64

Fields = tuple[tuple[str, str], ...]
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLAIN = re.compile(rb"[A-Za-z0-9._~*-]*")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def parse_fields(raw: bytes) -> Fields:
    """Read *raw*, a query or a form post, as pairs of names and values in their order.

    Raises:
        InvalidRequest: a broken percent-escape, bytes that are no UTF-8, a control character, or more than `MAX_FIELDS` pairs.
    """
    if not raw:
        return ()
    pairs = raw.split(b"&", MAX_FIELDS)
    if len(pairs) > MAX_FIELDS:
        raise InvalidRequest("invalid_request", f"More than {MAX_FIELDS} fields.")
    return tuple(_pair(pair) for pair in pairs if pair)


def parse_query(raw: bytes) -> Fields:
    """Read *raw* as a query of at most `MAX_QUERY` bytes.

    Raises:
        InvalidRequest: it is longer, or not as `parse_fields` wants it.
    """
    if len(raw) > MAX_QUERY:
        raise InvalidRequest("invalid_request", f"A query has at most {MAX_QUERY} bytes.")
    return parse_fields(raw)


def once(fields: Fields, *, allowed: frozenset[str]) -> dict[str, str]:
    """Return *fields* as a mapping, each name at most once and one of *allowed*.

    Raises:
        InvalidRequest: an unknown name, or one that is there twice. A misspelt rule must not be a rule that is not checked.
    """
    mapping: dict[str, str] = {}
    for name, value in fields:
        if name not in allowed:
            raise InvalidRequest(
                "invalid_request", f"Unknown parameter; known are {', '.join(sorted(allowed))}."
            )
        if name in mapping:
            raise InvalidRequest("invalid_request", f"The parameter {name} is there twice.")
        mapping[name] = value
    return mapping


def whole_number(text: str, *, name: str, low: int, high: int) -> int:
    """Read *text* as a whole number of *low* to *high*.

    Raises:
        InvalidRequest: it is none.
    """
    if not text.isascii() or not text.isdigit() or len(text) > 18 or not low <= int(text) <= high:
        raise InvalidRequest("invalid_request", f"{name} is a whole number from {low} to {high}.")
    return int(text)


def _pair(pair: bytes) -> tuple[str, str]:
    name, _, value = pair.partition(b"=")
    return _decoded(name), _decoded(value)


def _decoded(raw: bytes) -> str:
    if _PLAIN.fullmatch(raw) is not None:  # as nearly always: it stands for itself
        return raw.decode("ascii")
    if _BAD_ESCAPE.search(raw):
        raise InvalidRequest("invalid_request", "A percent sign without two hex digits.")
    try:
        text = unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest("invalid_request", "Fields that are not UTF-8.") from None
    if _CONTROL.search(text) is not None:
        raise InvalidRequest("invalid_request", "A control character in a field.")
    return text
