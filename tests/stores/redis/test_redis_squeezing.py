"""What a session says of its device, squeezed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.base.errors import StoreUnavailable
from keyfob.stores.redis.squeezing import expand, squeeze

CHROME = b"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36"


@given(st.binary(max_size=500))
def test_what_is_squeezed_comes_back(details: bytes) -> None:
    assert expand(squeeze(details)) == details
    assert len(squeeze(details)) <= len(details) + 1


def test_a_browser_takes_few_bytes() -> None:
    assert len(squeeze(CHROME)) < 30


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(kept: bytes) -> None:
    try:
        expand(kept)
    except StoreUnavailable:
        return


def test_what_was_cut_short_or_has_another_number_is_refused() -> None:
    squeezed = squeeze(CHROME)
    for damaged in (b"", b"\2" + squeezed[1:], squeezed[:-1], squeezed[:1]):
        with pytest.raises(StoreUnavailable):
            expand(damaged)
