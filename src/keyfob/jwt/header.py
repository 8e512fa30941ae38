"""The header of a compact JWS: what Keyfob writes there, and what it reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import msgspec

from keyfob.base import base64url
from keyfob.base.identifiers import MAX_IDENTIFIER, KeyId, is_identifier
from keyfob.jwt import strict_json

MAX_HEADER = (
    1024  # characters of the segment: an algorithm, a type and a key id of 255 characters take half of it
)
_REMEMBERED = 256  # headers; with `MAX_HEADER` this bounds the memory to 1 MiB, whatever is sent
# Each of these asks the reader to trust something that the token itself brings, to read the payload in another way, or to treat the
# token as something that it is not here.
_REFUSED = frozenset(
    ["b64", "crit", "cty", "enc", "jku", "jwk", "x5c", "x5t", "x5t#S256", "x5u", "zip"],
)


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says. A member that is absent is empty here.

    `media_type` is `typ` in lower case and without `application/`: media types have no case (RFC 7515, section 4.1.9).
    """

    alg: str
    media_type: str
    key_id: KeyId


# The memory of a pure function, not state: only what was read without fault is remembered, and a flood of other headers can at worst
# make it forget.
@lru_cache(maxsize=_REMEMBERED)
def read_header(segment: bytes) -> Header:
    """Read the first segment of a compact JWS.

    Members that mean nothing to us are ignored (RFC 7515, section 4), except those that change what the token means or bring a key.

    Raises:
        ValueError: it is no header of ours: too long, not canonical, not strict JSON, a member of the wrong type, or a refused one.
    """
    if len(segment) > MAX_HEADER:
        raise ValueError("a header that is too long")
    members = strict_json.read_object(base64url.decode(segment))
    if not _REFUSED.isdisjoint(members):
        raise ValueError("a header with a member that is never honoured")
    alg, typ, kid = members.get("alg", ""), members.get("typ", ""), members.get("kid", "")
    if not (isinstance(alg, str) and isinstance(typ, str) and isinstance(kid, str)):
        raise ValueError("a header with a member of the wrong type")  # noqa: TRY004 - text that came in
    if kid and not is_identifier(kid):
        raise ValueError(f"a key id has 1 to {MAX_IDENTIFIER} characters, none of them a control character")
    return Header(alg, _media_type(typ), KeyId(kid))


@lru_cache(maxsize=_REMEMBERED)
def write_header(alg: str, typ: str, key_id: KeyId) -> str:
    """Return the first segment of a compact JWS of ours."""
    return base64url.encode(msgspec.json.encode({"alg": alg, "typ": typ, "kid": key_id}))


def _media_type(typ: str) -> str:
    # Only ASCII letters have another case here: `str.lower` would take the Kelvin sign for a k.
    folded = typ.lower() if typ.isascii() else typ
    return folded.removeprefix("application/")
