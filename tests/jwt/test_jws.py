"""A compact JWS is checked in a fixed order, and gives its payload only when everything holds."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from itertools import product

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st

from keyfob.base import base64url
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import KeyId
from keyfob.jwt import header, jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey, PublicKey
from keyfob.jwt.shared_secret import SharedSecret

PAYLOAD = b'{"sub":"alice"}'
TYP = "at+jwt"


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey.generate(Algorithm.ES256, KeyId("current"))


@pytest.fixture(scope="module")
def keys(key: PrivateKey) -> dict[KeyId, PublicKey]:
    return {key.key_id: key.public}


def written(head: object, payload: bytes = PAYLOAD, *, sign: Callable[[bytes], bytes]) -> str:
    """A token with any header, signed as it stands."""
    raw = head if isinstance(head, bytes) else json.dumps(head, separators=(",", ":")).encode()
    signing_input = f"{base64url.encode(raw)}.{base64url.encode(payload)}"
    return f"{signing_input}.{base64url.encode(sign(signing_input.encode()))}"


def cause_of(token: str, keys: Mapping[KeyId, PublicKey], typ: str | None = TYP) -> Cause:
    with pytest.raises(Denied) as caught:
        jws.verify(token, keys, typ=typ)
    assert token[:40] not in str(caught.value) or not token
    return caught.value.cause


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_what_is_signed_is_read(algorithm: Algorithm) -> None:
    own = PrivateKey.generate(algorithm)
    for payload in (b"", b"\0", PAYLOAD, bytes(range(256))):
        token = jws.sign(payload, own, typ=TYP)
        assert jws.verify(token, {own.key_id: own.public}, typ=TYP) == payload
        assert jws.verify_signed(token, {own.key_id: own.public}, typ=TYP) == (payload, own.key_id)


def test_the_header_is_alg_typ_and_kid(key: PrivateKey) -> None:
    head = base64url.decode(jws.sign(PAYLOAD, key, typ=TYP).split(".")[0].encode())
    assert head == b'{"alg":"ES256","typ":"at+jwt","kid":"current"}'
    edwards = PrivateKey.generate(Algorithm.EDDSA, KeyId("e"))
    assert b'"alg":"EdDSA"' in base64url.decode(jws.sign(b"", edwards, typ=TYP).split(".")[0].encode())


def test_both_names_of_the_edwards_curve_are_read() -> None:
    own = PrivateKey.generate(Algorithm.EDDSA, KeyId("e"))
    for alg in ("EdDSA", "Ed25519"):
        token = written({"alg": alg, "typ": TYP, "kid": "e"}, sign=own.sign)
        assert jws.verify(token, {own.key_id: own.public}, typ=TYP) == PAYLOAD
    token = written({"alg": "Ed448", "typ": TYP, "kid": "e"}, sign=own.sign)
    assert cause_of(token, {own.key_id: own.public}) is Cause.UNSUPPORTED_ALGORITHM


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "at+JWT", "application/at+jwt", "Application/At+Jwt"])
def test_a_type_is_a_media_type(key: PrivateKey, keys: dict[KeyId, PublicKey], typ: str) -> None:
    token = written({"alg": "ES256", "typ": typ, "kid": "current"}, sign=key.sign)
    assert jws.verify(token, keys, typ=TYP) == PAYLOAD


@pytest.mark.parametrize(
    "typ",
    [
        "",
        "JWT",
        "jwt",
        "id+jwt",
        "logout+jwt",
        "secevent+jwt",
        "dpop+jwt",
        "keyfob-entries+jws",
        "at+jwt ",
        " at+jwt",
        "at+jwt;v=1",
        "application/application/at+jwt",
        "/at+jwt",
        "text/at+jwt",
        "at+jw\u0442",
        "\u212aeyfob",
    ],
)
def test_another_type_is_refused(key: PrivateKey, keys: dict[KeyId, PublicKey], typ: str) -> None:
    token = written({"alg": "ES256", "typ": typ, "kid": "current"}, sign=key.sign)
    assert cause_of(token, keys) is Cause.WRONG_TYPE


def test_a_letter_that_only_looks_like_another_case_is_another_letter(
    key: PrivateKey, keys: dict[KeyId, PublicKey]
) -> None:
    # The Kelvin sign, whose lower case is a k.
    token = written({"alg": "ES256", "typ": "\u212aeyfob-keys+jws", "kid": "current"}, sign=key.sign)
    assert cause_of(token, keys, "keyfob-keys+jws") is Cause.WRONG_TYPE


def test_no_type_is_another_type_than_any(key: PrivateKey, keys: dict[KeyId, PublicKey]) -> None:
    bare = written({"alg": "ES256", "kid": "current"}, sign=key.sign)
    assert cause_of(bare, keys) is Cause.WRONG_TYPE
    assert jws.verify(bare, keys, typ=None) == PAYLOAD
    assert cause_of(jws.sign(PAYLOAD, key, typ=TYP), keys, None) is Cause.WRONG_TYPE


def test_each_kind_of_token_is_taken_for_itself_alone(key: PrivateKey, keys: dict[KeyId, PublicKey]) -> None:
    kinds = ["at+jwt", "keyfob-entries+jws", "keyfob-heartbeat+jws", "keyfob-keys+jws", "keyfob-snapshot+jws"]
    for own in kinds:
        token = jws.sign(PAYLOAD, key, typ=own)
        for other in kinds:
            if own == other:
                assert jws.verify(token, keys, typ=other) == PAYLOAD
            else:
                assert cause_of(token, keys, other) is Cause.WRONG_TYPE


def test_the_first_check_that_fails_names_the_cause(key: PrivateKey, keys: dict[KeyId, PublicKey]) -> None:
    edwards = PrivateKey.generate(Algorithm.EDDSA, KeyId("edwards"))
    both = {**keys, edwards.key_id: edwards.public}

    def bad(_: bytes) -> bytes:
        return bytes(64)

    steps = [
        ({"alg": "none", "typ": "JWT", "kid": 5}, Cause.MALFORMED),
        ({"alg": "none", "typ": "JWT", "kid": "?"}, Cause.WRONG_TYPE),
        ({"alg": "none", "typ": TYP, "kid": "?"}, Cause.UNSUPPORTED_ALGORITHM),
        ({"alg": "ES384", "typ": TYP, "kid": "?"}, Cause.UNKNOWN_KEY),
        ({"alg": "ES384", "typ": TYP}, Cause.UNKNOWN_KEY),
        ({"alg": "ES384", "typ": TYP, "kid": "current"}, Cause.UNSUPPORTED_ALGORITHM),
        ({"alg": "EdDSA", "typ": TYP, "kid": "current"}, Cause.UNSUPPORTED_ALGORITHM),
        ({"alg": "ES256", "typ": TYP, "kid": "edwards"}, Cause.UNSUPPORTED_ALGORITHM),
        ({"alg": "ES256", "typ": TYP, "kid": "current"}, Cause.BAD_SIGNATURE),
    ]
    for head, cause in steps:
        assert cause_of(written(head, sign=bad), both) is cause


def test_tampering_with_any_character_is_refused(key: PrivateKey, keys: dict[KeyId, PublicKey]) -> None:
    token = jws.sign(PAYLOAD, key, typ=TYP)
    for place, present in enumerate(token):
        for other in "A_z.+= ":
            if other == present:
                continue
            cause_of(token[:place] + other + token[place + 1 :], keys)
        cause_of(token[:place] + token[place + 1 :], keys)
        cause_of(token[:place] + present + token[place:], keys)


def test_the_last_character_of_a_segment_has_one_form(key: PrivateKey, keys: dict[KeyId, PublicKey]) -> None:
    token = jws.sign(PAYLOAD, key, typ=TYP)
    for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        if last != token[-1]:
            assert cause_of(token[:-1] + last, keys) in {Cause.MALFORMED, Cause.BAD_SIGNATURE}


@pytest.mark.parametrize(
    "form",
    [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c.d",
        "a.b.c.d.e",
        "{{}}",
        "bnVsbA..",
        "W10..",
        "é.é.é",
        "\ud800.a.b",
        "=..",
        "{head}.{body}",
        "{head}.{body}.{tail}.",
        ".{body}.{tail}",
        "{head}.{body}.{tail}.{tail}.{tail}",
        " {head}.{body}.{tail}",
        "{head}.{body}.{tail}\n",
        "{head}.{body}.{tail}=",
        "{head}.{body}.{tail}==",
        '{{"protected":"{head}","payload":"{body}","signature":"{tail}"}}',
        '{{"payload":"{body}","signatures":[{{"protected":"{head}","signature":"{tail}"}}]}}',
    ],
)
def test_another_form_is_refused(key: PrivateKey, keys: dict[KeyId, PublicKey], form: str) -> None:
    head, body, tail = jws.sign(PAYLOAD, key, typ=TYP).split(".")
    assert cause_of(form.format(head=head, body=body, tail=tail), keys) is Cause.MALFORMED


def test_a_stripped_signature_is_refused(key: PrivateKey, keys: dict[KeyId, PublicKey]) -> None:
    head, body, _ = jws.sign(PAYLOAD, key, typ=TYP).split(".")
    assert cause_of(f"{head}.{body}.", keys) is Cause.BAD_SIGNATURE


@pytest.mark.parametrize(
    "alg", [*sorted("".join(c) for c in product("nN", "oO", "nN", "eE")), "None ", "none\0", ""]
)
def test_none_does_not_exist_in_any_spelling(keys: dict[KeyId, PublicKey], alg: str) -> None:
    head = {"alg": alg, "typ": TYP, "kid": "current"}
    token = written(head, b'{"sub":"admin"}', sign=lambda _: b"")
    assert cause_of(token, keys) is Cause.UNSUPPORTED_ALGORITHM


@pytest.mark.parametrize(
    "alg",
    [
        "es256",
        "Es256",
        "ES256 ",
        " ES256",
        "ES256\0",
        "ES256K",
        "ES512",
        "RS384",
        "RS512",
        "PS384",
        "HS256",
        "HS512",
        "\u0395S256",
        "ES\u066256",
        "RSA-OAEP",
        "dir",
    ],
)
def test_an_algorithm_has_one_spelling(key: PrivateKey, keys: dict[KeyId, PublicKey], alg: str) -> None:
    token = written({"alg": alg, "typ": TYP, "kid": "current"}, sign=key.sign)
    assert cause_of(token, keys) is Cause.UNSUPPORTED_ALGORITHM


def test_no_algorithm_is_none_that_is_known(key: PrivateKey, keys: dict[KeyId, PublicKey]) -> None:
    assert (
        cause_of(written({"typ": TYP, "kid": "current"}, sign=key.sign), keys) is Cause.UNSUPPORTED_ALGORITHM
    )


@pytest.mark.parametrize(
    "head",
    [
        {"alg": ["ES256"], "typ": TYP, "kid": "current"},
        {"alg": {}, "typ": TYP, "kid": "current"},
        {"alg": None, "typ": TYP, "kid": "current"},
        {"alg": 5, "typ": TYP, "kid": "current"},
        {"alg": "ES256", "typ": None, "kid": "current"},
        {"alg": "ES256", "typ": [TYP], "kid": "current"},
        {"alg": "ES256", "typ": TYP, "kid": None},
        {"alg": "ES256", "typ": TYP, "kid": 5},
        {"alg": "ES256", "typ": TYP, "kid": ["current"]},
        {"alg": "ES256", "typ": TYP, "kid": "current\0"},
        {"alg": "ES256", "typ": TYP, "kid": "x" * 256},
    ],
)
def test_a_member_of_another_type_is_refused(
    key: PrivateKey, keys: dict[KeyId, PublicKey], head: object
) -> None:
    assert cause_of(written(head, sign=key.sign), keys) is Cause.MALFORMED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crit", ["exp"]),
        ("crit", []),
        ("crit", ["b64"]),
        ("b64", False),
        ("b64", True),
        ("zip", "DEF"),
        ("enc", "A256GCM"),
        ("cty", "JWT"),
        ("jku", "https://attacker.example/jwks.json"),
        ("jwk", {"kty": "oct", "k": "AAAA"}),
        ("x5u", "http://169.254.169.254/"),
        ("x5c", ["MII"]),
        ("x5t", "AAAA"),
        ("x5t#S256", "AAAA"),
        ("crit", None),
    ],
)
def test_a_member_that_is_never_honoured_is_refused_though_the_signature_holds(
    key: PrivateKey, keys: dict[KeyId, PublicKey], name: str, value: object
) -> None:
    token = written({"alg": "ES256", "typ": TYP, "kid": "current", name: value}, sign=key.sign)
    assert cause_of(token, keys) is Cause.MALFORMED


def test_an_embedded_key_of_the_attacker_checks_nothing(keys: dict[KeyId, PublicKey]) -> None:
    own = PrivateKey.generate(Algorithm.ES256, KeyId("current"))
    jwk = own.public.to_jwk()
    assert (
        cause_of(written({"alg": "ES256", "typ": TYP, "kid": "current", "jwk": jwk}, sign=own.sign), keys)
        is Cause.MALFORMED
    )
    assert cause_of(jws.sign(PAYLOAD, own, typ=TYP), keys) is Cause.BAD_SIGNATURE


def test_a_member_that_means_nothing_is_ignored(key: PrivateKey, keys: dict[KeyId, PublicKey]) -> None:
    token = written({"alg": "ES256", "typ": TYP, "kid": "current", "note": {"a": [1]}}, sign=key.sign)
    assert jws.verify(token, keys, typ=TYP) == PAYLOAD


@pytest.mark.parametrize(
    "head",
    [
        b'{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"current"}',
        b'{"alg":"ES256","typ":"at+jwt","kid":"other","kid":"current"}',
        b'{"alg":"ES256","typ":"JWT","typ":"at+jwt","kid":"current"}',
        b'{"\\u0061lg":"ES256","typ":"at+jwt","kid":"current"}',
        b'{"alg":"ES256","typ":"at+jwt","kid":"current","x":{"a":1,"a":1}}',
        b'\xef\xbb\xbf{"alg":"ES256","typ":"at+jwt","kid":"current"}',
        '{"alg":"ES256","typ":"at+jwt","kid":"current"}'.encode("utf-16"),
        b'{"alg":"ES256","typ":"at+jwt","kid":"current","x":"\\ud800"}',
        b'{"alg":"ES256","typ":"at+jwt","kid":"current","x":NaN}',
        b'{"alg":"ES256","typ":"at+jwt","kid":"current","x":' + b"[" * 40 + b"]" * 40 + b"}",
        b'["ES256"]',
        b"",
    ],
)
def test_a_header_with_two_readings_is_refused(
    key: PrivateKey, keys: dict[KeyId, PublicKey], head: bytes
) -> None:
    assert cause_of(written(head, sign=key.sign), keys) is Cause.MALFORMED


@pytest.mark.parametrize(
    "key_id",
    [
        "' OR 1=1 --",
        "../../dev/null",
        "/etc/passwd",
        "*)(uid=*",
        "http://localhost/",
        "$(id)",
        "current ",
        "CURRENT",
        "x" * 255,
    ],
)
def test_a_key_id_is_looked_up_and_nothing_else(
    keys: dict[KeyId, PublicKey], key: PrivateKey, key_id: str
) -> None:
    token = written({"alg": "ES256", "typ": TYP, "kid": key_id}, sign=key.sign)
    assert cause_of(token, keys) is Cause.UNKNOWN_KEY


def test_the_public_key_is_no_secret_of_hs256() -> None:
    own = PrivateKey.of(rsa.generate_private_key(65537, 2048), Algorithm.RS256, key_id=KeyId("current"))
    public = own.public.material
    texts = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        msgspec.json.encode(own.public.to_jwk()),
    ]
    for secret in texts:
        token = written(
            {"alg": "HS256", "typ": TYP, "kid": "current"},
            sign=lambda signing_input, secret=secret: hmac.new(
                secret, signing_input, hashlib.sha256
            ).digest(),
        )
        assert cause_of(token, {own.key_id: own.public}) is Cause.UNSUPPORTED_ALGORITHM


@pytest.mark.parametrize("r_and_s", [(0, 0), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1)])
def test_a_psychic_signature_is_refused(keys: dict[KeyId, PublicKey], r_and_s: tuple[int, int]) -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    signature = b"".join((number if number >= 0 else order).to_bytes(32, "big") for number in r_and_s)
    head = {"alg": "ES256", "typ": TYP, "kid": "current"}
    assert cause_of(written(head, sign=lambda _: signature), keys) is Cause.BAD_SIGNATURE


def test_the_other_root_of_a_signature_is_another_text_of_the_same_token(
    key: PrivateKey, keys: dict[KeyId, PublicKey]
) -> None:
    # So revocation never goes by the text of a token.
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    head, body, tail = jws.sign(PAYLOAD, key, typ=TYP).split(".")
    signature = base64url.decode(tail.encode())
    other = signature[:32] + (order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    assert jws.verify(f"{head}.{body}.{base64url.encode(other)}", keys, typ=TYP) == PAYLOAD


def test_an_edwards_signature_has_one_form() -> None:
    own = PrivateKey.generate(Algorithm.EDDSA, KeyId("e"))
    head, body, tail = jws.sign(PAYLOAD, own, typ=TYP).split(".")
    signature = base64url.decode(tail.encode())
    order = 2**252 + 27742317777372353535851937790883648493
    other = (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    token = f"{head}.{body}.{base64url.encode(signature[:32] + other)}"
    assert cause_of(token, {own.key_id: own.public}) is Cause.BAD_SIGNATURE


def test_no_nonce_comes_twice(key: PrivateKey) -> None:
    # The first half of an ECDSA signature is the nonce's point.
    assert len({key.sign(b"the same message")[:32] for _ in range(2_000)}) == 2_000


def test_a_token_is_read_up_to_its_limit(key: PrivateKey, keys: dict[KeyId, PublicKey]) -> None:
    def of_length(length: int) -> str:
        for size in range(length):
            token = jws.sign(bytes(size), key, typ=TYP)
            if len(token) >= length:
                return token
        raise AssertionError

    token = of_length(600)
    for limit in (len(token), len(token) + 1):
        assert jws.verify(token, keys, typ=TYP, limit=limit)
    with pytest.raises(Denied, match="too long"):
        jws.verify(token, keys, typ=TYP, limit=len(token) - 1)
    assert cause_of("a" * (jws.MAX_TOKEN + 1), keys) is Cause.MALFORMED
    assert cause_of("." * jws.MAX_TOKEN, keys) is Cause.MALFORMED


def test_a_header_is_read_up_to_its_limit(key: PrivateKey, keys: dict[KeyId, PublicKey]) -> None:
    def with_note(length: int) -> str:
        return written({"alg": "ES256", "typ": TYP, "kid": "current", "note": "x" * length}, sign=key.sign)

    fits = next(n for n in range(2000) if len(with_note(n).split(".")[0]) >= header.MAX_HEADER)
    assert len(with_note(fits).split(".")[0]) == header.MAX_HEADER
    assert jws.verify(with_note(fits), keys, typ=TYP) == PAYLOAD
    assert cause_of(with_note(fits + 1), keys) is Cause.MALFORMED


def test_a_flood_of_headers_takes_no_more_memory_than_the_limit(keys: dict[KeyId, PublicKey]) -> None:
    header.read_header.cache_clear()
    for number in range(2_000):
        token = written({"alg": "ES256", "typ": TYP, "kid": str(number)}, sign=lambda _: bytes(64))
        assert cause_of(token, keys) is Cause.UNKNOWN_KEY
    assert header.read_header.cache_info().currsize <= 256
    header.read_header.cache_clear()
    for number in range(300):
        cause_of(written({"alg": number}, sign=lambda _: bytes(64)), keys)
    assert header.read_header.cache_info().currsize == 0


@given(st.text(max_size=60))
@example("a.b.c")
@example("eyJhbGciOiJub25lIn0.e30.")
def test_any_text_is_refused_with_our_error(text: str) -> None:
    with pytest.raises(Denied):
        jws.verify(text, {}, typ=TYP)


def test_a_shared_secret_checks_what_it_signed_and_nothing_else(
    key: PrivateKey, keys: dict[KeyId, PublicKey]
) -> None:
    secret = SharedSecret.generate()
    token = jws.sign(PAYLOAD, secret, typ=TYP)
    assert jws.verify_shared(token, secret, typ=TYP) == (PAYLOAD, secret.key_id)
    assert cause_of(token, keys) is Cause.UNSUPPORTED_ALGORITHM

    def shared_cause(text: str, own: SharedSecret) -> Cause:
        with pytest.raises(Denied) as caught:
            jws.verify_shared(text, own, typ=TYP)
        return caught.value.cause

    assert shared_cause(token, SharedSecret.generate()) is Cause.UNKNOWN_KEY
    assert shared_cause(jws.sign(PAYLOAD, key, typ=TYP), secret) is Cause.UNSUPPORTED_ALGORITHM
    head, body, tail = token.split(".")
    for wrong in ("", base64url.encode(base64url.decode(tail.encode())[:16]), "A" * 43):
        assert shared_cause(f"{head}.{body}.{wrong}", secret) is Cause.BAD_SIGNATURE
