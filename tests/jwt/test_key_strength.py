"""Weak keys are not imported."""

from __future__ import annotations

import math

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PublicKey
from keyfob.jwt.key_strength import ed25519_weakness, rsa_weakness

_FIELD = 2**255 - 19
_D = -121665 * pow(121666, -1, _FIELD) % _FIELD


@pytest.fixture(scope="module")
def good() -> rsa.RSAPublicNumbers:
    return rsa.generate_private_key(65537, 2048).public_key().public_numbers()


def test_a_key_made_at_random_is_not_weak(good: rsa.RSAPublicNumbers) -> None:
    assert rsa_weakness(good.n, good.e) is None


@pytest.mark.parametrize("exponent", [1, 2, 3, 17, 65535, 65536, 65538, 2**32 + 1])
def test_an_exponent_that_is_small_even_or_huge_is_refused(good: rsa.RSAPublicNumbers, exponent: int) -> None:
    assert "exponent" in (rsa_weakness(good.n, exponent) or "")


def test_the_number_of_bits_is_bounded(good: rsa.RSAPublicNumbers) -> None:
    assert "bits" in (rsa_weakness(good.n >> 1 | 1, 65537) or "")
    assert "bits" in (rsa_weakness((1 << 8192) + 1, 65537) or "")
    assert "bits" not in (rsa_weakness((1 << 8192) - 1, 65537) or "")


def test_a_small_factor_is_refused(good: rsa.RSAPublicNumbers) -> None:
    assert "factor" in (rsa_weakness(good.n * 167, 65537) or "")
    assert "factor" in (rsa_weakness(good.n * 2, 65537) or "")


def test_primes_that_are_close_are_refused() -> None:
    # No primes, but what stands for them: two large odd numbers that are close, without small factors.
    small = math.prod(range(3, 168, 2))
    one = next(n for n in range(2**1024 - 2**600 + 1, 2**1024, 2) if math.gcd(n, small) == 1)
    other = next(n for n in range(one + 10**4, one + 10**6, 2) if math.gcd(n, small) == 1)
    assert "close" in (rsa_weakness(one * other, 65537) or "")
    assert "close" in (rsa_weakness(one * one, 65537) or "")


def test_the_form_that_roca_left_is_refused() -> None:
    primes = [p for p in range(3, 168) if all(p % d for d in range(2, p))]
    product = math.prod(primes)
    # n = 65537^k to the product of the primes: what every modulus of the flawed library looks like.
    modulus = pow(65537, 123_457, product)
    modulus += product * (2**2047 // product + 1)
    modulus += product * (1 - modulus % 2)
    assert modulus.bit_length() == 2048
    assert "ROCA" in (rsa_weakness(modulus, 65537) or "")


def test_weak_keys_are_refused_at_import() -> None:
    weak = rsa.generate_private_key(65537, 1024).public_key()
    with pytest.raises(ValueError, match="bits"):
        PublicKey.of(weak, Algorithm.RS256)
    small = rsa.generate_private_key(3, 2048).public_key()
    with pytest.raises(ValueError, match="exponent"):
        PublicKey.of(small, Algorithm.PS256)


def test_every_point_of_small_order_is_refused() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    # Points taken at random, times the large prime order: what is left has order 1, 2, 4 or 8.
    points = (point for y in range(2, 80) if (point := _point(y)) is not None)
    small = {_times(order, point)[1] for point in points}
    assert len(small) == 5
    for y in small:
        for sign in (0, 1):
            assert "small order" in (ed25519_weakness((y | sign << 255).to_bytes(32, "little")) or "")


def test_a_point_that_is_not_canonical_is_refused() -> None:
    for y in (_FIELD, _FIELD + 1, 2**255 - 1):
        assert "canonically" in (ed25519_weakness(y.to_bytes(32, "little")) or "")
    assert ed25519_weakness((_FIELD - 2).to_bytes(32, "little")) is None


def _point(y: int) -> tuple[int, int] | None:
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _FIELD) % _FIELD
    x = pow(square, (_FIELD + 3) // 8, _FIELD)
    if x * x % _FIELD != square:
        x = x * pow(2, (_FIELD - 1) // 4, _FIELD) % _FIELD
    return (x, y) if x * x % _FIELD == square else None


def _add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    (x1, y1), (x2, y2) = one, other
    product = _D * x1 * x2 * y1 * y2 % _FIELD
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, _FIELD) % _FIELD
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, _FIELD) % _FIELD
    return x, y


def _times(factor: int, point: tuple[int, int]) -> tuple[int, int]:
    result = (0, 1)
    while factor:
        if factor & 1:
            result = _add(result, point)
        point, factor = _add(point, point), factor >> 1
    return result
