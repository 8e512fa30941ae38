"""PKCE: the vector of RFC 7636, and what fits nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.grants import pkce
from keyfob.grants.secret import derived, digest_of, is_secret, new_secret

UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
# RFC 7636, appendix B.
VERIFIER, CHALLENGE = (
    "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
)


@pytest.mark.meets("9700-2.1.1c")
def test_the_vector_of_the_rfc() -> None:
    assert pkce.challenge_of(VERIFIER) == CHALLENGE
    assert pkce.fits(VERIFIER, CHALLENGE)
    assert pkce.is_challenge(CHALLENGE)
    assert not pkce.fits(CHALLENGE, CHALLENGE)
    assert not pkce.fits(VERIFIER, VERIFIER)


@given(st.text(UNRESERVED, min_size=43, max_size=128), st.text(UNRESERVED, min_size=43, max_size=128))
def test_only_the_verifier_fits_its_challenge(one: str, other: str) -> None:
    assert pkce.fits(one, pkce.challenge_of(one))
    assert pkce.fits(other, pkce.challenge_of(one)) is (one == other)


@pytest.mark.meets("10.4.6", "OA-22")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "v" * 42,
        "v" * 129,
        "v" * 42 + "ä",
        "v" * 42 + "+",
        "v" * 42 + "\n",
        "v" * 43 + "\n",
        "\ud800" * 43,
    ],
)
def test_what_is_no_verifier_fits_nothing(text: str) -> None:
    assert not pkce.is_verifier(text)
    assert not pkce.fits(text, CHALLENGE)


@pytest.mark.meets("OA-22")
@pytest.mark.parametrize(
    "text", ["", CHALLENGE[:-1], CHALLENGE + "A", CHALLENGE + "=", CHALLENGE[:-1] + "+", "ä" * 43]
)
def test_what_is_no_challenge_is_refused(text: str) -> None:
    assert not pkce.is_challenge(text)


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_fits_or_not_and_never_an_error(verifier: str, challenge: str) -> None:
    assert not pkce.fits(verifier, challenge.replace(CHALLENGE, ""))


def test_a_secret_is_random_and_leads_to_the_same_other_one_each_time() -> None:
    secret = new_secret()
    assert is_secret(secret)
    assert len({new_secret() for _ in range(100)}) == 100
    assert derived(secret, "kept") == derived(secret, "kept")
    assert is_secret(derived(secret, "kept"))
    assert (
        len({secret, derived(secret, "kept"), derived(secret, "other"), derived(new_secret(), "kept")}) == 4
    )
    assert len(digest_of(secret)) == 32
    assert digest_of("\ud800") != digest_of(secret)
