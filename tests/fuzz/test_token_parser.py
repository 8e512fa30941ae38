"""The corpus that fuzzing found, played in milliseconds; `make fuzz` looks for more."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyfob.base.errors import Denied
from keyfob.jwt import strict_json
from keyfob.jwt.claims import read_claims

from .token_parser import TYP, Parser

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())
MAX_CORPUS = 32_768  # bytes: what is kept in the tree stays small


@pytest.fixture(scope="module")
def parser() -> Parser:
    return Parser.of_one_key()


def test_whatever_was_found_is_read_or_refused(parser: Parser) -> None:
    for file in CORPUS:
        try:
            parser.check(file.read_bytes())
        except Exception as error:
            raise AssertionError(f"{file.name} breaks the parser") from error


def test_the_corpus_is_small_and_has_some_of_everything() -> None:
    inputs = [file.read_bytes() for file in CORPUS]
    assert {given[:1] for given in inputs} >= {b"t", b"h", b"p"}
    assert sum(map(len, inputs)) <= MAX_CORPUS


def test_the_corpus_reaches_what_is_accepted(parser: Parser) -> None:
    """A corpus of refusals alone would show little."""
    inputs = [file.read_bytes() for file in CORPUS]
    assert any(parser._verified(given[1:].decode("latin-1")) for given in inputs if given[:1] == b"t")
    claims = []
    for given in inputs:
        if given[:1] == b"p":
            try:
                claims.append(read_claims(given[1:]))
            except Denied:
                continue
    assert any(others for _, others in claims)
    assert any(not others for _, others in claims)


@pytest.mark.parametrize("given", [b"", b"t", b"h", b"p", b"\xff", b"p{}", b"h{}"])
def test_the_smallest_inputs_are_fine(parser: Parser, given: bytes) -> None:
    parser.check(given)


@pytest.mark.parametrize(
    "lax",
    [
        lambda raw: __import__("json").loads(raw),
        lambda raw: __import__("msgspec").json.decode(raw, type=dict),
    ],
    ids=["json", "msgspec"],
)
def test_a_laxer_reader_would_be_found(parser: Parser, monkeypatch: pytest.MonkeyPatch, lax: object) -> None:
    monkeypatch.setattr(strict_json, "read_object", lax)
    with pytest.raises(AssertionError):
        parser.check(b'p{"a":1,"a":2}')


def test_a_verifier_that_honours_everything_would_be_found(
    parser: Parser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyfob.jwt.header._REFUSED", frozenset())
    header = f'{{"alg":"EdDSA","typ":"{TYP}","kid":"{parser.key.key_id}","crit":["b64"]}}'
    with pytest.raises(AssertionError):
        parser.check(b"h" + header.encode())
