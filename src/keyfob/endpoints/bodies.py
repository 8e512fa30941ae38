"""Request bodies: read, bounded, and decoded into the struct that the route states.

In order: the body's size (413), its content type (415), its depth and syntax (400), its shape (422). Nothing is guessed: unknown fields, a
field given twice in a form, and another content type are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

import msgspec

from keyfob.base.errors import InvalidRequest
from keyfob.http.messages import HttpRequest
from keyfob.http.query import Fields, parse_fields, parse_query

MAX_DEPTH = 8
"""How deep JSON may nest. Our own bodies nest two deep."""

Body = TypeVar("Body", bound=msgspec.Struct)
_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_PLAIN_TYPES = MappingProxyType({media_type.encode("ascii"): media_type for media_type in (_FORM, _JSON)})
# What msgspec says with the sent text in it, and what is said instead.
_SHOWING = {
    "Invalid enum value": "Not one of the allowed values",
    "Object contains unknown field": "Unknown field",
}
_OPENING, _CLOSING, _QUOTE, _ESCAPE = b"[{", b"]}", ord('"'), ord("\\")


class RequestBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The root of all request bodies: an unknown field is refused."""


async def read_json(request: HttpRequest, shape: type[Body]) -> Body:
    """Read the body of *request* as JSON of *shape*.

    Raises:
        InvalidRequest: 400, 413, 415 or 422, as the module's head says.
    """
    raw = await request.body()
    if _content_type(request) != _JSON:
        raise _unsupported(_JSON)
    return _decoded_json(raw, shape)


async def read_json_if_any(request: HttpRequest, shape: type[Body]) -> Body:
    """Read the body like `read_json`; an empty one stands for `{}`, whatever its content type."""
    raw = await request.body()
    if not raw:
        return _converted({}, shape)
    if _content_type(request) != _JSON:
        raise _unsupported(_JSON)
    return _decoded_json(raw, shape)


async def read_form(request: HttpRequest, shape: type[Body]) -> Body:
    """Read the body of *request* as a form post of *shape*, whose fields are strings, booleans or choices.

    Raises:
        InvalidRequest: 400, 413, 415 or 422.
    """
    return _converted(await _fields(request), shape)


async def read_oauth_form(request: HttpRequest, shape: type[Body]) -> Body:
    """Read the body of *request* as an endpoint of OAuth does (RFC 6749, section 3.2).

    A field without a value counts as absent, one that *shape* does not know is ignored, and one that is there twice is refused.

    Raises:
        InvalidRequest: 400, 413, 415 or 422.
    """
    return of_fields(await read_oauth_fields(request), shape)


def read_oauth_query(request: HttpRequest, shape: type[Body]) -> Body:
    """Read the query of *request* as `read_oauth_form` does a body (RFC 6749, section 3.1).

    Raises:
        InvalidRequest: 400 or 422.
    """
    fields = _once(parse_query(request.query))
    return of_fields({name: value for name, value in fields.items() if value}, shape)


async def read_oauth_fields(request: HttpRequest) -> dict[str, str]:
    """Read the body of *request* as an endpoint of OAuth does, whatever fields it has; those without a value are left out.

    Raises:
        InvalidRequest: 400, 413, 415, or 422 for a field that is there twice.
    """
    return {name: value for name, value in (await _fields(request)).items() if value}


def of_fields(fields: Mapping[str, str], shape: type[Body]) -> Body:
    """Return the *shape* of those of *fields* that it knows.

    Raises:
        InvalidRequest: 422.
    """
    known = set(shape.__struct_fields__)
    return _converted({name: value for name, value in fields.items() if name in known}, shape)


async def read_pairs(request: HttpRequest) -> Fields:
    """Read the body of *request* as a form post: names and values in their order, repeated or not.

    Raises:
        InvalidRequest: 400, 413 or 415.
    """
    raw = await request.body()
    if not is_form(request):
        raise _unsupported(_FORM)
    return parse_fields(raw)


async def _fields(request: HttpRequest) -> dict[str, str]:
    return _once(await read_pairs(request))


def _once(pairs: Fields) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in fields:
            raise InvalidRequest("invalid_request", "A field is there twice.", status=422)
        fields[name] = value
    return fields


def is_form(request: HttpRequest) -> bool:
    """Say whether the body of *request* is declared as a form post."""
    return _content_type(request) == _FORM


def _content_type(request: HttpRequest) -> str:
    """Return the media type; empty if there is none, or it states another charset than UTF-8."""
    values = request.all(b"content-type")
    if len(values) != 1:
        return ""
    if values[0] in _PLAIN_TYPES:  # as nearly always
        return _PLAIN_TYPES[values[0]]
    media_type, _, parameters = values[0].decode("latin-1").lower().partition(";")
    if parameters.strip(" \t") not in {"", "charset=utf-8", 'charset="utf-8"'}:
        return ""
    return media_type.strip(" \t")


def _decoded_json(raw: bytes, shape: type[Body]) -> Body:
    _refuse_depth(raw)
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError as error:
        _require_syntax(raw)
        raise _invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _not_json() from None


def _require_syntax(raw: bytes) -> None:
    """Refuse what is no JSON at all: a decoder that knows the shape stops at the first field that does not fit."""
    try:
        msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _not_json() from None


def _converted(fields: dict[str, str], shape: type[Body]) -> Body:
    try:
        return msgspec.convert(fields, shape, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None


def _refuse_depth(raw: bytes) -> None:
    """Refuse JSON that nests deeper than `MAX_DEPTH`, before a decoder sees it. Brackets inside strings do not count."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return
    depth, in_string, escaped = 0, False, False
    for byte in raw:
        if in_string:
            in_string, escaped = escaped or byte != _QUOTE, byte == _ESCAPE and not escaped
        elif byte == _QUOTE:
            in_string = True
        elif byte in _OPENING:
            depth += 1
            if depth > MAX_DEPTH:
                raise InvalidRequest("malformed_json", f"The body nests deeper than {MAX_DEPTH}.")
        elif byte in _CLOSING:
            depth -= 1


def _unsupported(wanted: str) -> InvalidRequest:
    return InvalidRequest("unsupported_media_type", f"The content type must be {wanted}.", status=415)


def _not_json() -> InvalidRequest:
    return InvalidRequest("malformed_json", "The body is not JSON.")


def _invalid(error: msgspec.ValidationError) -> InvalidRequest:
    """Say what is wrong with the shape and where, never showing a name or value that was sent."""
    what, at, where = str(error).partition(" - at ")
    for shown, instead in _SHOWING.items():
        if what.startswith(shown):
            what = instead
    return InvalidRequest("invalid_request", f"{what}{at}{where}.", status=422)
