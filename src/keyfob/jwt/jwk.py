"""Keys: public ones as JSON Web Keys, private ones as PKCS#8 (RFC 7517; RFC 7518, section 6; RFC 8037, section 2)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import NoReturn, Self

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from keyfob.base import base64url
from keyfob.base.identifiers import KeyId, is_identifier
from keyfob.jwt import strict_json
from keyfob.jwt.algorithms import (
    ALGORITHMS,
    Algorithm,
    PrivateMaterial,
    PublicMaterial,
    generate,
    signer_of,
    verifier_of,
)
from keyfob.jwt.key_strength import ed25519_weakness, rsa_weakness

MAX_SET = 128 * 1024  # bytes: 64 RSA keys of 8192 bits
MAX_KEYS = 64  # keys in one set
_ED25519_POINT = 32  # bytes
_PRIVATE_MEMBERS = frozenset(["d", "p", "q", "dp", "dq", "qi", "oth", "k"])
_CURVES: dict[str, tuple[Callable[[], ec.EllipticCurve], int, Algorithm]] = {
    "P-256": (ec.SECP256R1, 32, Algorithm.ES256),
    "P-384": (ec.SECP384R1, 48, Algorithm.ES384),
}
_CURVE_NAMES = {"secp256r1": "P-256", "secp384r1": "P-384"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A key that checks signatures of one algorithm. Made by `of` or `from_jwk`, which refuse weak ones; two with the same JWK are equal.

    `verify(signature, signing_input)` raises `cryptography.exceptions.InvalidSignature`; everything for it was prepared at import.
    """

    key_id: KeyId
    algorithm: Algorithm
    material: PublicMaterial = field(repr=False, compare=False)
    members: tuple[tuple[str, str], ...] = field(repr=False)
    verify: Callable[[bytes, bytes], None] = field(repr=False, compare=False)

    @classmethod
    def of(cls, material: PublicMaterial, algorithm: Algorithm, *, key_id: KeyId | None = None) -> Self:
        """Import *material* for *algorithm* alone. The id is the thumbprint (RFC 7638) unless given.

        Raises:
            ValueError: the key is weak, not of the kind that *algorithm* needs, or *key_id* is no identifier.
        """
        if weakness := _weakness(material):
            raise ValueError(weakness)
        if key_id is not None and not is_identifier(key_id):
            raise ValueError("a key id has 1 to 255 characters, none of them a control character")
        verify = verifier_of(algorithm, material)
        members = _members(material)
        return cls(
            key_id=_thumbprint(members) if key_id is None else key_id,
            algorithm=algorithm,
            material=material,
            members=members,
            verify=verify,
        )

    @classmethod
    def from_jwk(cls, jwk: dict[str, object]) -> Self:
        """Import a public JSON Web Key.

        `alg` may be absent where the curve says it all; an RSA key must name RS256 or PS256. `use` and `key_ops`, where present, must allow
        checking signatures (RFC 7517, sections 4.2 and 4.3). Members that we do not know are ignored.

        Raises:
            ValueError: a key that is malformed, weak, private, symmetric, or not for a signature of ours.
        """
        _require_public(jwk)
        if jwk.get("use", "sig") != "sig":
            raise ValueError("a key whose 'use' is not 'sig'")
        if "key_ops" in jwk and jwk["key_ops"] != ["verify"]:
            raise ValueError("a key whose 'key_ops' are not 'verify' alone")
        kid = jwk.get("kid")
        if kid is not None and not isinstance(kid, str):
            raise ValueError("a key whose 'kid' is no string")
        material, default = _public_material(jwk)
        name = jwk.get("alg", default)
        if not isinstance(name, str) or name not in ALGORITHMS:
            raise ValueError("a key without an algorithm of ours")
        return cls.of(material, ALGORITHMS[name], key_id=None if kid is None else KeyId(kid))

    def to_jwk(self) -> dict[str, str]:
        """Return the JSON Web Key, of public members only."""
        return {**dict(self.members), "use": "sig", "alg": self.algorithm.value, "kid": self.key_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateKey:
    """A key that signs with one algorithm. Its repr shows the public side alone, and it cannot be pickled."""

    public: PublicKey
    sign: Callable[[bytes], bytes] = field(repr=False, compare=False)
    _material: PrivateMaterial = field(repr=False, compare=False)

    @classmethod
    def of(cls, material: PrivateMaterial, algorithm: Algorithm, *, key_id: KeyId | None = None) -> Self:
        """Import *material* for *algorithm* alone, with the checks of its public side.

        Raises:
            ValueError: as `PublicKey.of`.
        """
        public = PublicKey.of(material.public_key(), algorithm, key_id=key_id)
        return cls(public=public, sign=signer_of(algorithm, material), _material=material)

    @classmethod
    def generate(cls, algorithm: Algorithm, key_id: KeyId | None = None) -> Self:
        """Make a new key; RSA keys have 3072 bits."""
        return cls.of(generate(algorithm), algorithm, key_id=key_id)

    @classmethod
    def from_bytes(cls, raw: bytes, algorithm: Algorithm, *, key_id: KeyId | None = None) -> Self:
        """Import PKCS#8 DER; the algorithm is not in there.

        Raises:
            ValueError: no such key, or as `PublicKey.of`.
        """
        try:
            material = load_der_private_key(raw, password=None)
        except (TypeError, UnsupportedAlgorithm):
            raise ValueError("no PKCS#8 key that is known here") from None
        if not isinstance(material, ec.EllipticCurvePrivateKey | Ed25519PrivateKey | RSAPrivateKey):
            raise ValueError("a private key of a kind that signs nothing here")  # noqa: TRY004 - a wrong value, not a wrong type
        return cls.of(material, algorithm, key_id=key_id)

    def to_bytes(self) -> bytes:
        """Return PKCS#8 DER, unencrypted: only for sealing."""
        return self._material.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    @property
    def key_id(self) -> KeyId:
        """The id of the key, on both sides."""
        return self.public.key_id

    @property
    def algorithm(self) -> Algorithm:
        """The only algorithm that it signs with."""
        return self.public.algorithm

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key does not leave its process but sealed")


def jwk_set(keys: Iterable[PublicKey]) -> dict[str, list[dict[str, str]]]:
    """Return the JWK Set of *keys* (RFC 7517, section 5)."""
    return {"keys": [key.to_jwk() for key in keys]}


def parse_jwk_set(raw: bytes | Mapping[str, object]) -> tuple[PublicKey, ...]:
    """Read a JWK Set of public keys, as strictly as a token.

    A key that is not for us, malformed or weak is left out: the others stay good (RFC 7517, section 5). What shows that nothing in the set
    can be trusted refuses it as a whole. At exactly 64 keys, or 128 KiB, a set is read.

    Raises:
        ValueError: no such set, too large, a private or symmetric key in it, one key id twice, or two RSA keys that share a prime.
    """
    if not isinstance(raw, bytes):
        raw = _encoded(raw)
    if len(raw) > MAX_SET:
        raise ValueError(f"a key set of more than {MAX_SET} bytes")
    entries = strict_json.read_object(raw).get("keys")
    if not isinstance(entries, list):
        raise ValueError("a key set without a list of 'keys'")  # noqa: TRY004 - text that came in
    if len(entries) > MAX_KEYS:
        raise ValueError(f"a key set of more than {MAX_KEYS} keys")
    keys = tuple(key for entry in entries if (key := _usable(entry)) is not None)
    if len({key.key_id for key in keys}) != len(keys):
        raise ValueError("a key set with one key id twice")
    _require_no_shared_prime(keys)
    return keys


def _encoded(jwks: Mapping[str, object]) -> bytes:
    try:
        return msgspec.json.encode(jwks)
    except TypeError as error:
        raise ValueError(f"no key set: {error}") from None


def _usable(entry: object) -> PublicKey | None:
    if not isinstance(entry, dict):
        return None
    _require_public(entry)
    try:
        return PublicKey.from_jwk(entry)
    except ValueError:
        return None


def _require_public(jwk: dict[str, object]) -> None:
    if jwk.get("kty") == "oct" or not _PRIVATE_MEMBERS.isdisjoint(jwk):
        raise ValueError("a private or symmetric key where public ones were expected")


def _require_no_shared_prime(keys: tuple[PublicKey, ...]) -> None:
    moduli = {key.material.public_numbers().n: None for key in keys if isinstance(key.material, RSAPublicKey)}
    for one, other in combinations(moduli, 2):
        if math.gcd(one, other) != 1:
            raise ValueError("a key set with two RSA keys that share a prime")


def _public_material(jwk: dict[str, object]) -> tuple[PublicMaterial, str | None]:
    """Return the key in *jwk*, and the algorithm that its curve alone decides."""
    match jwk:
        case {"kty": "EC", "crv": str(name)} if name in _CURVES:
            curve, length, algorithm = _CURVES[name]
            x, y = (int.from_bytes(_octets(jwk, member, length), "big") for member in ("x", "y"))
            # The backend refuses a point that is not on the curve; infinity has no coordinates.
            return ec.EllipticCurvePublicNumbers(x, y, curve()).public_key(), algorithm
        case {"kty": "OKP", "crv": "Ed25519"}:
            return Ed25519PublicKey.from_public_bytes(_octets(jwk, "x", _ED25519_POINT)), Algorithm.EDDSA
        case {"kty": "RSA"}:
            modulus, exponent = (int.from_bytes(_number(jwk, member), "big") for member in ("n", "e"))
            return RSAPublicNumbers(exponent, modulus).public_key(), None
        case _:
            raise ValueError("a key of a kind or curve that is not known here")


def _octets(jwk: dict[str, object], member: str, length: int | None = None) -> bytes:
    text = jwk.get(member)
    if not isinstance(text, str) or not text.isascii():
        raise ValueError(f"a key without '{member}'")
    octets = base64url.decode(text.encode("ascii"))
    if length is not None and len(octets) != length:
        raise ValueError(f"'{member}' has {length} bytes on this curve")
    return octets


def _number(jwk: dict[str, object], member: str) -> bytes:
    """Return a Base64urlUInt: no leading zero octet (RFC 7518, section 2)."""
    octets = _octets(jwk, member)
    if not octets or not octets[0]:
        raise ValueError(f"'{member}' is no canonical number")
    return octets


def _weakness(material: PublicMaterial) -> str | None:
    match material:
        case RSAPublicKey():
            numbers = material.public_numbers()
            return rsa_weakness(numbers.n, numbers.e)
        case Ed25519PublicKey():
            return ed25519_weakness(material.public_bytes_raw())
        case _:
            return None


def _members(material: PublicMaterial) -> tuple[tuple[str, str], ...]:
    """Return the required members in the order of their names, as the thumbprint needs them (RFC 7638, section 3.2)."""
    match material:
        case RSAPublicKey():
            numbers = material.public_numbers()
            return (("e", _base64_number(numbers.e)), ("kty", "RSA"), ("n", _base64_number(numbers.n)))
        case Ed25519PublicKey():
            return (
                ("crv", "Ed25519"),
                ("kty", "OKP"),
                ("x", base64url.encode(material.public_bytes_raw())),
            )
        case _:
            point = material.public_numbers()
            length = (material.key_size + 7) // 8
            return (
                ("crv", _CURVE_NAMES[material.curve.name]),
                ("kty", "EC"),
                ("x", base64url.encode(point.x.to_bytes(length, "big"))),
                ("y", base64url.encode(point.y.to_bytes(length, "big"))),
            )


def _base64_number(number: int) -> str:
    return base64url.encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _thumbprint(members: tuple[tuple[str, str], ...]) -> KeyId:
    return KeyId(base64url.encode(hashlib.sha256(msgspec.json.encode(dict(members))).digest()))
