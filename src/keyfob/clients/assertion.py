"""The assertion by which a client proves that it is itself, signed with a key of its own (`private_key_jwt`; RFC 7523, section 3). Pure.

1. size and form; the type is absent, `JWT` or `client-authentication+jwt`
2. the algorithm is that of a key of this client, which is named by `kid`, or is the only one
3. the signature
4. `iss` and `sub` are the client
5. `aud` is the issuer and nothing else: the address of an endpoint could be that of another authority's
6. `exp` has not come, and is at most 5 minutes away; `iat` and `nbf` are not ahead, but for a minute between clocks
7. `jti` is there; whoever calls sees to it that it is taken once

Which client it is, is read from it before its signature: for no other purpose than to know whose keys are to be tried.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from keyfob.base import base64url
from keyfob.base.errors import Cause, Denied, InvalidRequest
from keyfob.base.identifiers import KeyId, is_identifier
from keyfob.clients.client import Client
from keyfob.clients.store import UsedAssertion
from keyfob.jwt import jws, strict_json
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.header import read_header
from keyfob.jwt.jwk import PublicKey, jwk_set, parse_jwk_set

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MAX_ASSERTION: Final = 4096  # characters; one signed with RSA of 4096 bits has about 1000
MAX_LIFETIME: Final = timedelta(minutes=5)
CLOCK_LEEWAY: Final = timedelta(minutes=1)
"""How far the client's clock may be ahead of ours."""
MAX_CLIENT_KEYS: Final = 8  # of one client
KEYS_RULE: Final = (
    f"A client has 1 to {MAX_CLIENT_KEYS} public keys: a JWK Set, a JWK, or a PEM public key of the kinds "
    "EC P-256 or P-384, Ed25519, or RSA of at least 2048 bits."
)
_TYPES: Final = frozenset({"", "jwt", "client-authentication+jwt"})
_PEM: Final = b"-----BEGIN PUBLIC KEY-----"


def claimed_client(assertion: str) -> str | None:
    """Return whom *assertion* claims to be, unchecked: to find the keys that can check it, and for nothing else. None for what cannot be read."""
    parts = assertion.split(".")
    if len(assertion) > MAX_ASSERTION or len(parts) != 3:
        return None
    try:
        subject = strict_json.read_object(base64url.decode(parts[1].encode("ascii"))).get("sub")
    except ValueError:
        return None
    return subject if isinstance(subject, str) and is_identifier(subject) else None


def check_assertion(assertion: str, client: Client, *, issuer: str, now: float) -> UsedAssertion:
    """Check that *client* made *assertion* for *issuer*; return what is to be taken once. *now* is in seconds since the epoch.

    Raises:
        Denied: `bad_credentials`, whatever is wrong with it.
    """
    try:
        members = strict_json.read_object(_payload(assertion, client))
    except Denied as denied:
        raise _refused(f"its signature: {denied.cause}") from None
    except ValueError:
        raise _refused("no strict JSON") from None
    if members.get("iss") != client.client_id or members.get("sub") != client.client_id:
        raise _refused("iss and sub are not the client")
    if members.get("aud") not in (issuer, [issuer]):
        raise _refused("its audience is not the issuer alone")
    expires_at = _require_timely(members, now)
    token_id = members.get("jti")
    if not isinstance(token_id, str) or not is_identifier(token_id):
        raise _refused("no jti of 1 to 255 characters")
    until = datetime.fromtimestamp(expires_at, UTC) + CLOCK_LEEWAY
    return UsedAssertion(_digest(client.client_id, token_id), until)


def checked_keys(raw: bytes) -> bytes:
    """Return *raw* (a JWK Set, a JWK, or a PEM public key) as the JWK Set that is kept; an RSA key of a PEM is for PS256.

    Raises:
        InvalidRequest: `invalid_keys`: a private key, a weak one, one of a kind that is not ours, none, or more than 8.
    """
    try:
        keys = _parsed(raw)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidRequest("invalid_keys", f"{KEYS_RULE} ({error})", status=422) from None
    if not 0 < len(keys) <= MAX_CLIENT_KEYS:
        raise InvalidRequest("invalid_keys", KEYS_RULE, status=422)
    return msgspec.json.encode(jwk_set(keys))


# The memory of a pure function, not state. A set is at most 8 keys.
@lru_cache(maxsize=1024)
def keys_of(public_keys: bytes) -> Mapping[KeyId, PublicKey]:
    """Return the keys of the JWK Set *public_keys* by id; a single one answers to no id as well."""
    keys = parse_jwk_set(public_keys) if public_keys else ()
    by_id = {key.key_id: key for key in keys}
    if len(keys) == 1:
        by_id[KeyId("")] = keys[0]
    return MappingProxyType(by_id)


def _payload(assertion: str, client: Client) -> bytes:
    """Return the payload of an assertion whose type and signature hold."""
    media_type = read_header(assertion.partition(".")[0].encode("ascii")).media_type
    if media_type not in _TYPES:
        raise Denied(Cause.WRONG_TYPE)
    return jws.verify(assertion, keys_of(client.public_keys), typ=media_type or None, limit=MAX_ASSERTION)


def _require_timely(members: Mapping[str, object], now: float) -> int:
    """Return `exp`; refuse an assertion that is over, not begun, or good for too long."""
    ahead = now + CLOCK_LEEWAY.total_seconds()
    expires_at = members.get("exp")
    if not isinstance(expires_at, int) or isinstance(expires_at, bool):
        raise _refused("no exp, in whole seconds")
    if not now < expires_at <= ahead + MAX_LIFETIME.total_seconds():
        raise _refused("its time is over, or it is good for more than 5 minutes")
    for name in ("iat", "nbf"):
        moment = members.get(name, 0)
        if not isinstance(moment, int) or isinstance(moment, bool) or not 0 <= moment <= ahead:
            raise _refused(f"{name} is not a moment of the past, in whole seconds")
    return expires_at


def _digest(client_id: str, token_id: str) -> bytes:
    return hashlib.sha256(f"{client_id}\n{token_id}".encode()).digest()  # neither holds a line feed


def _parsed(raw: bytes) -> tuple[PublicKey, ...]:
    if raw.lstrip().startswith(_PEM):
        material = load_pem_public_key(raw)
        if isinstance(material, RSAPublicKey):
            return (PublicKey.of(material, Algorithm.PS256),)
        return (_of_curve(material),)
    document = strict_json.read_object(raw)
    entries = document.get("keys", [document])
    keys = parse_jwk_set({"keys": entries})
    if not isinstance(entries, list) or len(keys) != len(entries):
        raise ValueError("a key among them is of no use here")
    return keys


def _of_curve(material: object) -> PublicKey:
    """Return the key of a curve, which decides its algorithm."""
    for algorithm in (Algorithm.ES256, Algorithm.ES384, Algorithm.EDDSA):
        try:
            return PublicKey.of(material, algorithm)  # type: ignore[arg-type]  # of another kind: refused there
        except (ValueError, TypeError):
            continue
    raise ValueError("a key of a kind that is not ours")


def _refused(why: str) -> Denied:
    return Denied(Cause.BAD_CREDENTIALS, f"an assertion is refused: {why}")
