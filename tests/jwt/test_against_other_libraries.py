"""Ours may be stricter than PyJWT and joserfc, never laxer.

Tokens are made and broken at random. Whenever Keyfob accepts one, both others must accept it and read the same. Where Keyfob alone refuses,
the reason must be one of those that are named here.
"""

from __future__ import annotations

import json
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import errors as joserfc_errors
from joserfc import jws as joserfc_jws
from joserfc.jwk import import_key

import jwt as pyjwt
from keyfob.base import base64url
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import KeyId
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey
from keyfob.verifier.token_check import check_access_token

# joserfc warns of the name EdDSA; it is what RFC 9068 deployments know, and we read both names.
pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")

ISSUER, AUDIENCE = "https://auth.example", "orders"
NOW = 1_800_000_000
CLAIMS: dict[str, object] = {
    "iss": ISSUER,
    "sub": "alice",
    "aud": AUDIENCE,
    "exp": NOW + 600,
    "iat": NOW,
    "jti": "t1",
    "client_id": "first-party",
    "as_of": 7,
}


@cache
def key_of(algorithm: Algorithm) -> PrivateKey:
    if algorithm in {Algorithm.PS256, Algorithm.RS256}:
        return PrivateKey.of(rsa.generate_private_key(65537, 2048), algorithm, key_id=KeyId("k"))
    return PrivateKey.generate(algorithm, KeyId("k"))


def ours(token: str, key: PrivateKey) -> dict[str, object] | Cause:
    keys = {key.key_id: key.public}
    try:
        check_access_token(token, keys=keys, issuer=ISSUER, audiences={AUDIENCE}, now=NOW)
        found: dict[str, object] = json.loads(jws.verify(token, keys, typ="at+jwt"))
    except Denied as denied:
        return denied.cause
    return found


def theirs_pyjwt(token: str, key: PrivateKey) -> dict[str, object] | None:
    material = key.public.material
    try:
        # Times are compared with the machine's clock there; ours are checked in their own tests.
        options = {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "require": list(CLAIMS)}
        found: dict[str, object] = pyjwt.decode(
            token,
            material,
            algorithms=[key.algorithm.value],
            audience=AUDIENCE,
            issuer=ISSUER,
            options=options,
        )
    except (pyjwt.PyJWTError, ValueError, TypeError):
        return None
    return found


def theirs_joserfc(token: str, key: PrivateKey) -> dict[str, object] | None:
    try:
        # By default joserfc refuses every header member that it does not know, where RFC 7515, section 4, has them ignored.
        registry = joserfc_jws.JWSRegistry(algorithms=[key.algorithm.value], strict_check_header=False)
        checked = joserfc_jws.deserialize_compact(
            token, import_key(dict(key.public.to_jwk())), registry=registry
        )
        found: dict[str, object] = json.loads(checked.payload)
    except (joserfc_errors.JoseError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return found


def members(value: object) -> st.SearchStrategy[bytes]:
    """JSON text of *value*, as others might write it."""
    return st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]).map(
        lambda separators: json.dumps(value, separators=separators).encode()
    )


_VALUE = st.sampled_from(
    [
        None,
        True,
        "",
        "x",
        "alice",
        0,
        -1,
        1.5,
        NOW,
        NOW + 600,
        NOW * 1000,
        2**64,
        [],
        ["orders"],
        {},
        {"a": 1},
        ISSUER,
        "at+jwt",
        "JWT",
    ]
)
_HEADER_CHANGE = st.dictionaries(
    st.sampled_from(["alg", "typ", "kid", "crit", "b64", "zip", "jwk", "x5c", "cty", "note"]),
    st.one_of(_VALUE, st.sampled_from(["none", "HS256", "ES256", "RS256", "k", ["exp"]])),
    max_size=2,
)
_CLAIM_CHANGE = st.dictionaries(st.sampled_from([*CLAIMS, "nbf", "roles", "scope", "x"]), _VALUE, max_size=2)
_DROPPED = st.lists(st.sampled_from(["alg", "typ", "kid", *CLAIMS]), max_size=1)
_DAMAGE = st.one_of(
    st.just(None),
    st.just(None),
    st.tuples(st.integers(0, 600), st.sampled_from(["A", "_", ".", "=", "+", " ", "\n", "é", ""])),
)


