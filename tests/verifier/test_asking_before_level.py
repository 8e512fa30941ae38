"""With `on_stale="introspect"` the authority is asked before the verifier is level: about tokens, and about nothing else."""

from __future__ import annotations

import sys

import pytest

from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import SessionId
from keyfob.base.opaque import OpaqueKeys, OpaqueKind, OpaqueToken
from keyfob.jwt.jws import MAX_TOKEN


@pytest.fixture
def early(server, new_verifier):
    """A verifier that is started and never level."""
    server.status["/feed/snapshot"] = 503
    verifier = new_verifier(on_stale="introspect")
    verifier.start()
    return verifier


def denial_of(verifier, token):
    with pytest.raises(Denied) as denied:
        verifier.authenticate_blocking(token)
    return denied.value.cause


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="nothing"),
        pytest.param("x" * (MAX_TOKEN + 1), id="too long"),
        pytest.param("kfs_" + "a" * 200_000, id="a huge opaque token"),
        pytest.param("kfs_short", id="a short opaque token"),
        pytest.param("\ud800" * 10, id="half a character"),
        pytest.param("é" * 10, id="not ASCII"),
    ],
)
def test_what_can_be_no_token_is_malformed_and_nobody_is_asked(server, early, token):
    assert denial_of(early, token) is Cause.MALFORMED
    assert server.asked("/oauth/introspect") == 0


def test_a_refresh_token_never_leaves_the_verifier(server, early):
    keys = OpaqueKeys(b"keys", b"tag", b"rotate")
    token = OpaqueToken.mint(OpaqueKind.REFRESH, SessionId("b" * 32), keys).text()
    assert denial_of(early, token) is Cause.WRONG_TYPE
    assert server.asked("/oauth/introspect") == 0


def test_the_longest_token_is_asked_about_and_takes_no_room(server, early):
    token = "x" * MAX_TOKEN
    assert denial_of(early, token) is Cause.UNKNOWN_SESSION
    assert denial_of(early, token) is Cause.UNKNOWN_SESSION
    assert server.asked("/oauth/introspect") == 1
    kept = early._following.introspection._unknown._young
    assert [sys.getsizeof(key) for key in kept] == [sys.getsizeof(bytes(32))]
