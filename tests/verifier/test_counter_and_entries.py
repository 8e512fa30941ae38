"""The change counter and a look-up, interleaved by force (design.md, precondition 10)."""

from __future__ import annotations

import pytest

from keyfob.base.errors import Cause, Denied
from keyfob.revocation.entry import Scope
from keyfob.revocation.live_entries import LiveEntries


def applied_once(monkeypatch, server, waits, verifier):
    """Let an entry come right after the next look-up has found nothing, before anybody keeps that."""
    cause = LiveEntries.cause
    left = [1]

    def found(self, principal):
        answer = cause(self, principal)
        if left and self is verifier._view.live:
            left.pop()
            entry = server.revoke(Scope.SUBJECT, "alice")
            waits(verifier, lambda: verifier.stats().position >= entry.position)
        return answer

    monkeypatch.setattr(LiveEntries, "cause", found)


def denial_of(verifier, token):
    with pytest.raises(Denied) as denied:
        verifier.verify(token)
    return denied.value.cause


def test_an_entry_that_comes_while_a_verdict_is_looked_at_again_is_not_missed(
    server, verifier, waits, monkeypatch
):
    token = server.token()
    verifier.verify(token)
    entry = server.revoke(Scope.SUBJECT, "bob")  # the counter moves, so that the next check looks again
    waits(verifier, lambda: verifier.stats().position >= entry.position)
    applied_once(monkeypatch, server, waits, verifier)
    verifier.verify(token)  # began before the entry was there
    assert denial_of(verifier, token) is Cause.REVOKED


def test_an_entry_that_comes_while_a_new_token_is_checked_is_not_missed(server, verifier, waits, monkeypatch):
    token = server.token()
    applied_once(monkeypatch, server, waits, verifier)
    verifier.verify(token)
    assert denial_of(verifier, token) is Cause.REVOKED


def test_an_entry_that_comes_while_a_cached_session_is_looked_at_is_not_missed(
    server, verifier, waits, monkeypatch
):
    token = server.opaque()
    verifier.authenticate_blocking(token)
    entry = server.revoke(Scope.SUBJECT, "bob")
    waits(verifier, lambda: verifier.stats().position >= entry.position)
    applied_once(monkeypatch, server, waits, verifier)
    verifier.verify(token)
    assert denial_of(verifier, token) is Cause.REVOKED


def test_an_entry_that_comes_while_an_answer_is_kept_is_not_missed(server, verifier, waits, monkeypatch):
    token = server.opaque()
    applied_once(monkeypatch, server, waits, verifier)
    verifier.authenticate_blocking(token)
    assert denial_of(verifier, token) is Cause.REVOKED
