"""Checking and signing access tokens, in one thread: the bare signature, Keyfob, and the libraries that Python has.

Every round gives each contestant the same tokens. Keyfob's verdicts are forgotten after every round, within the time that is measured, so that
none comes from the cache (the verifier's own count of misses shows it) and what was kept is paid for. The others are given the key, already read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from benchmarks.figures import BenchmarkFailed, Figure, compared
from benchmarks.jwt_peers import AUDIENCE, ISSUER, PeerKey, able, missing
from benchmarks.rounds import Contestant, Tell, interleave
from benchmarks.targets import ALGORITHMS
from keyfob.base import base64url
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import FIRST_PARTY, Position, SessionId, Strategy, Subject, Timeline
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm, PrivateMaterial
from keyfob.jwt.jwk import PrivateKey, jwk_set
from keyfob.tokens.grant import Grant
from keyfob.tokens.issuer import Issuer
from keyfob.verifier.verifier import Verifier

RSA_BITS = 2048
_RAW, _KEYFOB, _ISSUER = "cryptography", "Keyfob", "Issuer.issue"
_LEADS = {"jwt.verify": "jwt.lead", "jwt.sign": "jwt.sign_lead"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A key, and tokens that it signed: all different, all good."""

    algorithm: Algorithm
    material: PrivateMaterial
    key: PrivateKey
    tokens: tuple[str, ...]

    @classmethod
    def of(cls, algorithm: Algorithm, *, tokens: int) -> Bench:
        """Make a key, and sign as many *tokens*."""
        material = _material(algorithm)
        key = PrivateKey.of(material, algorithm)
        issue = issuing(key)
        return cls(
            algorithm=algorithm, material=material, key=key, tokens=tuple(issue() for _ in range(tokens))
        )

    @property
    def peer_key(self) -> PeerKey:
        """The same key, for other libraries."""
        return PeerKey(algorithm=self.algorithm, material=self.material)

    def verifier(self) -> Verifier:
        """Return a verifier that has seen nothing yet."""
        return Verifier.from_jwks(jwk_set([self.key.public]), issuer=ISSUER, audience=AUDIENCE)


def run(*, seconds: float, tokens: int, tell: Tell) -> list[Figure]:
    """Measure every algorithm, each for *seconds* of checking and as long of signing."""
    figures: list[Figure] = []
    for algorithm in ALGORITHMS:
        bench = Bench.of(Algorithm(algorithm), tokens=tokens)
        checked = interleave(
            [_raw_check(bench), _keyfob_check(bench), *_peer_checks(bench)],
            seconds=seconds,
            tell=tell,
            title=f"checking {algorithm}",
        )
        figures += _figures("jwt.verify", bench.algorithm, checked)
    for algorithm in ALGORITHMS:
        bench = Bench.of(Algorithm(algorithm), tokens=1)
        signed = interleave(_signers(bench, tokens), seconds=seconds, tell=tell, title=f"signing {algorithm}")
        figures += _figures("jwt.sign", bench.algorithm, signed)
        figures.append(
            compared(f"jwt.issue.{algorithm}", signed[_ISSUER], signed[_RAW], what="raw cryptography")
        )
    return figures


def issuing(key: PrivateKey, *, strategy: Strategy = Strategy.HYBRID) -> Callable[[], str]:
    """Return what issues an ordinary access token with *key*, a different one at every call."""
    now = datetime.now(UTC)
    grant = Grant(
        subject=Subject("usr_4k2vq7mzt5h3xw9b6n8cdfgjrs"),
        client_id=FIRST_PARTY,
        strategy=strategy,
        audience=(AUDIENCE,),
        ends_at=now + timedelta(days=1),
        session_id=SessionId("0123456789abcdef" * 2),
        scopes=frozenset({"orders:read", "orders:write"}),
        roles=frozenset({"editor"}),
        auth_time=now,
        amr=("pwd",),
    )
    issuer = Issuer(ISSUER, signer=lambda: key, lifetime=timedelta(hours=1))
    timeline = Timeline("5c1f0e8d9b7a4f32")

    def issue() -> str:
        return issuer.issue(grant, as_of=Position(1), timeline=timeline, now=now).text

    return issue


def _figures(name: str, algorithm: Algorithm, measured: dict[str, list[float]]) -> list[Figure]:
    """Return Keyfob's figure against the bare signature, and its lead over the fastest of the others."""
    others, ours = _others(measured), measured[_KEYFOB]
    fastest = min(others, key=lambda other: others[other])
    against_raw = compared(
        f"{name}.{algorithm}",
        ours,
        measured[_RAW],
        what="raw cryptography",
        beside=others,
        facts={"not_measured": missing(algorithm)},
    )
    lead = compared(_LEADS[name] + f".{algorithm}", measured[fastest], ours, what=fastest)
    return [against_raw, _turned(lead)]


def _others(measured: dict[str, list[float]]) -> dict[str, float]:
    return {name: median(values) for name, values in measured.items() if name not in {_RAW, _KEYFOB, _ISSUER}}


