"""What others published: Wycheproof's JWS cases, and the examples of RFC 7515, 7520 and 8037.

They are read from the folder `shared/vectors` beside the repository; where it is absent those tests are reported as skipped.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from keyfob.base import base64url
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import KeyId
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey, PublicKey, parse_jwk_set
from keyfob.jwt.shared_secret import SharedSecret, mac

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors"
WYCHEPROOF = VECTORS / "wycheproof" / "json_web_signature_test.json"
COOKBOOK = VECTORS / "jose-cookbook"
vectors = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no published vectors at {VECTORS}")

OURS = {"ES256", "ES384", "EdDSA", "PS256", "RS256", "HS256"}
# Wycheproof calls these two valid, with a "?" inside a segment: no base64url, so no compact serialization (RFC 7515, section 2).
NOT_BASE64URL = {372, 373}
# In these groups, the token is of an algorithm that is not the one of the key: valid there, and never here.
NOT_OF_THE_KEY = {346, 350}


def cases() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    groups = json.loads(WYCHEPROOF.read_text())["testGroups"]
    return [(group.get("public") or group["private"], case) for group in groups for case in group["tests"]]


def algorithm_of(token: str) -> str:
    try:
        return str(json.loads(base64url.decode(token.split(".")[0].encode()))["alg"])
    except (ValueError, KeyError):
        return "?"


def outcome(jwk: dict[str, Any], token: str) -> bytes | str:
    """The payload, or why there is none."""
    try:
        if jwk["kty"] == "oct":
            secret = SharedSecret(base64url.decode(jwk["k"].encode()), key_id=KeyId(jwk["kid"]))
            return jws.verify_shared(token, secret, typ=None)[0]
        key = PublicKey.from_jwk(jwk)
        return jws.verify(token, {key.key_id: key}, typ=None)
    except Denied as denied:
        return denied.cause.value
    except ValueError as refused:
        return f"key: {refused}"


@vectors
def test_wycheproof_what_is_invalid_is_refused() -> None:
    invalid = [(jwk, case) for jwk, case in cases() if case["result"] != "valid"]
    assert len(invalid) == 355
    for jwk, case in invalid:
        assert isinstance(outcome(jwk, case["jws"]), str), case["tcId"]


@vectors
def test_wycheproof_what_is_valid_in_our_algorithms_is_read() -> None:
    read = 0
    for jwk, case in cases():
        token = case["jws"]
        if case["result"] != "valid" or algorithm_of(token) not in OURS or case["tcId"] in NOT_BASE64URL:
            continue
        found = outcome(jwk, token)
        if isinstance(found, str) and found.startswith("key: a shared secret that anybody could guess"):
            # All zero, or printed in RFC 7520: refused as keys; the tag itself is checked here.
            head, body, tail = token.split(".")
            secret = base64url.decode(jwk["k"].encode())
            assert mac(secret, f"{head}.{body}".encode()) == base64url.decode(tail.encode())
            continue
        assert isinstance(found, bytes), (case["tcId"], found)
        assert found == base64url.decode(token.split(".")[1].encode())
        read += 1
    assert read == 17


@vectors
def test_wycheproof_what_is_valid_outside_our_algorithms_is_refused_and_named() -> None:
    refused = Counter[str]()
    for jwk, case in cases():
        if case["result"] != "valid" or algorithm_of(case["jws"]) in OURS or case["tcId"] in NOT_BASE64URL:
            continue
        found = outcome(jwk, case["jws"])
        assert isinstance(found, str), case["tcId"]
        assert (
            found in {"unsupported_algorithm", "key: a key without an algorithm of ours"}
            or "kind or curve" in found
        )
        refused[algorithm_of(case["jws"])] += 1
    assert refused == {"RS384": 4, "RS512": 4, "PS384": 6, "PS512": 4, "ES512": 2}


@vectors
def test_wycheproof_what_is_no_base64url_is_malformed() -> None:
    for jwk, case in cases():
        if case["tcId"] in NOT_BASE64URL:
            secret = SharedSecret.generate()
            assert jwk["kty"] == "oct"
            with pytest.raises(Denied, match="malformed"):
                jws.verify_shared(case["jws"], secret, typ=None)


def example(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((COOKBOOK / name).read_text())
    return found


@vectors
def test_rfc_7520_an_rsa_signature_is_read_and_made_again() -> None:
    found = example("jws_4_1.rsa_v15_signature.json")
    public = {name: found["input"]["key"][name] for name in ("kty", "kid", "use", "n", "e")}
    key = PublicKey.from_jwk({**public, "alg": "RS256"})
    payload = jws.verify(found["output"]["compact"], {key.key_id: key}, typ=None)
    assert payload == found["input"]["payload"].encode()
    assert key.key_id == "bilbo.baggins@hobbiton.example"


@vectors
@pytest.mark.parametrize(
    ("name", "alg"),
    [("jws_4_2.rsa-pss_signature.json", "PS384"), ("jws_4_3.ecdsa_signature.json", "ES512")],
)
def test_rfc_7520_another_algorithm_is_refused(name: str, alg: str) -> None:
    found = example(name)
    assert algorithm_of(found["output"]["compact"]) == alg
    key = PrivateKey.generate(Algorithm.ES256, KeyId("bilbo.baggins@hobbiton.example")).public
    with pytest.raises(Denied) as caught:
        jws.verify(found["output"]["compact"], {key.key_id: key}, typ=None)
    assert caught.value.cause is Cause.UNSUPPORTED_ALGORITHM
    with pytest.raises(ValueError):
        PublicKey.from_jwk(
            {name: value for name, value in found["input"]["key"].items() if len(name) > 2 or name in "xyne"}
        )


@vectors
def test_rfc_7520_and_7797_other_serializations_are_refused() -> None:
    seen = 0
    for path in sorted(COOKBOOK.glob("*.json")):
        output = json.loads(path.read_text()).get("output", {})
        for name, form in output.items():
            if (
                name == "compact"
                and isinstance(form, str)
                and path.name.startswith(("jws_4_1", "jws_4_4", "curve25519_jws"))
            ):
                continue
            text = form if isinstance(form, str) else json.dumps(form)
            with pytest.raises(Denied):
                jws.verify_shared(text, SharedSecret.generate(), typ=None)
            with pytest.raises(Denied):
                jws.verify(text, {}, typ=None)
            seen += 1
    assert seen > 15


@vectors
def test_rfc_7520_a_private_or_symmetric_key_is_refused_from_outside() -> None:
    for name in (
        "jwk_3_2.ec_private_key",
        "jwk_3_4.rsa_private_key",
        "jwk_3_5.symmetric_key_mac_computation",
    ):
        with pytest.raises(ValueError, match="private or symmetric"):
            parse_jwk_set({"keys": [example(f"{name}.json")]})
    # P-521, and an RSA key that names no algorithm: not for us, and no reason to refuse a set.
    others = [example("jwk_3_1.ec_public_key.json"), example("jwk_3_3.rsa_public_key.json")]
    assert parse_jwk_set({"keys": others}) == ()


@vectors
def test_rfc_8037_an_edwards_signature_is_checked_and_made_again() -> None:
    found = example("curve25519_jws.json")
    private = base64url.decode(found["input"]["key"]["d"].encode())
    # PKCS#8 of an Ed25519 key is a fixed prefix and the 32 octets (RFC 8410, section 7).
    pkcs8 = bytes.fromhex("302e020100300506032b657004220420") + private
    key = PrivateKey.from_bytes(pkcs8, Algorithm.EDDSA)
    public = {name: value for name, value in found["input"]["key"].items() if name != "d"}
    assert PublicKey.from_jwk(public) == key.public
    signing_input = found["signing"]["sig-input"].encode()
    assert base64url.encode(key.sign(signing_input)) == found["signing"]["sig"]
    key.public.verify(base64url.decode(found["signing"]["sig"].encode()), signing_input)
    # A token without a key id is refused, however good its signature.
    with pytest.raises(Denied) as caught:
        jws.verify(found["output"]["compact"], {key.key_id: key.public}, typ=None)
    assert caught.value.cause is Cause.UNKNOWN_KEY


# RFC 7515, appendices A.2.1 and A.3.1: the same payload, no key id.
PAYLOAD = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
RFC_7515 = {
    "A.2": (
        {
            "kty": "RSA",
            "alg": "RS256",
            "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMs"
            "D1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdV"
            "MTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
            "e": "AQAB",
        },
        "eyJhbGciOiJSUzI1NiJ9",
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQ"
        "jbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqt"
        "FZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    ),
    "A.3": (
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        },
        "eyJhbGciOiJFUzI1NiJ9",
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    ),
}


@pytest.mark.parametrize("appendix", RFC_7515)
def test_rfc_7515_a_signature_holds_and_a_token_without_a_key_id_is_refused(appendix: str) -> None:
    jwk, head, tail = RFC_7515[appendix]
    key = PublicKey.from_jwk(dict(jwk))
    key.verify(base64url.decode(tail.encode()), f"{head}.{PAYLOAD}".encode())
    with pytest.raises(Denied) as caught:
        jws.verify(f"{head}.{PAYLOAD}.{tail}", {key.key_id: key}, typ=None)
    assert caught.value.cause is Cause.UNKNOWN_KEY


def test_rfc_7515_the_unsecured_example_is_refused() -> None:
    with pytest.raises(Denied) as caught:
        jws.verify(f"eyJhbGciOiJub25lIn0.{PAYLOAD}.", {}, typ=None)
    assert caught.value.cause is Cause.UNSUPPORTED_ALGORITHM


def test_rfc_7515_the_secret_of_the_first_example_is_refused_though_its_tag_holds() -> None:
    secret = base64url.decode(
        b"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
    )
    signing_input = f"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{PAYLOAD}".encode()
    assert base64url.encode(mac(secret, signing_input)) == "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    with pytest.raises(ValueError, match="guess"):
        SharedSecret(secret)
