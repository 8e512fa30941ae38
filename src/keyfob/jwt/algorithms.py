"""The signature algorithms, each bound to one kind of key (RFC 7518, section 3; RFC 8037, section 3.1).

`none` does not exist here, and HMAC stands apart in `shared_secret`: no public key can ever reach it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import assert_never

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key

from keyfob.jwt.ecdsa_signature import P256, P384, Curve

PublicMaterial = ec.EllipticCurvePublicKey | Ed25519PublicKey | RSAPublicKey
PrivateMaterial = ec.EllipticCurvePrivateKey | Ed25519PrivateKey | RSAPrivateKey
Verify = Callable[[bytes, bytes], None]
"""(signature, signing input): raises `cryptography.exceptions.InvalidSignature`."""
Sign = Callable[[bytes], bytes]

RSA_GENERATED_BITS = 3072  # 128 bits of security; 2048 is accepted on import
_RSA_EXPONENT = 65537
_SHA256_SALT = 32  # bytes: the PSS salt is as long as the hash (RFC 7518, section 3.5)


class Algorithm(StrEnum):
    """What a key signs with. The values are the names that are written in `alg`."""

    ES256 = "ES256"
    ES384 = "ES384"
    EDDSA = "EdDSA"
    PS256 = "PS256"
    RS256 = "RS256"


ALGORITHMS = {algorithm.value: algorithm for algorithm in Algorithm} | {"Ed25519": Algorithm.EDDSA}
"""Every name that is read. `Ed25519` (RFC 9864) and `EdDSA` are the same key here, since no other Edwards curve is known."""


def generate(algorithm: Algorithm) -> PrivateMaterial:
    """Make a key for *algorithm*; RSA keys have 3072 bits."""
    match algorithm:
        case Algorithm.ES256:
            return ec.generate_private_key(ec.SECP256R1())
        case Algorithm.ES384:
            return ec.generate_private_key(ec.SECP384R1())
        case Algorithm.EDDSA:
            return Ed25519PrivateKey.generate()
        case Algorithm.PS256 | Algorithm.RS256:
            return generate_private_key(_RSA_EXPONENT, RSA_GENERATED_BITS)
        case _:
            assert_never(algorithm)


def verifier_of(algorithm: Algorithm, key: PublicMaterial) -> Verify:
    """Return what checks signatures of *algorithm* by *key*, with everything prepared.

    A signature of another length than the algorithm's is refused before any arithmetic.

    Raises:
        ValueError: *key* is not of the kind, or the curve, that *algorithm* needs.
    """
    match algorithm, key:
        case Algorithm.ES256, ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            return _ecdsa_verifier(key, P256, ec.ECDSA(hashes.SHA256()))
        case Algorithm.ES384, ec.EllipticCurvePublicKey(curve=ec.SECP384R1()):
            return _ecdsa_verifier(key, P384, ec.ECDSA(hashes.SHA384()))
        case Algorithm.EDDSA, Ed25519PublicKey():
            return key.verify
        case Algorithm.PS256, RSAPublicKey():
            return _rsa_verifier(key, _pss())
        case Algorithm.RS256, RSAPublicKey():
            return _rsa_verifier(key, padding.PKCS1v15())
        case _:
            raise ValueError(f"{algorithm.value} needs another kind of key")


def signer_of(algorithm: Algorithm, key: PrivateMaterial) -> Sign:
    """Return what signs with *algorithm* by *key*.

    ECDSA nonces are OpenSSL's, which hashes the private key and the message into its random numbers.

    Raises:
        ValueError: *key* is not of the kind, or the curve, that *algorithm* needs.
    """
    match algorithm, key:
        case Algorithm.ES256, ec.EllipticCurvePrivateKey(curve=ec.SECP256R1()):
            return _ecdsa_signer(key, P256, ec.ECDSA(hashes.SHA256()))
        case Algorithm.ES384, ec.EllipticCurvePrivateKey(curve=ec.SECP384R1()):
            return _ecdsa_signer(key, P384, ec.ECDSA(hashes.SHA384()))
        case Algorithm.EDDSA, Ed25519PrivateKey():
            return key.sign
        case Algorithm.PS256, RSAPrivateKey():
            return _rsa_signer(key, _pss())
        case Algorithm.RS256, RSAPrivateKey():
            return _rsa_signer(key, padding.PKCS1v15())
        case _:
            raise ValueError(f"{algorithm.value} needs another kind of key")


def _pss() -> padding.PSS:
    return padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=_SHA256_SALT)


def _ecdsa_verifier(key: ec.EllipticCurvePublicKey, curve: Curve, scheme: ec.ECDSA) -> Verify:
    check, to_der = key.verify, curve.to_der

    def verify(signature: bytes, signing_input: bytes) -> None:
        check(to_der(signature), signing_input, scheme)

    return verify


def _ecdsa_signer(key: ec.EllipticCurvePrivateKey, curve: Curve, scheme: ec.ECDSA) -> Sign:
    make, from_der = key.sign, curve.from_der

    def sign(signing_input: bytes) -> bytes:
        return from_der(make(signing_input, scheme))

    return sign


def _rsa_verifier(key: RSAPublicKey, scheme: padding.AsymmetricPadding) -> Verify:
    check, length, digest = key.verify, (key.key_size + 7) // 8, hashes.SHA256()

    def verify(signature: bytes, signing_input: bytes) -> None:
        if len(signature) != length:
            raise InvalidSignature
        check(signature, signing_input, scheme, digest)

    return verify


def _rsa_signer(key: RSAPrivateKey, scheme: padding.AsymmetricPadding) -> Sign:
    make, digest = key.sign, hashes.SHA256()

    def sign(signing_input: bytes) -> bytes:
        return make(signing_input, scheme, digest)

    return sign