def _turned(figure: Figure) -> Figure:
    """Put ours first where the ratio is theirs to ours."""
    assert figure.against is not None
    return Figure(
        name=figure.name,
        measured=figure.against,
        against=figure.measured,
        against_what=figure.against_what,
        ratio=figure.ratio,
        spread=figure.spread,
        facts=figure.facts,
    )


def _raw_check(bench: Bench) -> Contestant:
    """The floor: bytes and signature as the primitive takes them, made before."""
    parts = [token.rpartition(".") for token in bench.tokens]
    inputs = [(_primitive_signature(bench, part[2]), part[0].encode()) for part in parts]
    verify = _raw_verify(bench)

    def batch() -> None:
        for signature, signed in inputs:
            verify(signature, signed)

    return Contestant(name=_RAW, operations=len(inputs), batch=batch)


def _raw_verify(bench: Bench) -> Callable[[bytes, bytes], None]:
    match bench.material:
        case ec.EllipticCurvePrivateKey():
            key, scheme = bench.material.public_key(), ec.ECDSA(hashes.SHA256())
            return lambda signature, signed: key.verify(signature, signed, scheme)
        case RSAPrivateKey():
            rsa, pkcs, digest = bench.material.public_key(), padding.PKCS1v15(), hashes.SHA256()
            return lambda signature, signed: rsa.verify(signature, signed, pkcs, digest)
        case _:
            return bench.material.public_key().verify


def _primitive_signature(bench: Bench, encoded: str) -> bytes:
    raw = base64url.decode(encoded.encode())
    if bench.algorithm is not Algorithm.ES256:
        return raw
    return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))


def _keyfob_check(bench: Bench) -> Contestant:
    tokens = bench.tokens
    _require_refusal(bench)
    verifier = bench.verifier()
    verify, verdicts, batches = verifier.verify, verifier._checker.verdicts, 0

    def batch() -> None:
        nonlocal batches
        for token in tokens:
            verify(token)
        verdicts.clear()
        batches += 1
        stats = verifier.stats()
        if (stats.verdict_misses, stats.verdict_hits) != (batches * len(tokens), 0):
            raise BenchmarkFailed("a verdict came from the cache")

    return Contestant(name=_KEYFOB, operations=len(tokens), batch=batch)


def _peer_checks(bench: Bench) -> list[Contestant]:
    return [_decoding(peer.name, bench, peer.checking(bench.peer_key)) for peer in able(bench.algorithm)]


def _decoding(name: str, bench: Bench, decode: Callable[[str], object]) -> Contestant:
    tokens = bench.tokens

    def batch() -> None:
        for token in tokens:
            decode(token)

    return Contestant(name=name, operations=len(tokens), batch=batch)


def _signers(bench: Bench, operations: int) -> Sequence[Contestant]:
    claims = json.loads(base64url.decode(bench.tokens[0].split(".")[1].encode()))
    signed = bench.tokens[0].rpartition(".")[0].encode()
    header = {"typ": "at+jwt", "kid": str(bench.key.key_id)}
    raw, issue, key = _raw_sign(bench), issuing(bench.key), bench.key

    def encode_and_sign() -> str:
        return jws.sign(msgspec.json.encode(claims), key, typ="at+jwt")

    def raw_batch() -> None:
        for _ in range(operations):
            raw(signed)

    def signing(sign: Callable[[], str]) -> Callable[[], None]:
        def batch() -> None:
            for _ in range(operations):
                sign()

        return batch

    return (
        Contestant(name=_RAW, operations=operations, batch=raw_batch),
        Contestant(name=_KEYFOB, operations=operations, batch=signing(encode_and_sign)),
        Contestant(name=_ISSUER, operations=operations, batch=signing(issue)),
        *(
            Contestant(
                name=peer.name,
                operations=operations,
                batch=signing(peer.signing(bench.peer_key, claims, header)),
            )
            for peer in able(bench.algorithm)
        ),
    )


def _raw_sign(bench: Bench) -> Callable[[bytes], bytes]:
    match bench.material:
        case ec.EllipticCurvePrivateKey() as key:
            scheme = ec.ECDSA(hashes.SHA256())
            return lambda signed: key.sign(signed, scheme)
        case RSAPrivateKey() as rsa:
            pkcs, digest = padding.PKCS1v15(), hashes.SHA256()
            return lambda signed: rsa.sign(signed, pkcs, digest)
        case _:
            return bench.material.sign


def _material(algorithm: Algorithm) -> PrivateMaterial:
    match algorithm:
        case Algorithm.ES256:
            return ec.generate_private_key(ec.SECP256R1())
        case Algorithm.EDDSA:
            return Ed25519PrivateKey.generate()
        case _:
            return generate_private_key(65537, RSA_BITS)


def _require_refusal(bench: Bench) -> None:
    """See that the verifier which is measured does check: one bit of the signature, and it refuses."""
    head, _, signature = bench.tokens[0].rpartition(".")
    raw = bytearray(base64url.decode(signature.encode()))
    raw[0] ^= 1
    try:
        bench.verifier().verify(f"{head}.{base64url.encode(bytes(raw))}")
    except Denied as denied:
        if denied.cause is Cause.BAD_SIGNATURE:
            return
    raise BenchmarkFailed("a forged token was not refused for its signature")
