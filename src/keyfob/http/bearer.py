"""The Authorization header: Bearer tokens of principals, Basic credentials of clients."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from keyfob.base.errors import Cause, Denied

MAX_TOKEN = 16 * 1024
"""Characters of a Bearer token that are looked at; `jwt.jws` has a limit of its own."""
MAX_BASIC = 2048
"""Characters of Basic credentials, encoded: an id of 255 characters and a secret, form-encoded, fit with room."""

_IN_TOKENS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/"  # RFC 6750, section 2.1
_BASIC = re.compile(rb"[Bb][Aa][Ss][Ii][Cc] +([A-Za-z0-9+/]+={0,2})")  # RFC 7617, section 2
_FORM_ENCODED = re.compile(r"(?:[^%&=\x00-\x20\x7f-\uffff]|%[0-9A-Fa-f]{2})*")


@dataclass(frozen=True, slots=True)
class BasicCredentials:
    """What a client says it is."""

    client_id: str
    secret: str = field(repr=False)


def read_bearer(values: Sequence[bytes]) -> str | None:
    """Return the token in the `Authorization` values of a request; None if there is no such header.

    Raises:
        Denied: `malformed`: more than one header, another scheme than Bearer (in any case of letters), or something that is no token.
    """
    if not values:
        return None
    if len(values) > 1:
        raise Denied(Cause.MALFORMED, "more than one Authorization header")
    scheme, _, text = values[0].partition(b" ")
    token = text.lstrip(b" ")
    # Deleting what may be there takes a third of the time of matching it: this is read for every request with a token.
    body = token.rstrip(b"=")
    is_token = len(values[0]) <= MAX_TOKEN and body != b"" and not body.translate(None, _IN_TOKENS)
    if scheme.lower() != b"bearer" or not is_token:
        raise Denied(Cause.MALFORMED, "an Authorization header that holds no Bearer token")
    return token.decode("ascii")


def is_basic(values: Sequence[bytes]) -> bool:
    """Say whether the one Authorization header names the scheme Basic."""
    return len(values) == 1 and values[0][:6].lower() == b"basic "


def read_basic(values: Sequence[bytes]) -> BasicCredentials | None:
    """Return the client credentials in the values of a header; None if there is no such header.

    Id and secret are form-decoded after the base64 (RFC 6749, section 2.3.1).

    Raises:
        Denied: `bad_credentials`, whatever is wrong with them.
    """
    if not values:
        return None
    match = _BASIC.fullmatch(values[0]) if len(values) == 1 and len(values[0]) <= MAX_BASIC else None
    if match is None:
        raise Denied(Cause.BAD_CREDENTIALS, "not one header with Basic credentials")
    try:
        client_id, colon, secret = base64.b64decode(match[1], validate=True).decode("utf-8").partition(":")
        if colon and client_id and secret:
            return BasicCredentials(_form_decoded(client_id), _form_decoded(secret))
    except (ValueError, binascii.Error):
        pass
    raise Denied(Cause.BAD_CREDENTIALS, "Basic credentials that cannot be read")


def _form_decoded(text: str) -> str:
    if _FORM_ENCODED.fullmatch(text) is None:
        raise ValueError("not form-encoded")
    return unquote_to_bytes(text.replace("+", " ")).decode("utf-8")
