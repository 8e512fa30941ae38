"""Keys come in strictly and go out with public members only."""

from __future__ import annotations

import json
import pickle

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from keyfob.base import base64url
from keyfob.base.identifiers import KeyId
from keyfob.jwt.algorithms import Algorithm, signer_of
from keyfob.jwt.jwk import MAX_KEYS, MAX_SET, PrivateKey, PublicKey, jwk_set, parse_jwk_set

algorithms = pytest.mark.parametrize("algorithm", list(Algorithm))
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}


@pytest.fixture(scope="module")
def rsa_2048() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def every_key() -> dict[Algorithm, PrivateKey]:
    return {algorithm: PrivateKey.generate(algorithm) for algorithm in Algorithm}


@algorithms
def test_a_key_signs_and_its_published_half_checks(
    every_key: dict[Algorithm, PrivateKey], algorithm: Algorithm
) -> None:
    key = every_key[algorithm]
    signature = key.sign(b"a message")
    for public in (
        key.public,
        *parse_jwk_set(jwk_set([key.public])),
        PublicKey.from_jwk(dict(key.public.to_jwk())),
    ):
        assert public == key.public
        public.verify(signature, b"a message")
        with pytest.raises(InvalidSignature):
            public.verify(signature, b"another message")
        for wrong in (b"", signature[:-1], signature + b"\0", b"\0" * len(signature), signature[1:]):
            with pytest.raises(InvalidSignature):
                public.verify(wrong, b"a message")


@algorithms
def test_a_private_key_survives_its_bytes(
    every_key: dict[Algorithm, PrivateKey], algorithm: Algorithm
) -> None:
    key = every_key[algorithm]
    again = PrivateKey.from_bytes(key.to_bytes(), algorithm, key_id=KeyId("k"))
    assert again.algorithm is algorithm
    assert again.key_id == "k"
    key.public.verify(again.sign(b"m"), b"m")


def test_rsa_keys_are_made_with_3072_bits(every_key: dict[Algorithm, PrivateKey]) -> None:
    material = every_key[Algorithm.PS256].public.material
    assert isinstance(material, rsa.RSAPublicKey)
    assert material.key_size == 3072


@algorithms
def test_no_private_member_is_published(every_key: dict[Algorithm, PrivateKey], algorithm: Algorithm) -> None:
    published = jwk_set([every_key[algorithm].public])["keys"][0]
    assert not PRIVATE & set(published)
    assert published["use"] == "sig"
    assert published["alg"] == algorithm
    assert set(published) <= {"kty", "use", "alg", "kid", "crv", "x", "y", "n", "e"}


@algorithms
def test_a_private_key_shows_and_gives_away_nothing(
    every_key: dict[Algorithm, PrivateKey], algorithm: Algorithm
) -> None:
    key = every_key[algorithm]
    assert repr(key) == f"PrivateKey(public={key.public!r})"
    assert "members" not in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_the_id_is_the_thumbprint() -> None:
    # RFC 7638, section 3.1, and RFC 8037, appendix A.3.
    key = PublicKey.from_jwk(
        {
            "kty": "RSA",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs"
            "tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbI"
            "SD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
            "e": "AQAB",
            "alg": "RS256",
        }
    )
    assert key.key_id == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    edwards = PublicKey.from_jwk(
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    )
    assert edwards.key_id == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert edwards.algorithm is Algorithm.EDDSA


def test_a_key_serves_its_own_algorithm_alone(rsa_2048: rsa.RSAPrivateKey) -> None:
    p256 = ec.generate_private_key(ec.SECP256R1())
    p384 = ec.generate_private_key(ec.SECP384R1())
    fitting = {
        Algorithm.ES256: p256,
        Algorithm.ES384: p384,
        Algorithm.EDDSA: ed25519.Ed25519PrivateKey.generate(),
        Algorithm.PS256: rsa_2048,
        Algorithm.RS256: rsa_2048,
    }
    others = [*fitting.values(), ec.generate_private_key(ec.SECP521R1())]
    for algorithm, own in fitting.items():
        for other in others:
            if other is own:
                PrivateKey.of(own, algorithm)
                continue
            with pytest.raises(ValueError):
                PrivateKey.of(other, algorithm)
            with pytest.raises(ValueError, match="another kind"):
                signer_of(algorithm, other)
            with pytest.raises(ValueError):
                PublicKey.of(other.public_key(), algorithm)


