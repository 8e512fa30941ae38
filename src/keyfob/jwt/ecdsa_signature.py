"""ECDSA signatures: r and s side by side, as JOSE writes them, and DER, as the backend reads them (RFC 7518, section 3.4)."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

_SIGN_BIT = 0x80


class Curve:
    """What the two forms of a signature need to know about a curve: the order of its group."""

    __slots__ = ("_length", "_order", "_zero")

    def __init__(self, order: int) -> None:
        self._length = (order.bit_length() + 7) // 8
        self._order = order.to_bytes(self._length, "big")
        self._zero = bytes(self._length)

    def to_der(self, signature: bytes) -> bytes:
        """Return the DER form of *signature*.

        Octets of one length compare as the numbers that they stand for, so 1 <= r, s < order is checked without making numbers of them.
        (r, order - s) stays as good as (r, s): revocation never goes by the text of a token.

        Raises:
            InvalidSignature: not exactly two numbers of the curve's length, or one of them is out of range.
        """
        length, zero, order = self._length, self._zero, self._order
        r, s = signature[:length], signature[length:]
        if len(s) != length or not zero < r < order or not zero < s < order:
            raise InvalidSignature
        if not 0 < r[0] < _SIGN_BIT:
            r = _der_integer(r)
        if not 0 < s[0] < _SIGN_BIT:
            s = _der_integer(s)
        return b"\x30%c\x02%c%b\x02%c%b" % (len(r) + len(s) + 4, len(r), r, len(s), s)

    def from_der(self, der: bytes) -> bytes:
        """Return the form of JOSE of a DER signature that the backend made."""
        r, s = decode_dss_signature(der)
        return r.to_bytes(self._length, "big") + s.to_bytes(self._length, "big")


def _der_integer(octets: bytes) -> bytes:
    """Return the shortest octets of a positive DER integer."""
    octets = octets.lstrip(b"\0")
    return octets if octets[0] < _SIGN_BIT else b"\0" + octets


# The orders of P-256 and P-384 (SEC 2, sections 2.4.2 and 2.5.1).
P256 = Curve(0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551)
P384 = Curve(
    0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
)