@st.composite
def tokens(draw: st.DrawFn) -> tuple[str, PrivateKey]:
    key = key_of(draw(st.sampled_from(list(Algorithm))))
    dropped = draw(_DROPPED)
    head = {"alg": key.algorithm.value, "typ": "at+jwt", "kid": "k", **draw(_HEADER_CHANGE)}
    claims = {**CLAIMS, **draw(_CLAIM_CHANGE)}
    head = {name: value for name, value in head.items() if name not in dropped}
    claims = {name: value for name, value in claims.items() if name not in dropped}
    head_raw, claims_raw = draw(members(head)), draw(members(claims))
    twice = draw(st.sampled_from([None, None, None, "head", "claims"]))
    if twice == "head":
        head_raw = head_raw[:-1] + b',"kid":"k"}'
    elif twice == "claims":
        claims_raw = claims_raw[:-1] + b',"sub":"alice"}'
    signing_input = f"{base64url.encode(head_raw)}.{base64url.encode(claims_raw)}"
    token = f"{signing_input}.{base64url.encode(key.sign(signing_input.encode()))}"
    damage = draw(_DAMAGE)
    if damage is not None:
        place, text = damage[0] % len(token), damage[1]
        token = token[:place] + text + token[place + 1 :]
    return token, key


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(tokens())
def test_what_we_accept_both_others_accept_and_read_the_same(made: tuple[str, PrivateKey]) -> None:
    token, key = made
    found = ours(token, key)
    if isinstance(found, Cause):
        return
    assert theirs_pyjwt(token, key) == found
    assert theirs_joserfc(token, key) == found


# Each kind of "stricter", with a token that at least one of the others takes.
STRICTER: dict[str, tuple[dict[str, object], dict[str, object], Cause]] = {
    "a type that is not the one expected": ({"typ": "JWT"}, {}, Cause.WRONG_TYPE),
    "no key id": ({"kid": ""}, {}, Cause.UNKNOWN_KEY),
    "an embedded key": ({"jwk": {"kty": "oct", "k": "AAAA"}}, {}, Cause.MALFORMED),
    "a certificate": ({"x5c": ["AAAA"]}, {}, Cause.MALFORMED),
    "an address of keys": ({"jku": "https://attacker.example/"}, {}, Cause.MALFORMED),
    "compression": ({"zip": "DEF"}, {}, Cause.MALFORMED),
    "a token in a token": ({"cty": "JWT"}, {}, Cause.MALFORMED),
    "a moment in milliseconds": ({}, {"exp": NOW * 1000}, Cause.MALFORMED),
    "a moment with a fraction": ({}, {"exp": NOW + 600.5}, Cause.MALFORMED),
    "a moment before 1970": ({}, {"nbf": -1}, Cause.MALFORMED),
    "an empty subject": ({}, {"sub": ""}, Cause.MALFORMED),
    "a lifetime of more than a day": ({}, {"exp": NOW + 90_000}, Cause.MALFORMED),
    "roles that are no list": ({}, {"roles": "admin"}, Cause.MALFORMED),
    "a control character in a name": ({}, {"client_id": "a\nb"}, Cause.MALFORMED),
    "a whole number past 64 bits": ({}, {"x": 2**70}, Cause.MALFORMED),
    "a bound token without a proof": ({}, {"cnf": {"jkt": "x"}}, Cause.PROOF_REQUIRED),
}


@pytest.mark.parametrize("kind", STRICTER)
def test_each_kind_of_stricter_has_a_name(kind: str) -> None:
    key = key_of(Algorithm.ES256)
    head, claims, cause = STRICTER[kind]
    signing_input = ".".join(
        base64url.encode(json.dumps(part).encode())
        for part in ({"alg": "ES256", "typ": "at+jwt", "kid": "k", **head}, {**CLAIMS, **claims})
    )
    token = f"{signing_input}.{base64url.encode(key.sign(signing_input.encode()))}"
    assert ours(token, key) is cause
    assert theirs_pyjwt(token, key) is not None or theirs_joserfc(token, key) is not None


@pytest.mark.parametrize("part", [0, 1])
def test_a_name_that_stands_twice_is_taken_by_the_others(part: int) -> None:
    key = key_of(Algorithm.ES256)
    parts = [b'{"alg":"ES256","typ":"at+jwt","kid":"k"}', json.dumps(CLAIMS).encode()]
    parts[part] = parts[part][:-1] + (b',"kid":"k"}', b',"sub":"alice"}')[part]
    signing_input = ".".join(map(base64url.encode, parts))
    token = f"{signing_input}.{base64url.encode(key.sign(signing_input.encode()))}"
    assert ours(token, key) is Cause.MALFORMED
    assert theirs_pyjwt(token, key) is not None