def test_a_signature_of_ps256_is_none_of_rs256(rsa_2048: rsa.RSAPrivateKey) -> None:
    one, other = PrivateKey.of(rsa_2048, Algorithm.PS256), PrivateKey.of(rsa_2048, Algorithm.RS256)
    for signer, checker in ((one, other), (other, one)):
        with pytest.raises(InvalidSignature):
            checker.public.verify(signer.sign(b"m"), b"m")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no key",
        x25519.X25519PrivateKey.generate().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        ed448.Ed448PrivateKey.generate().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
    ],
)
def test_what_is_no_private_key_of_ours_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):
        PrivateKey.from_bytes(raw, Algorithm.EDDSA)


def test_an_encrypted_private_key_is_refused() -> None:
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

    key = ec.generate_private_key(ec.SECP256R1())
    raw = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    with pytest.raises(ValueError, match="PKCS#8"):
        PrivateKey.from_bytes(raw, Algorithm.ES256)


@pytest.mark.parametrize("key_id", ["", "a\n", "x" * 256, "\ud800"])
def test_a_key_id_that_no_log_may_show_is_refused(key_id: str) -> None:
    with pytest.raises(ValueError, match="key id"):
        PrivateKey.generate(Algorithm.EDDSA, KeyId(key_id))


@pytest.fixture(scope="module")
def jwk(every_key: dict[Algorithm, PrivateKey]) -> dict[str, object]:
    return dict(every_key[Algorithm.ES256].public.to_jwk())


@pytest.mark.parametrize(
    "change",
    [
        {"kty": None},
        {"kty": "ec"},
        {"kty": "AKP"},
        {"kty": ["EC"]},
        {"crv": "P-384"},
        {"crv": "secp256k1"},
        {"crv": 5},
        {"alg": "ES384"},
        {"alg": "ECDH-ES"},
        {"alg": "es256"},
        {"alg": "HS256"},
        {"alg": "none"},
        {"alg": None},
        {"alg": ["ES256"]},
        {"use": "enc"},
        {"use": None},
        {"key_ops": ["encrypt"]},
        {"key_ops": ["sign", "verify"]},
        {"key_ops": []},
        {"key_ops": "verify"},
        {"kid": 5},
        {"kid": ""},
        {"kid": "a\0"},
        {"x": None},
        {"x": 5},
        {"x": "é"},
        {"x": "AA"},
        {"x": "A" * 42 + "B"},
        {"y": "A" * 43},  # a point that is not on the curve
        {"x": "A" * 43, "y": "A" * 43},
        {"d": "AAAA"},
        {"k": "AAAA"},
    ],
)
def test_a_jwk_that_is_not_quite_one_is_refused(jwk: dict[str, object], change: dict[str, object]) -> None:
    PublicKey.from_jwk(jwk)
    with pytest.raises(ValueError):
        PublicKey.from_jwk({**jwk, **change})


def test_a_coordinate_has_exactly_the_length_of_its_curve(jwk: dict[str, object]) -> None:
    x = base64url.decode(str(jwk["x"]).encode())
    with pytest.raises(ValueError, match="32 bytes"):
        PublicKey.from_jwk({**jwk, "x": base64url.encode(b"\0" + x)})


@pytest.mark.parametrize("algorithm", [Algorithm.PS256, Algorithm.RS256])
def test_an_rsa_signature_without_its_leading_zero_is_refused(
    rsa_2048: rsa.RSAPrivateKey, algorithm: Algorithm
) -> None:
    key = PrivateKey.of(rsa_2048, algorithm)
    message, signature = next(
        (message, signature)
        for message in (str(number).encode() for number in range(10_000))
        if not (signature := key.sign(message))[0]
    )
    key.public.verify(signature, message)
    for wrong in (signature[1:], b"\0" + signature):
        with pytest.raises(InvalidSignature):
            key.public.verify(wrong, message)


@pytest.mark.parametrize(
    "change", [{"n": "AAAA"}, {"e": ""}, {"e": "AAEAAQ"}, {"e": "Aw"}, {"alg": "ES256"}, {"alg": None}]
)
def test_an_rsa_jwk_that_is_not_quite_one_is_refused(
    rsa_2048: rsa.RSAPrivateKey, change: dict[str, object]
) -> None:
    good: dict[str, object] = dict(PrivateKey.of(rsa_2048, Algorithm.RS256).public.to_jwk())
    PublicKey.from_jwk(good)
    with pytest.raises(ValueError):
        PublicKey.from_jwk({**good, **change})
    del good["alg"]
    with pytest.raises(ValueError, match="algorithm"):
        PublicKey.from_jwk(good)


def test_what_is_fitting_but_optional_may_be_there_or_not(jwk: dict[str, object]) -> None:
    bare = {name: jwk[name] for name in ("kty", "crv", "x", "y")}
    assert PublicKey.from_jwk(bare).algorithm is Algorithm.ES256
    assert PublicKey.from_jwk({**bare, "key_ops": ["verify"], "x5t": "ignored", "unknown": [1]})
    edwards = PrivateKey.generate(Algorithm.EDDSA).public
    assert PublicKey.from_jwk({**edwards.to_jwk(), "alg": "Ed25519"}) == edwards


