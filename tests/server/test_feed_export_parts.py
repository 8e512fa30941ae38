"""What an exporter keeps and writes, without a network: entries in clear, moments, files."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from keyfob.base.errors import ConfigurationError
from keyfob.base.identifiers import Issuer, Position, SessionId, Timeline
from keyfob.revocation import wire
from keyfob.revocation.canary import canary_id
from keyfob.revocation.entry import CHAIN_START, Entry, Head, Reach, Scope
from keyfob.revocation.event_stream import StreamEvent
from keyfob.revocation.snapshot import encode_body
from keyfob.server.export.envoy_routes import envoy_routes
from keyfob.server.export.export import Exporter, Order
from keyfob.server.export.exported import Exported, as_json
from keyfob.server.export.known_entries import KnownEntries
from keyfob.server.export.nginx_map import as_nginx_map
from keyfob.server.gateway.settings import GatewaySettings
from keyfob.testing.frozen_clock import FrozenClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE, OTHER = Timeline("one"), Timeline("other")


def entry(
    position: int, name: str = "", *, scope: Scope = Scope.SESSION, lives: float | None = None
) -> Entry:
    return Entry(
        position=Position(position),
        at=NOW,
        scope=scope,
        id=name or f"{position:032x}",
        reach=Reach.END,
        until=None if lives is None else NOW + timedelta(seconds=lives),
        chain=CHAIN_START,
    )


def event(name: str, payload: bytes) -> StreamEvent:
    from keyfob.base import base64url

    return StreamEvent(name, f"head.{base64url.encode(payload)}.signature")


def entries_event(*entries: Entry, timeline: Timeline = ONE) -> StreamEvent:
    return event("entry", wire.encode_batch(Issuer("https://a.example"), timeline, entries))


def heartbeat(at: datetime, position: int, timeline: Timeline = ONE) -> StreamEvent:
    head = Head(timeline=timeline, position=Position(position), chain=CHAIN_START)
    return event(
        "heartbeat", wire.encode_heartbeat(wire.Heartbeat(issuer="https://a.example", head=head, at=at))
    )


def head(position: int, timeline: Timeline = ONE) -> Head:
    return Head(timeline=timeline, position=Position(position), chain=CHAIN_START)


def begin(known: KnownEntries, *entries: Entry, at: Head, held: Head | None = None) -> None:
    known.begin_snapshot()
    raw = b"head.of.it\n" + encode_body(entries).lines
    for start in range(0, len(raw), 7):
        known.take_snapshot(raw[start : start + 7])
    known.begin(held or at, snapshot=at)


def positions(known: KnownEntries, now: datetime = NOW) -> list[int]:
    return [each.position for each in known.known(now).entries]


def test_it_knows_the_snapshot_and_what_came_after() -> None:
    known = KnownEntries()
    begin(known, entry(1), entry(3, "usr_a", scope=Scope.SUBJECT), at=head(3))
    known.hear(entries_event(entry(4), entry(5, canary_id(7))), head(5))
    assert positions(known) == [1, 3, 4]
    assert known.known(NOW).position == 5


def test_before_a_heartbeat_it_was_never_level() -> None:
    known = KnownEntries()
    begin(known, entry(1), at=head(1))
    assert known.known(NOW).level_at is None
    assert not known.leveled.is_set()
    known.hear(heartbeat(NOW, 1), head(1))
    known.hear(heartbeat(NOW - timedelta(seconds=5), 1), head(1))
    assert known.known(NOW).level_at == NOW
    assert known.leveled.is_set()


def test_at_its_end_an_entry_is_forgotten() -> None:
    known = KnownEntries()
    begin(known, entry(1, lives=10), entry(2), at=head(2))
    assert positions(known, NOW + timedelta(seconds=9.9)) == [1, 2]
    assert positions(known, NOW + timedelta(seconds=10)) == [2]
    assert positions(known) == [2]


def test_a_snapshot_that_did_not_end_leaves_nothing() -> None:
    known = KnownEntries()
    known.begin_snapshot()
    known.take_snapshot(b"head\n" + encode_body([entry(1)]).lines)
    begin(known, entry(2), at=head(2))
    assert positions(known) == [2]


def test_within_a_timeline_what_was_revoked_stays_and_in_another_it_is_gone() -> None:
    known = KnownEntries()
    begin(known, entry(1), entry(2), at=head(2))
    known.hear(heartbeat(NOW, 2), head(2))
    begin(known, entry(2), entry(3), at=head(3))
    assert positions(known) == [1, 2, 3]
    begin(known, entry(9), at=head(9, OTHER))
    now = known.known(NOW)
    assert ([each.position for each in now.entries], now.timeline, now.level_at) == ([9], "other", None)


def test_a_server_that_is_behind_takes_nothing_away() -> None:
    known = KnownEntries()
    begin(known, entry(1), at=head(1))
    known.hear(entries_event(entry(2)), head(2))
    begin(known, entry(1), at=head(1), held=head(2))
    assert (positions(known), known.known(NOW).position) == ([1, 2], 2)


# The exporter


class Follower:
    """An exporter whose feed the test is."""

    def __init__(self, order: Order, **settings: Any) -> None:
        self.clock = FrozenClock()
        self.exporter = Exporter(
            GatewaySettings(
                authority="https://a.example",
                credentials=("x", "y"),
                max_staleness=timedelta(seconds=60),
                **settings,
            ),
            order,
            clock=self.clock,
            on_event=lambda _event: None,
        )
        self.known = self.exporter._entries
        begin(self.known, entry(1), at=head(1))

    def level(self) -> None:
        self.known.hear(heartbeat(self.clock.now(), 1), head(1))

    def keep_current(self) -> None:
        self.exporter.keep_current()

    def close(self) -> None:
        self.exporter.close()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "live.json"


@pytest.fixture
def follower(out: Path):
    follower = Follower(Order(write=as_json, out=out, command=None))
    yield follower
    follower.close()


def read(out: Path) -> dict[str, Any]:
    return json.loads(out.read_bytes())


def test_what_was_never_level_lets_nothing_through(follower: Follower, out: Path) -> None:
    follower.keep_current()
    assert read(out)["level"] is False
    follower.level()
    follower.keep_current()
    assert read(out)["level"] is True


def test_a_file_is_renewed_when_half_of_its_time_is_over_and_says_until_when_it_is_good(
    follower: Follower, out: Path
) -> None:
    follower.level()
    follower.keep_current()
    first = read(out)
    assert first["good_until"] - first["level_at"] == 60_000_000
    follower.clock.advance(29)
    follower.level()
    follower.keep_current()
    assert read(out) == first
    follower.clock.advance(1)
    follower.level()
    follower.keep_current()
    assert read(out)["good_until"] == first["good_until"] + 30_000_000


@pytest.mark.parametrize(("seconds", "level"), [(59.9, True), (60, False), (61, False)])
def test_cut_off_for_as_long_as_it_bears_it_lets_nothing_through(
    follower: Follower, out: Path, seconds: float, level: bool
) -> None:
    follower.level()
    follower.keep_current()
    follower.clock.advance(seconds)
    follower.keep_current()
    assert read(out)["level"] is level
    assert read(out)["entries"]


def test_what_changes_nothing_writes_nothing(follower: Follower, out: Path) -> None:
    follower.level()
    follower.keep_current()
    before = out.stat().st_ino
    follower.known.hear(entries_event(entry(2, canary_id(1))), head(2))
    follower.keep_current()
    assert out.stat().st_ino == before
    follower.known.hear(entries_event(entry(3)), head(3))
    follower.keep_current()
    assert out.stat().st_ino != before
    assert [each["position"] for each in read(out)["entries"]] == [1, 3]


def test_the_file_is_for_owner_and_group(follower: Follower, out: Path) -> None:
    follower.keep_current()
    assert out.stat().st_mode & 0o007 == 0


def test_a_command_is_told_of_each_file_and_told_again_until_it_succeeds(
    out: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("KEYFOB_CLIENT_SECRET", "not for others")
    told, gate = tmp_path / "told", tmp_path / "gate"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\nenv >> {tmp_path}/environment\ntest -e {gate} && echo told >> {told}\n")
    script.chmod(0o755)
    follower = Follower(Order(write=as_json, out=out, command=str(script)))
    follower.level()
    for _ in range(2):
        follower.keep_current()
    assert not told.exists()
    gate.touch()
    for _ in range(3):
        follower.keep_current()
    assert told.read_text() == "told\n"
    assert "KEYFOB" not in (tmp_path / "environment").read_text()
    follower.close()


@pytest.mark.parametrize("command", ["/no/such/program", "false", "a 'quote that does not end"])
def test_a_command_that_cannot_be_run_has_told_nobody(out: Path, command: str) -> None:
    follower = Follower(Order(write=as_json, out=out, command=command))
    follower.keep_current()
    assert follower.exporter._is_told is False
    follower.close()


def test_a_link_at_the_new_file_is_not_followed(follower: Follower, out: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    out.with_name(out.name + ".new").symlink_to(victim)
    with pytest.raises(ConfigurationError, match="cannot write"):
        follower.keep_current()
    assert victim.read_text() == "mine"


def test_by_the_clock_of_this_machine_a_file_is_good_no_longer(follower: Follower, out: Path) -> None:
    """nginx compares with its own clock: an authority that is an hour ahead must not lend the file an hour."""
    follower.exporter._view.time = SimpleNamespace(
        offset=3600.0, now=lambda: follower.clock.time() + 3600.0, has_stepped=lambda: False
    )
    follower.known.hear(heartbeat(follower.clock.now() + timedelta(hours=1), 1), head(1))
    follower.keep_current()
    good_until = read(out)["good_until"] / 1e6
    assert read(out)["level"] is True
    assert good_until == pytest.approx(follower.clock.time() + 60, abs=0.01)


# The formats


@pytest.mark.parametrize(
    "template",
    [
        b"",
        b"[]",
        b"{}",
        b'{"virtual_hosts": 1}',
        b'{"virtual_hosts": [{"routes": ["x"]}]}',
        b'{"virtual_hosts": [{"routes": [{"name": "other"}]}]}',
    ],
)
def test_a_template_without_a_place_for_denials_is_refused(template: bytes) -> None:
    with pytest.raises(ConfigurationError, match="template"):
        envoy_routes(template)


@pytest.mark.parametrize("write", [as_json, as_nginx_map])
def test_the_same_knowledge_gives_the_same_bytes(write: Any) -> None:
    exported = Exported(
        issuer="https://a.example",
        timeline="one",
        position=3,
        entries=(entry(1), entry(2, "a", scope=Scope.SUBJECT), entry(3, "A", scope=Scope.SUBJECT)),
        level_at=NOW,
        good_until=NOW,
        is_level=True,
    )
    assert write(exported) == write(exported)


def test_ids_that_differ_in_nothing_but_case_are_one_line_for_nginx() -> None:
    """nginx refuses a map with two of them."""
    exported = Exported(
        issuer="https://a.example",
        timeline="one",
        position=3,
        entries=(entry(2, "aB", scope=Scope.SUBJECT), entry(3, "Ab", scope=Scope.SUBJECT)),
        level_at=NOW,
        good_until=NOW,
        is_level=True,
    )
    assert (
        as_nginx_map(exported).decode().count('"iab" ";0000000000000000003,-;"')
        + as_nginx_map(exported).decode().count('"iab" ";0000000000000000003,-"')
        == 1
    )


def test_spared_sessions_that_are_no_session_ids_are_not_written() -> None:
    from dataclasses import replace

    odd = replace(entry(2, "a", scope=Scope.SUBJECT), spared=SessionId('"; } evil'))
    exported = Exported(
        issuer="https://a.example",
        timeline="one",
        position=2,
        entries=(odd,),
        level_at=NOW,
        good_until=NOW,
        is_level=True,
    )
    assert "evil" not in as_nginx_map(exported).decode()
