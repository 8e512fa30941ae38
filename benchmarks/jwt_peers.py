"""The other libraries for JWTs that Python has, each used as its documentation says, with the key already read.

PyJWT and joserfc are in every development environment; the others come with the dependency group `bench`. One that is not installed is named in
the report, and so is an algorithm that a library does not have.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from keyfob.jwt.algorithms import Algorithm, PrivateMaterial

ISSUER = "https://auth.example"
AUDIENCE = "orders"

Check = Callable[[str], object]
Sign = Callable[[], str]
_EVERY = frozenset(Algorithm)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerKey:
    """A key, as every library can read it."""

    algorithm: Algorithm
    material: PrivateMaterial

    @property
    def public_pem(self) -> bytes:
        """The public part in PEM."""
        return self.material.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def private_pem(self) -> bytes:
        """All of it in PEM."""
        return self.material.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A library. `checking` gives its check of signature, `exp`, `iss` and `aud`; `signing` what signs claims with a header."""

    name: str
    module: str
    algorithms: frozenset[Algorithm]
    checking: Callable[[PeerKey], Check]
    signing: Callable[[PeerKey, Mapping[str, object], Mapping[str, str]], Sign]

    @property
    def is_installed(self) -> bool:
        """Whether it can be measured here."""
        return find_spec(self.module) is not None

    def missing_for(self, algorithm: Algorithm) -> str | None:
        """Say why it cannot be measured with *algorithm*; None if it can."""
        if algorithm not in self.algorithms:
            return f"{self.name} has no {algorithm}"
        return None if self.is_installed else f"{self.name} is not installed"


def able(algorithm: Algorithm) -> list[Peer]:
    """Return the libraries that are installed and have *algorithm*."""
    return [peer for peer in PEERS if peer.missing_for(algorithm) is None]


def missing(algorithm: Algorithm) -> list[str]:
    """Return, for each library that is not measured with *algorithm*, the reason."""
    return [reason for peer in PEERS if (reason := peer.missing_for(algorithm)) is not None]


def pyjwt_check(key: PeerKey) -> Check:
    """Return PyJWT's check."""
    pyjwt, public, algorithms = _load("jwt"), key.material.public_key(), [key.algorithm.value]
    return lambda token: pyjwt.decode(token, public, algorithms=algorithms, audience=AUDIENCE, issuer=ISSUER)


def _pyjwt_sign(key: PeerKey, claims: Mapping[str, object], header: Mapping[str, str]) -> Sign:
    pyjwt, own = _load("jwt"), dict(header)
    return lambda: pyjwt.encode(claims, key.material, key.algorithm.value, headers=own)


def _joserfc_check(key: PeerKey) -> Check:
    joserfc_jwt, own, algorithms = (
        _load("joserfc.jwt"),
        _joserfc_key(key, key.public_pem),
        [key.algorithm.value],
    )
    registry = joserfc_jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
        exp={"essential": True},
    )

    def check(token: str) -> object:
        decoded = joserfc_jwt.decode(token, own, algorithms=algorithms)
        registry.validate(decoded.claims)
        return decoded

    return check


def _joserfc_sign(key: PeerKey, claims: Mapping[str, object], header: Mapping[str, str]) -> Sign:
    joserfc_jwt, own, algorithms = (
        _load("joserfc.jwt"),
        _joserfc_key(key, key.private_pem),
        [key.algorithm.value],
    )
    full = {"alg": key.algorithm.value, **header}
    return lambda: joserfc_jwt.encode(full, dict(claims), own, algorithms=algorithms)


def _joserfc_key(key: PeerKey, pem: bytes) -> object:
    # It says of every EdDSA token that RFC 9864 wants another name for it.
    warnings.simplefilter("ignore", _load("joserfc.errors").SecurityWarning)
    kinds = _load("joserfc.jwk")
    kind = {Algorithm.ES256: kinds.ECKey, Algorithm.ES384: kinds.ECKey, Algorithm.EDDSA: kinds.OKPKey}
    return kind.get(key.algorithm, kinds.RSAKey).import_key(pem)