def test_a_weak_edwards_key_is_refused() -> None:
    for octets in (bytes(32), b"\1" + bytes(31), b"\xff" * 32):
        with pytest.raises(ValueError):
            PublicKey.from_jwk({"kty": "OKP", "crv": "Ed25519", "x": base64url.encode(octets)})
    with pytest.raises(ValueError):
        PublicKey.from_jwk({"kty": "OKP", "crv": "X25519", "x": base64url.encode(b"\x09" * 32)})


def test_the_unusable_are_left_out_and_the_good_stay_good(jwk: dict[str, object]) -> None:
    unusable: list[object] = [
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"},
        {**jwk, "kid": "encrypts", "use": "enc"},
        {**jwk, "kid": "off the curve", "y": "A" * 43},
        "no object",
        5,
        None,
    ]
    assert parse_jwk_set({"keys": [*unusable, jwk]}) == (PublicKey.from_jwk(jwk),)
    assert parse_jwk_set(b'{"keys":[]}') == ()


@pytest.mark.parametrize("member", sorted(PRIVATE))
def test_a_set_with_a_private_member_is_refused_as_a_whole(jwk: dict[str, object], member: str) -> None:
    with pytest.raises(ValueError, match="private or symmetric"):
        parse_jwk_set({"keys": [jwk, {**jwk, "kid": "other", member: "AAAA"}]})


def test_a_symmetric_key_from_outside_is_refused(jwk: dict[str, object]) -> None:
    for secret in ({"kty": "oct", "k": "A" * 43}, {"kty": "oct", "kid": "x", "alg": "HS256"}):
        with pytest.raises(ValueError, match="private or symmetric"):
            parse_jwk_set({"keys": [jwk, secret]})


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys":{}}',
        b'{"keys":null}',
        b'{"keys":[],"keys":[]}',
        b'{"keys":[{"kty":"EC","kty":"EC"}]}',
    ],
)
def test_what_is_no_set_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):
        parse_jwk_set(raw)


def test_a_set_that_cannot_be_written_as_json_is_refused() -> None:
    with pytest.raises(ValueError, match="key set"):
        parse_jwk_set({"keys": [object()]})


def test_one_key_id_twice_is_refused(jwk: dict[str, object], every_key: dict[Algorithm, PrivateKey]) -> None:
    other = {**every_key[Algorithm.EDDSA].public.to_jwk(), "kid": jwk["kid"]}
    with pytest.raises(ValueError, match="twice"):
        parse_jwk_set({"keys": [jwk, other]})


def test_a_set_is_bounded_in_count_and_size(jwk: dict[str, object]) -> None:
    def keys(count: int) -> list[dict[str, object]]:
        return [{**jwk, "kid": str(number)} for number in range(count)]

    assert len(parse_jwk_set({"keys": keys(MAX_KEYS)})) == MAX_KEYS
    with pytest.raises(ValueError, match="64 keys"):
        parse_jwk_set({"keys": keys(MAX_KEYS + 1)})
    raw = json.dumps({"keys": [jwk]}).encode()
    assert parse_jwk_set(raw.ljust(MAX_SET))
    with pytest.raises(ValueError, match="bytes"):
        parse_jwk_set(raw.ljust(MAX_SET + 1))


def test_rsa_keys_that_share_a_prime_are_refused() -> None:
    one = rsa.generate_private_key(65537, 2048)
    numbers, other = one.private_numbers(), rsa.generate_private_key(65537, 2048).private_numbers()
    shared = rsa.RSAPublicNumbers(65537, numbers.p * other.q)
    keys = [PublicKey.of(one.public_key(), Algorithm.RS256)]
    jwks: dict[str, object] = {
        "keys": [
            keys[0].to_jwk(),
            {**keys[0].to_jwk(), "kid": "other", "n": base64url.encode(shared.n.to_bytes(256, "big"))},
        ]
    }
    strangers = {
        "keys": [
            keys[0].to_jwk(),
            PublicKey.of(rsa.generate_private_key(65537, 2048).public_key(), Algorithm.PS256).to_jwk(),
        ]
    }
    assert len(parse_jwk_set(strangers)) == 2
    with pytest.raises(ValueError, match="share a prime"):
        parse_jwk_set(jwks)
    both = {"keys": [keys[0].to_jwk(), {**keys[0].to_jwk(), "kid": "the same again", "alg": "PS256"}]}
    assert len(parse_jwk_set(msgspec.json.encode(both))) == 2
