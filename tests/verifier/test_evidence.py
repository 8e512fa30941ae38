"""What a follower keeps of what was signed, to hand it back."""

from __future__ import annotations

import json

from keyfob.verifier.evidence import MOST_KEPT, Evidence


def held(evidence: Evidence) -> list[str]:
    document = evidence.document()
    assert document is not None
    assert len(document) < 64 * 1024
    entries: list[str] = json.loads(document)["entries"]
    return entries


def test_there_is_nothing_to_hand_back_before_the_first_heartbeat() -> None:
    evidence = Evidence()
    evidence.heard("batch")
    assert evidence.document() is None
    evidence.level("one")
    evidence.level("two")
    assert json.loads(evidence.document() or b"") == {"heartbeat": "two", "entries": ["batch"]}


def test_the_oldest_batches_are_dropped_past_either_bound() -> None:
    evidence = Evidence()
    evidence.level("beat")
    for number in range(64):
        evidence.heard(str(number))
    assert held(evidence) == [str(number) for number in range(64)]
    evidence.heard("64")
    assert held(evidence) == [str(number) for number in range(1, 65)]
    evidence.jumped()
    assert held(evidence) == []
    first, second = "a" * (MOST_KEPT // 2), "b" * (MOST_KEPT // 2)
    evidence.heard(first)
    evidence.heard(second)
    assert held(evidence) == [first, second]
    evidence.heard("c")
    assert held(evidence) == [second, "c"]


def test_a_batch_that_is_too_large_by_itself_is_not_kept() -> None:
    evidence = Evidence()
    evidence.level("beat")
    evidence.heard("a" * (MOST_KEPT + 1))
    assert held(evidence) == []
    evidence.heard("b")
    assert held(evidence) == ["b"]