def _authlib_check(key: PeerKey) -> Check:
    jose = _load("authlib.jose")
    own, codec = jose.JsonWebKey.import_key(key.public_pem), jose.JsonWebToken([key.algorithm.value])
    options = {
        "iss": {"essential": True, "value": ISSUER},
        "aud": {"essential": True, "value": AUDIENCE},
        "exp": {"essential": True},
    }

    def check(token: str) -> object:
        claims = codec.decode(token, own, claims_options=options)
        claims.validate()
        return claims

    return check


def _authlib_sign(key: PeerKey, claims: Mapping[str, object], header: Mapping[str, str]) -> Sign:
    jose = _load("authlib.jose")
    own, codec = jose.JsonWebKey.import_key(key.private_pem), jose.JsonWebToken([key.algorithm.value])
    full = {"alg": key.algorithm.value, **header}
    return lambda: codec.encode(full, dict(claims), own).decode("ascii")


def _python_jose_check(key: PeerKey) -> Check:
    jose_jwt, own, algorithms = (
        _load("jose.jwt"),
        _python_jose_key(key, key.public_pem),
        [key.algorithm.value],
    )
    return lambda token: jose_jwt.decode(token, own, algorithms=algorithms, audience=AUDIENCE, issuer=ISSUER)


def _python_jose_sign(key: PeerKey, claims: Mapping[str, object], header: Mapping[str, str]) -> Sign:
    jose_jwt, own, extra = _load("jose.jwt"), _python_jose_key(key, key.private_pem), dict(header)
    return lambda: jose_jwt.encode(dict(claims), own, algorithm=key.algorithm.value, headers=extra)


def _python_jose_key(key: PeerKey, pem: bytes) -> object:
    return _load("jose.jwk").construct(pem, key.algorithm.value)


def _jwcrypto_check(key: PeerKey) -> Check:
    jwcrypto_jwt, own, algorithms = (
        _load("jwcrypto.jwt"),
        _jwcrypto_key(key.public_pem),
        [key.algorithm.value],
    )
    claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": None}
    return lambda token: jwcrypto_jwt.JWT(jwt=token, key=own, algs=algorithms, check_claims=claims)


def _jwcrypto_sign(key: PeerKey, claims: Mapping[str, object], header: Mapping[str, str]) -> Sign:
    jwcrypto_jwt, own = _load("jwcrypto.jwt"), _jwcrypto_key(key.private_pem)
    full = {"alg": key.algorithm.value, **header}

    def sign() -> str:
        token = jwcrypto_jwt.JWT(header=full, claims=dict(claims))
        token.make_signed_token(own)
        return str(token.serialize())

    return sign


def _jwcrypto_key(pem: bytes) -> object:
    return _load("jwcrypto.jwk").JWK.from_pem(pem)


def _load(module: str) -> Any:
    # authlib.jose says that joserfc is to follow it, and puts a filter of its own before whatever would keep that quiet.
    with warnings.catch_warnings(record=True):
        return importlib.import_module(module)


PEERS = (
    Peer(name="PyJWT", module="jwt", algorithms=_EVERY, checking=pyjwt_check, signing=_pyjwt_sign),
    Peer(name="joserfc", module="joserfc", algorithms=_EVERY, checking=_joserfc_check, signing=_joserfc_sign),
    Peer(
        name="authlib.jose",
        module="authlib",
        algorithms=_EVERY,
        checking=_authlib_check,
        signing=_authlib_sign,
    ),
    Peer(
        name="python-jose",
        module="jose",
        algorithms=frozenset({Algorithm.ES256, Algorithm.ES384, Algorithm.RS256}),
        checking=_python_jose_check,
        signing=_python_jose_sign,
    ),
    Peer(
        name="jwcrypto",
        module="jwcrypto",
        algorithms=_EVERY,
        checking=_jwcrypto_check,
        signing=_jwcrypto_sign,
    ),
)
"""The libraries, in the order of the report."""
