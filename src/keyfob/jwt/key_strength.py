"""Which public keys are too weak to be imported: checks of published numbers, no secrets and no cryptography of our own."""

from __future__ import annotations

import math

MIN_RSA_BITS = 2048  # (RFC 7518, section 3.3)
MAX_RSA_BITS = 8192  # a larger key would make each check a denial of service
MIN_RSA_EXPONENT = 65537
_EXPONENT_BITS = 32
_FERMAT_ROUNDS = 128
_SMALL_PRIMES = (
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83,
    89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
)  # fmt: skip
_PRODUCT = 2 * math.prod(_SMALL_PRIMES)

_FIELD = 2**255 - 19
_EIGHTH = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
# The y coordinates of the points of order 1, 2, 4 and 8 on edwards25519; a signature by one of them proves nothing.
_SMALL_ORDER = frozenset([1, _FIELD - 1, 0, _EIGHTH, _FIELD - _EIGHTH])


def rsa_weakness(modulus: int, exponent: int) -> str | None:
    """Say why an RSA key must not be trusted, or None.

    Refused: below 2048 or above 8192 bits, an exponent that is even, below 65537 or above 32 bits, a modulus with a small factor,
    with two primes close to each other (Fermat), or of the form that ROCA left (CVE-2017-15361).
    """
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        return f"an RSA key has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, not {modulus.bit_length()}"
    if exponent < MIN_RSA_EXPONENT or not exponent & 1 or exponent.bit_length() > _EXPONENT_BITS:
        return "an RSA exponent is odd, at least 65537, and has at most 32 bits"
    if math.gcd(modulus, _PRODUCT) != 1:
        return "an RSA modulus with a small factor"
    if _primes_are_close(modulus):
        return "an RSA modulus of two primes that are too close"
    if _looks_like_roca(modulus):
        return "an RSA modulus of the form that ROCA left"
    return None


def ed25519_weakness(point: bytes) -> str | None:
    """Say why the encoded *point* (32 bytes) must not be an Ed25519 key, or None."""
    y = int.from_bytes(point, "little") & (2**255 - 1)
    if y >= _FIELD:
        return "an Ed25519 key that is not canonically encoded"
    if y in _SMALL_ORDER:
        return "an Ed25519 key of small order"
    return None


def _primes_are_close(modulus: int) -> bool:
    """Try Fermat's factorisation for some rounds; primes made at random are never found by it."""
    middle = math.isqrt(modulus)
    if middle * middle < modulus:
        middle += 1
    for _ in range(_FERMAT_ROUNDS):
        rest = middle * middle - modulus
        if math.isqrt(rest) ** 2 == rest:
            return True
        middle += 1
    return False


def _looks_like_roca(modulus: int) -> bool:
    """Say whether *modulus* is a power of 65537 to every small prime; by chance fewer than 1 in 2^27 moduli are."""
    return all(modulus % prime in _powers(prime) for prime in _SMALL_PRIMES)


def _powers(prime: int) -> frozenset[int]:
    found, power = set[int](), 1
    while power not in found:
        found.add(power)
        power = power * MIN_RSA_EXPONENT % prime
    return frozenset(found)
