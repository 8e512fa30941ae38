"""r and s side by side, and DER."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from keyfob.jwt.ecdsa_signature import P256, P384, Curve

ORDERS = {
    "P-256": (P256, 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551, 32),
    "P-384": (
        P384,
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
        48,
    ),
}
curves = pytest.mark.parametrize(("curve", "order", "length"), ORDERS.values(), ids=ORDERS)


@curves
@given(data=st.data())
def test_both_forms_stand_for_the_same_numbers(
    curve: Curve, order: int, length: int, data: st.DataObject
) -> None:
    edges = st.sampled_from([1, 0x7F, 0x80, 0xFF, 0x100, 2**248 - 1, 2**248, order - 1, order // 2])
    r, s = (data.draw(st.one_of(edges, st.integers(1, order - 1))) for _ in range(2))
    signature = r.to_bytes(length, "big") + s.to_bytes(length, "big")
    der = curve.to_der(signature)
    assert der == encode_dss_signature(r, s)
    assert curve.from_der(der) == signature


@curves
@pytest.mark.parametrize("which", [0, 1])
def test_numbers_outside_the_group_are_refused(curve: Curve, order: int, length: int, which: int) -> None:
    for number in (0, order, order + 1, 256**length - 1):
        numbers = [5, 5]
        numbers[which] = number
        with pytest.raises(InvalidSignature):
            curve.to_der(b"".join(each.to_bytes(length, "big") for each in numbers))


@curves
def test_another_length_is_refused(curve: Curve, order: int, length: int) -> None:
    good = (1).to_bytes(length, "big") * 2
    assert order
    for wrong in (b"", good[:-1], good + b"\1", good[: length + 1], good * 2, encode_dss_signature(1, 1)):
        with pytest.raises(InvalidSignature):
            curve.to_der(wrong)
