"""What must hold of the parser of tokens, whatever it is given. A pure function of bytes, so that a fuzzer can drive it.

The first byte says what the rest is:

- `t`: a token, as it may come;
- `h`: a header, in a token that is otherwise good and whose signature holds;
- `p`: a payload, in such a token.

Whatever comes is read, or refused with our error. What is read says the same to Python's own JSON decoder, with no member name twice; and the
short way of reading gives what the slow one gives.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keyfob.base import base64url
from keyfob.base.errors import Cause, Denied
from keyfob.jwt import jws, strict_json
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.claims import AccessClaims, read_claims
from keyfob.jwt.header import read_header
from keyfob.jwt.jwk import PrivateKey

TYP = "at+jwt"
_SEED = bytes(range(32))  # a key for nothing but this
_NEVER_HONOURED = {"b64", "crit", "cty", "enc", "jku", "jwk", "x5c", "x5t", "x5t#S256", "x5u", "zip"}


@dataclass(frozen=True, slots=True)
class Parser:
    """The parser with one key."""

    key: PrivateKey

    @classmethod
    def of_one_key(cls) -> Parser:
        """Make it, with the same key each time."""
        return cls(PrivateKey.of(Ed25519PrivateKey.from_private_bytes(_SEED), Algorithm.EDDSA))

    def check(self, given: bytes) -> None:
        """Give *given* to the parser, and raise AssertionError if something does not hold."""
        kind, rest = given[:1], given[1:]
        if kind == b"h":
            self._check_header(rest)
        elif kind == b"p":
            self._check_payload(rest)
        else:
            self._check_token(rest.decode("utf-8", "surrogateescape"))

    def _check_token(self, text: str) -> None:
        payload = self._verified(text)
        if payload is None:
            return
        head, body, tail = text.split(".")
        # Only one text stands for these bytes: nothing was passed over.
        for segment in (head, body, tail):
            assert base64url.encode(base64url.decode(segment.encode("ascii"))) == segment
        assert base64url.decode(body.encode("ascii")) == payload

    def _check_header(self, header: bytes) -> None:
        signing_input = f"{base64url.encode(header)}.{base64url.encode(b'{}')}"
        signature = self.key.sign(signing_input.encode("ascii"))
        if self._verified(f"{signing_input}.{base64url.encode(signature)}") is None:
            return
        members = _read_by_python(header)
        assert members["alg"] == self.key.algorithm
        assert members["kid"] == self.key.key_id
        assert str(members["typ"]).lower().removeprefix("application/") == TYP
        assert not _NEVER_HONOURED & members.keys()

    def _check_payload(self, payload: bytes) -> None:
        if len(payload) < jws.MAX_TOKEN // 2:
            token = jws.sign(payload, self.key, typ=TYP)
            assert self._verified(token) == payload
        members = _read(strict_json.read_object, payload)
        assert _same(members, _read(strict_json._read_slowly, payload))
        if members is not None:
            assert _same(members, _read_by_python(payload))
        self._check_claims(payload, members)

    def _check_claims(self, payload: bytes, members: dict[str, object] | None) -> None:
        try:
            claims, others = read_claims(payload)
        except Denied as denied:
            refusal = denied.cause
        else:
            self._check_read(claims, others, members)
            return
        assert refusal is Cause.MALFORMED

    def _check_read(
        self, claims: AccessClaims, others: Mapping[str, object], members: dict[str, object] | None
    ) -> None:
        assert members is not None
        read = json.loads(msgspec.json.encode(claims))
        for name, value in read.items():
            assert _same(members[name], value), name
        for name, value in others.items():
            assert _same(members[name], value), name
        assert not read.keys() & others.keys()

    def _verified(self, token: str) -> bytes | None:
        read_header.cache_clear()  # each is read anew, so that what a fuzzer sees depends on its input alone
        try:
            payload, key_id = jws.verify_signed(token, {self.key.key_id: self.key.public}, typ=TYP)
        except Denied:
            return None
        assert key_id == self.key.key_id
        return payload


def _read(way: Callable[[bytes], dict[str, object]], raw: bytes) -> dict[str, object] | None:
    try:
        return way(raw)
    except ValueError:
        return None


def _read_by_python(raw: bytes) -> dict[str, object]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    return json.loads(raw.decode("utf-8"), object_pairs_hook=unique)


def _same(one: object, other: object) -> bool:
    """Say whether both are the same in value and type: to Python, 1, 1.0 and True are equal."""
    return repr(one) == repr(other)
