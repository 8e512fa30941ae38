"""`start="stale"`: a verifier that begins while its authority is away, with what it knew before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from keyfob.base.errors import AuthorityUnavailable, Cause, ConfigurationError, Denied
from keyfob.base.identifiers import Position, Timeline
from keyfob.revocation.entry import Head, Scope
from keyfob.revocation.event_stream import StreamEvent
from keyfob.verifier import state_file
from keyfob.verifier.verifier import Verifier

HEARTBEAT = timedelta(seconds=0.2)
BOUND = timedelta(seconds=60)
CREDENTIALS = ("orders", "s3cret/+")
TIMELINE = Timeline("5f0c8a1e9d3b7742")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.state"


@pytest.fixture
def follow(server, path, verifier_clock):
    """Follow with a state file; whatever was started is ended."""
    with ExitStack() as stack:

        def following(**options) -> Verifier:
            verifier = Verifier.follow(
                server.issuer,
                **{
                    "audience": "orders",
                    "credentials": CREDENTIALS,
                    "heartbeat": HEARTBEAT,
                    "max_staleness": timedelta(seconds=1),
                    "on_stale": "accept",
                    "accept_within": BOUND,
                    "start_timeout": timedelta(seconds=2),
                    "request_timeout": timedelta(seconds=1),
                    "state_file": path,
                    "start": "stale",
                    "clock": verifier_clock,
                    **options,
                },
            )
            stack.callback(verifier.close)
            return verifier.__enter__()

        yield following


def cause_of(verifier: Verifier, token: str, **options) -> Cause | None:
    try:
        verifier.verify(token, **options)
    except Denied as denied:
        return denied.cause
    return None


@pytest.fixture
def known(server, follow, path, monkeypatch):
    """A token that is good and one that was revoked, and a state file that knows it; the authority is gone."""
    monkeypatch.setattr(state_file, "HEARTBEAT_INTERVAL", 0.0)
    verifier = follow()
    good, ended = server.token(jti="good", sub="alice"), server.token(jti="ended", sub="mallory")
    position = server.revoke(Scope.SUBJECT, "mallory").position
    wait_until(verifier, lambda: verifier.stats().position >= position and verifier.is_level)
    verifier.close()
    server.stop()
    return good, ended


def wait_until(verifier: Verifier, predicate: Callable[[], bool]) -> None:
    verifier._view.wait_for(predicate, timeout=15.0)
    assert predicate()


def test_it_serves_within_its_bound_what_it_knew_before(follow, known):
    good, ended = known
    verifier = follow()
    assert cause_of(verifier, good) is None
    assert cause_of(verifier, ended) is Cause.REVOKED


def test_past_its_bound_it_denies(follow, known, verifier_clock):
    good, ended = known
    verifier = follow()
    verifier_clock.pass_by(BOUND.total_seconds() + 1)
    assert cause_of(verifier, good) is Cause.VERIFIER_STALE
    assert cause_of(verifier, ended) is Cause.REVOKED


def test_the_time_before_the_restart_counts(follow, known, verifier_clock):
    verifier_clock.pass_by(BOUND.total_seconds() + 1)
    verifier = follow()
    assert cause_of(verifier, known[0]) is Cause.VERIFIER_STALE
    assert verifier.staleness > BOUND.total_seconds()


def test_a_route_that_does_not_bear_staleness_denies(follow, known, verifier_clock):
    verifier = follow()
    verifier_clock.pass_by(2)
    assert cause_of(verifier, known[0], on_stale="deny") is Cause.VERIFIER_STALE
    assert not verifier.is_level


def test_a_clock_that_was_put_back_meanwhile_makes_it_no_fresher_than_what_was_signed(
    follow, known, verifier_clock
):
    verifier_clock.wall -= 600
    verifier = follow()
    assert verifier.staleness >= 0
    verifier_clock.pass_by(BOUND.total_seconds() + 1)
    assert cause_of(verifier, known[0]) is Cause.VERIFIER_STALE


def test_when_the_authority_is_back_it_is_level_and_knows_what_it_missed(server, follow, known):
    good, _ = known
    verifier = follow()
    server.revoke(Scope.SUBJECT, "alice")
    assert cause_of(verifier, good) is None
    server.resume()
    wait_until(verifier, lambda: verifier.is_level)
    wait_until(verifier, lambda: cause_of(verifier, good) is Cause.REVOKED)


def test_without_a_file_it_waits_like_any_other(server, follow, path):
    server.stop()
    with pytest.raises(AuthorityUnavailable):
        follow()
    assert not path.exists()


def test_where_the_authority_answers_it_waits_until_it_is_level(server, follow, known):
    server.resume()
    assert follow().is_level


def test_start_level_keeps_the_file_and_does_not_begin_with_it(follow, known):
    with pytest.raises(AuthorityUnavailable):
        follow(start="level")


def test_whoever_does_not_know_the_secret_can_make_it_only_staler(server, known, path):
    """The file altered at many places, and cut anywhere: of its records fewer hold, and those are the first ones."""

    def records(raw: bytes) -> list[state_file.Kept]:
        path.write_bytes(raw)
        file = state_file.StateFile(
            path,
            issuer=server.issuer,
            credentials=CREDENTIALS,
            key_document=lambda: None,
            offset=lambda: 0.0,
            elapsed=lambda: 0.0,
            failed=lambda why: None,
        )
        return list(file.read())

    whole = path.read_bytes()
    all_of_it = records(whole)
    assert len(all_of_it) > 4
    for index in range(0, len(whole), max(1, len(whole) // 200)):
        altered = bytearray(whole)
        altered[index] ^= 1
        for forged in (bytes(altered), whole[:index]):
            found = records(forged)
            assert found == all_of_it[: len(found)]
            assert len(found) < len(all_of_it)


def test_a_file_of_another_client_or_issuer_is_nothing(follow, known):
    with pytest.raises((AuthorityUnavailable, ConfigurationError)):
        follow(credentials=("stock", CREDENTIALS[1]))
    with pytest.raises((AuthorityUnavailable, ConfigurationError)):
        follow(credentials=(CREDENTIALS[0], "another"))


def test_a_file_that_others_may_write_is_not_read_and_said(follow, known, path):
    path.chmod(0o622)
    told = []
    with pytest.raises(AuthorityUnavailable):
        follow(on_event=told.append)
    assert "state_not_kept" in [event.code for event in told]


def test_the_file_is_for_its_owner_alone_and_holds_no_secret(follow, known, path):
    assert path.stat().st_mode & 0o777 == 0o600
    assert CREDENTIALS[1].encode() not in path.read_bytes()


def test_a_second_process_leaves_the_file_of_the_first_alone(server, follow, path):
    first = follow()
    inode = path.stat().st_ino
    second = follow()
    assert second.is_level
    assert path.stat().st_ino == inode
    first.close()
    third = follow()
    assert third.is_level
    assert path.stat().st_ino != inode


def test_a_file_that_has_grown_long_is_begun_anew(server, follow, path, monkeypatch):
    monkeypatch.setattr(state_file, "_LEAST_TAIL", 2_000)
    monkeypatch.setattr(state_file, "HEARTBEAT_INTERVAL", 0.0)
    verifier = follow()
    inode = path.stat().st_ino
    for number in range(40):
        server.revoke(Scope.SUBJECT, f"s{number}")
    wait_until(verifier, lambda: path.stat().st_ino != inode and verifier.is_level)
    assert verifier.stats().resyncs == 0, "that is no fault, and nothing grows stale by it"


def test_a_disk_that_cannot_be_written_stops_keeping_and_nothing_else(server, follow, tmp_path):
    told: list[str] = []
    missing = tmp_path / "nowhere" / "orders.state"
    verifier = follow(state_file=missing, on_event=lambda event: told.append(event.code))
    assert verifier.is_level
    assert "state_not_kept" in told
    assert cause_of(verifier, server.token()) is None


@pytest.mark.parametrize(
    "options",
    [{"start": "stale", "state_file": None}, {"start": "late"}, {"credentials": None}],
)
def test_options_that_do_not_go_together_are_refused(follow, options):
    with pytest.raises(ConfigurationError):
        follow(**options)


def test_a_restart_while_restored_state_is_all_there_is_keeps_the_file(follow, known, path):
    before = path.read_bytes()
    follow().close()
    assert path.read_bytes() == before
    assert cause_of(follow(), known[0]) is None


def test_a_snapshot_that_lacks_what_is_held_does_not_take_the_place_of_the_file(path):
    held, behind = _head(9), _head(8)
    file = state_file.StateFile(
        path,
        issuer="https://auth.example",
        credentials=CREDENTIALS,
        key_document=lambda: b"{}",
        offset=lambda: 0.0,
        elapsed=lambda: 0.0,
        failed=lambda why: pytest.fail(why),
    )
    for head, snapshot in ((behind, behind), (held, behind)):
        file.begin_snapshot()
        file.take_snapshot(repr(head).encode())
        file.begin(head, snapshot=snapshot)
        file.hear(StreamEvent("keys", "x"), head)
    assert [kept.content for kept in file.read() if kept.kind == state_file.PIECE] == [repr(behind).encode()]
    file.close()


def _head(position: int) -> Head:
    return Head(timeline=TIMELINE, position=Position(position), chain=bytes([position]) * 32)
