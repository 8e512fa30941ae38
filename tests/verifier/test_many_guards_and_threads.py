"""Ten thousand guards cost one look-up per entry, and no check ever waits: counted and forced, not timed."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack

import pytest
from msgspec.structs import replace

from keyfob.base.errors import Cause, Denied
from keyfob.revocation.entry import Scope
from keyfob.revocation.live_entries import LiveEntries

GUARDS = 10_000


async def test_ten_thousand_guards_cost_one_look_up_per_entry(server, new_verifier, monkeypatch):
    looked = []
    recheck = LiveEntries._recheck

    def counted(self, watch):
        looked.append(watch.principal.subject)
        recheck(self, watch)

    async with new_verifier() as verifier, AsyncExitStack() as inside:
        principal = verifier.verify(server.token())
        idle = asyncio.create_task(asyncio.Event().wait())
        for number in range(GUARDS):
            one = replace(
                principal, subject=f"user{number}", session_id=f"{number:032x}", token_id=f"token{number}"
            )
            await inside.enter_async_context(verifier.guard(one, task=idle))
        monkeypatch.setattr(LiveEntries, "_recheck", counted)
        for name in ("nobody", "user77", "somebody else"):
            entry = await asyncio.to_thread(server.revoke, Scope.SUBJECT, name)
        await asyncio.to_thread(
            verifier._view.wait_for, lambda: verifier.stats().position >= entry.position, timeout=15
        )
        assert looked == ["user77"]
        with pytest.raises(asyncio.CancelledError):
            await idle
        inside.pop_all()  # the one that ended would raise its cause, which other tests look at
        assert verifier.stats().denials == {"revoked": 1}


def test_no_check_waits_for_a_lock_that_somebody_holds(server, verifier, waits):
    """A reader that is put aside in the middle of its work holds up nobody."""
    known, new, session = server.token(), server.token(jti="j2"), server.opaque(sub="bob")
    verifier.verify(known)
    verifier.authenticate_blocking(session)
    entry = server.revoke(Scope.SUBJECT, "alice")
    waits(verifier, lambda: verifier.stats().position >= entry.position)
    said = []

    def check():
        for token in (known, new, session, "x.y.z"):
            try:
                verifier.verify(token)
                said.append("ok")
            except Denied as denied:
                said.append(denied.cause)

    with verifier._view._changed, verifier._view.live._lock, verifier._lock:
        thread = threading.Thread(target=check)
        thread.start()
        thread.join(5)
        assert said == [Cause.REVOKED, Cause.REVOKED, "ok", Cause.MALFORMED]


class Agreement:
    """Tokens that several threads check, and each that was accepted after some thread had seen it denied."""

    def __init__(self, verifier, tokens):
        self._verifier = verifier
        self._denied = {token: threading.Event() for token in tokens}
        self._done = threading.Event()
        self.wrong = []
        self._threads = [threading.Thread(target=self._check) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    @property
    def is_complete(self):
        return all(event.is_set() for event in self._denied.values())

    def end(self):
        self._done.set()
        for thread in self._threads:
            thread.join(15)

    def _check(self):
        while not self._done.is_set():
            for token, denied in self._denied.items():
                self._look_at(token, denied)

    def _look_at(self, token, denied):
        was_denied = denied.is_set()
        try:
            self._verifier.verify(token)
        except Denied as refused:
            if refused.cause is Cause.REVOKED:
                denied.set()
        else:
            if was_denied:
                self.wrong.append(token)


def test_threads_agree_at_every_moment_while_entries_come(server, verifier, waits):
    """Whoever saw a denial sees no acceptance later, in whatever thread."""
    tokens = [server.token(sub=f"user{number}", sid=None, jti=f"j{number}") for number in range(40)]
    agreement = Agreement(verifier, tokens)
    for number in range(len(tokens)):
        server.revoke(Scope.SUBJECT, f"user{number}")
    waits(verifier, lambda: verifier.stats().position == len(tokens))
    waits(verifier, lambda: agreement.is_complete)
    agreement.end()
    assert agreement.wrong == []
