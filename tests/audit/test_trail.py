"""The audit trail: nothing in it deceives its reader, nothing in it is secret."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.audit.trail import MAX_TEXT, Trail, cleaned, encoded, fields_of
from keyfob.base.errors import StoreUnavailable
from keyfob.base.events import Event
from keyfob.base.identifiers import FIRST_PARTY, ClientId, SessionId, Subject
from keyfob.base.redaction import REDACTED
from keyfob.clients.secret import new_secret
from keyfob.stores.memory import open_memory_store
from keyfob.testing.frozen_clock import START, FrozenClock

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
FORGED = "bob\n2026-01-01 login alice\x1b[2K\u202e"


def event(**fields: object) -> Event:
    return Event(**{"at": START, "code": "login", **fields})


def test_what_forges_lines_or_hides_text_is_encoded() -> None:
    shown = encoded("a\r\n\t\x00\x1b\x7f\x85\u200b\u202e\u2028\ud800\U000e0001é")
    assert shown == r"a\u000d\u000a\u0009\u0000\u001b\u007f\u0085\u200b\u202e\u2028\ud800\U000e0001é"
    assert shown.isprintable()


def test_every_text_of_an_event_is_cleaned() -> None:
    clean = cleaned(
        event(
            code=FORGED,
            actor=FORGED,
            subject=Subject(FORGED),
            session_id=SessionId(FORGED),
            client_id=ClientId(FORGED),
            address=FORGED,
            reason=FORGED,
            facts={FORGED: FORGED, "count": 3},
        )
    )
    fields = fields_of(clean)
    assert all(str(value).isprintable() and name.isprintable() for name, value in fields.items())
    assert fields["count"] == 3


@pytest.mark.parametrize(
    "secret",
    [
        "kfs_" + "A" * 98,
        "kfr_" + "b-_0" * 24,
        new_secret(),
        "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl",
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$dGFndGFndGFn",
        "Basic b3JkZXJzOnNlY3JldA==",
        "bearer abcdefgh",
        "KFS_" + "A" * 98,
    ],
)
def test_a_secret_that_slipped_in_is_redacted(secret: str) -> None:
    clean = cleaned(event(reason=f"pasted {secret} by mistake", facts={"token": secret}))
    assert clean.reason == f"pasted {REDACTED} by mistake"
    assert clean.facts == {"token": REDACTED}


def test_text_is_cut_at_its_bound_and_says_so() -> None:
    assert cleaned(event(reason="x" * MAX_TEXT)).reason == "x" * MAX_TEXT
    for long in ("x" * (MAX_TEXT + 1), "\n" * MAX_TEXT, "x" * 1_000_000):
        reason = cleaned(event(reason=long)).reason
        assert reason is not None
        assert len(reason) == MAX_TEXT
        assert reason.endswith("…")


@given(ANY_TEXT, st.dictionaries(ANY_TEXT, ANY_TEXT | st.integers(), max_size=3))
def test_cleaning_is_stable_and_never_fails(text: str, facts: Mapping[str, str | int]) -> None:
    clean = cleaned(event(reason=text, facts=facts))
    assert cleaned(clean) == clean
    assert clean.reason is not None
    assert clean.reason.isprintable()


def test_a_fact_never_replaces_a_field_of_the_event() -> None:
    fields = fields_of(event(actor="cli", facts={"actor": "somebody", "event": "other", "scope": "subject"}))
    assert fields["actor"] == "cli"
    assert fields["event"] == "login"
    assert fields["scope"] == "subject"
    assert "reason" not in fields


async def test_an_event_is_written_then_told() -> None:
    store = open_memory_store(FrozenClock())
    lines: list[Mapping[str, str | int]] = []
    trail = Trail(store.audit, log=lines.append)
    await trail.record(event(subject=Subject("alice"), client_id=FIRST_PARTY, reason="a\nb"))
    assert [one.reason for one in (await trail.list()).events] == [r"a\u000ab"]
    assert [line["reason"] for line in lines] == [r"a\u000ab"]
    trail.tell(event(code="logout"))
    assert [line["event"] for line in lines] == ["login", "logout"]
    assert len((await trail.list()).events) == 1


async def test_what_was_not_written_is_not_told() -> None:
    store = open_memory_store(FrozenClock())
    lines: list[Mapping[str, str | int]] = []
    trail = Trail(store.audit, log=lines.append)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await trail.record(event())
    assert lines == []


async def test_events_that_came_with_a_change_are_cleaned_when_read() -> None:
    store = open_memory_store(FrozenClock())
    await store.audit.add(event(reason=FORGED, subject=Subject("alice")))
    trail = Trail(store.audit, log=lambda line: None)
    (one,) = (await trail.list(subject=Subject("alice"), code="login", limit=5)).events
    assert one.reason is not None
    assert one.reason.isprintable()
