from __future__ import annotations

import asyncio
import gzip
import os
import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from keyfob.base.errors import AuthorityUnavailable, Cause, ConfigurationError, Denied
from keyfob.base.identifiers import Position, Timeline
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey, jwk_set
from keyfob.revocation import wire
from keyfob.revocation.entry import Entry, Reach, Scope, next_chain
from keyfob.revocation.event_stream import StreamEvent
from keyfob.verifier.feed_reader import FeedBroken
from keyfob.verifier.verifier import Verifier

SECONDS = timedelta(seconds=1)


def cause_of(check, *arguments, **options):
    with pytest.raises(Denied) as denied:
        check(*arguments, **options)
    return denied.value.cause


def reaches(verifier, position):
    return lambda: verifier.stats().position >= position and verifier.is_level


# Revocation arrives


@pytest.mark.parametrize(
    ("scope", "name"),
    [
        (Scope.TOKEN, "j1"),
        (Scope.SESSION, "a" * 32),
        (Scope.SUBJECT, "alice"),
        (Scope.CLIENT, "web"),
        (Scope.EVERYTHING, ""),
    ],
)
def test_a_revoked_credential_is_denied_and_a_new_one_is_not(server, verifier, waits, scope, name):
    old = server.token()
    assert verifier.verify(old).path == "signature"
    assert verifier.verify(old).path == "verdict cache"
    entry = server.revoke(scope, name)
    waits(verifier, reaches(verifier, entry.position))
    assert cause_of(verifier.verify, old) is Cause.REVOKED
    assert cause_of(verifier.verify, old) is Cause.REVOKED
    assert verifier.verify(server.token(jti="j2", as_of=entry.position)).subject == "alice"
    assert verifier.stats().denials == {"revoked": 2}
    assert verifier.stats().lag_count == 1


def test_a_revoked_key_is_denied_whatever_as_of_says(server, verifier, waits):
    entry = server.revoke(Scope.KEY, server.access_key.key_id)
    waits(verifier, reaches(verifier, entry.position))
    assert cause_of(verifier.verify, server.token(as_of=entry.position)) is Cause.REVOKED


def test_changed_claims_are_denied_as_stale(server, verifier, waits):
    old = server.token()
    entry = server.revoke(Scope.SUBJECT, "alice", Reach.CLAIMS)
    waits(verifier, reaches(verifier, entry.position))
    assert cause_of(verifier.verify, old) is Cause.STALE_CLAIMS
    verifier.verify(server.token(as_of=entry.position))


def test_logging_out_the_other_devices_spares_one(server, verifier, waits):
    mine, other = server.token(), server.token(sid="c" * 32, jti="j2")
    entry = server.revoke(Scope.SUBJECT, "alice", spared="a" * 32)
    waits(verifier, reaches(verifier, entry.position))
    verifier.verify(mine)
    assert cause_of(verifier.verify, other) is Cause.REVOKED


def test_what_was_revoked_before_the_verifier_started_is_denied(server, new_verifier):
    old = server.token()
    server.revoke(Scope.SUBJECT, "alice")
    with new_verifier() as verifier:
        assert cause_of(verifier.verify, old) is Cause.REVOKED


async def test_it_works_as_an_asynchronous_context(server, new_verifier):
    async with new_verifier() as verifier:
        assert (await verifier.authenticate(server.token())).subject == "alice"
        assert verifier.is_level
    assert verifier._following is None


def test_a_token_ahead_of_the_verifier_is_taken_but_not_kept_unchecked(server, verifier, waits):
    """Its issuer knew an entry that has not come yet. A head signed later than the token shows a forgery."""
    ahead = server.feed.live.head.position + 5
    token = server.token(as_of=ahead, iat=int(server.clock.time()) - 2)
    verifier.verify(token)
    verifier.verify(token)
    verifier._view.live.confirm(server.clock.now() + 10 * SECONDS)
    assert cause_of(verifier.verify, token) is Cause.REVOKED
    assert verifier.stats().forged_as_of == 1


# Not level


def test_before_it_is_level_everything_is_denied_as_stale(server, new_verifier):
    verifier = new_verifier(on_stale="accept", accept_within=timedelta(hours=1))
    assert not verifier.is_level
    assert verifier.staleness == float("inf")
    assert cause_of(verifier.verify, server.token()) is Cause.VERIFIER_STALE
    assert cause_of(verifier.verify, server.opaque()) is Cause.VERIFIER_STALE
    with pytest.raises(AuthorityUnavailable, match="not started"):
        verifier.wait_until_level()


def test_a_verifier_that_is_cut_off_denies_past_its_staleness_and_says_since_when(
    server, verifier, verifier_clock, waits
):
    token = server.token()
    verifier.verify(token)
    server.stop()
    waits(verifier, lambda: verifier._following.reader.failure is not None)
    verifier.verify(token)
    verifier_clock.pass_by(6)
    assert cause_of(verifier.verify, token) is Cause.VERIFIER_STALE
    verifier.verify(token, max_staleness=timedelta(minutes=1))
    assert cause_of(verifier.verify, token, on_stale="deny") is Cause.VERIFIER_STALE
    with pytest.raises(ConfigurationError, match="upper bound"):
        verifier.verify(token, on_stale="accept")
    server.resume()
    waits(verifier, lambda: verifier.is_level)
    verifier.verify(token)


def test_a_clock_that_slept_or_was_set_ahead_makes_it_stale_until_the_next_round_trip(
    server, verifier, verifier_clock, eventually
):
    token = server.token()
    verifier.verify(token)
    server.hangs = True
    verifier_clock.wall += 100  # a laptop that slept: the boot-time clock of some systems stands still
    assert cause_of(verifier.verify, token) is Cause.VERIFIER_STALE
    server.hangs = False
    eventually(lambda: verifier.is_level)  # upkeep finds the step out, and asks for the time
    verifier.verify(token)


def test_accept_has_a_bound_of_its_own(server, new_verifier, verifier_clock):
    with new_verifier(on_stale="accept", accept_within=timedelta(seconds=60)) as verifier:
        token = server.token()
        server.stop()
        verifier_clock.pass_by(50)
        verifier.verify(token)
        assert cause_of(verifier.verify, token, on_stale="deny") is Cause.VERIFIER_STALE
        verifier_clock.pass_by(11)
        assert cause_of(verifier.verify, token) is Cause.VERIFIER_STALE


def test_a_server_that_hangs_without_closing_is_left_and_followed_anew(server, verifier, waits):
    server.hangs = True
    before = verifier.stats().connections
    waits(verifier, lambda: verifier._following.reader.failure is not None)
    server.hangs = False
    waits(verifier, lambda: verifier.is_level and verifier.stats().connections > before)
    assert verifier.stats().resyncs == 0  # nothing was missing: it resumes where it was


def test_after_a_cut_it_resumes_without_a_snapshot_and_misses_nothing(server, verifier, waits):
    token = server.token()
    server.cut()
    entry = server.revoke(Scope.SUBJECT, "alice")
    waits(verifier, reaches(verifier, entry.position))
    assert cause_of(verifier.verify, token) is Cause.REVOKED
    assert server.asked("/feed/snapshot") == 1


def test_after_a_restart_of_the_authority_it_is_level_again(server, verifier, waits):
    server.stop()
    waits(verifier, lambda: verifier._following.reader.failure is not None)
    entry = server.revoke(Scope.SUBJECT, "alice")
    server.resume()
    waits(verifier, reaches(verifier, entry.position))
    assert cause_of(verifier.verify, server.token(as_of=0)) is Cause.REVOKED


# Faults in the stream: each is found out, denied meanwhile, and mended


class Fault:
    """Tampers once with what is sent, when armed."""

    def __init__(self, server, change):
        self.armed = threading.Event()
        self.done = threading.Event()
        self.change = change
        server.tamper = self.tamper

    def tamper(self, frames):
        if not self.armed.is_set() or self.done.is_set():
            return frames
        changed = self.change(frames)
        if changed != frames:
            self.done.set()
        return changed


def events_in(frames):
    return [event + b"\n\n" for event in frames.split(b"\n\n") if event]


def on_entry(change):
    def changed(frames):
        events = events_in(frames)
        if not any(b"event: entry" in event for event in events):
            return frames
        return b"".join(change(event) if b"event: entry" in event else event for event in events)

    return changed


def flip(event):
    index = event.rindex(b".") + 10
    return event[:index] + (b"A" if event[index : index + 1] != b"A" else b"B") + event[index + 1 :]


def flip_payload(event):
    index = event.index(b".") + 40
    return event[:index] + (b"A" if event[index : index + 1] != b"A" else b"B") + event[index + 1 :]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(on_entry(lambda event: b""), id="gap"),
        pytest.param(on_entry(lambda event: event + event), id="duplicate"),
        pytest.param(on_entry(flip), id="forged signature"),
        pytest.param(on_entry(flip_payload), id="forged payload"),
        pytest.param(on_entry(lambda event: event.replace(b"\n\n", b"")), id="run together"),
        pytest.param(on_entry(lambda event: event[: len(event) // 2] + b"\n\n"), id="truncated"),
        pytest.param(on_entry(lambda event: b"event: entry\ndata: \xff\n\n"), id="no utf-8"),
        pytest.param(on_entry(lambda event: b"event: entry\ndata: x.y.z\n\n"), id="nonsense"),
        pytest.param(on_entry(lambda event: event.replace(b"entry", b"heartbeat")), id="another type"),
        pytest.param(on_entry(lambda event: b"event: resync\ndata: {}\n\n"), id="resync"),
        pytest.param(on_entry(lambda event: b"event: keys\ndata: x\n\n" + event), id="bad keys"),
    ],
)
def test_a_fault_in_the_stream_is_found_out_and_mended(server, new_verifier, waits, change):
    events = []
    verifier = new_verifier(on_event=events.append)
    fault = Fault(server, change)
    with verifier:
        token = server.token()
        verifier.verify(token)
        fault.armed.set()
        server.revoke(Scope.SUBJECT, "bob")
        entry = server.revoke(Scope.SUBJECT, "alice")
        waits(verifier, lambda: fault.done.is_set() and verifier.stats().resyncs > 0)
        waits(verifier, reaches(verifier, entry.position))
        assert cause_of(verifier.verify, token) is Cause.REVOKED
        assert {event.code for event in events} == {"feed_resync"}
        assert server.asked("/feed/snapshot") > 1


def test_while_a_gap_is_mended_the_verifier_is_stale(server, new_verifier, waits):
    verifier = new_verifier()
    fault = Fault(server, on_entry(lambda event: b""))
    with verifier:
        token = server.token()
        verifier.verify(token)
        server.status["/feed/snapshot"] = 503
        fault.armed.set()
        server.revoke(Scope.SUBJECT, "bob")
        waits(verifier, lambda: verifier.stats().resyncs > 0)
        assert verifier.staleness == float("inf")
        assert cause_of(verifier.verify, token) is Cause.VERIFIER_STALE
        del server.status["/feed/snapshot"]
        waits(verifier, lambda: verifier.is_level)
        verifier.verify(token)


def test_reordered_entries_are_found_out(server, new_verifier, waits):
    kept = []

    def swap(frames):
        events = events_in(frames)
        entries = [event for event in events if b"event: entry" in event]
        if entries and not kept:
            kept.append(entries[0])
            return b"".join(event for event in events if event not in entries)
        if entries:
            return entries[0] + kept[0]
        return b"".join(event for event in events if b"heartbeat" not in event)

    fault = Fault(server, swap)
    with new_verifier() as verifier:
        fault.armed.set()
        fault.done.is_set = lambda: len(kept) > 1
        server.revoke(Scope.SUBJECT, "bob")
        threading.Event().wait(0)
        entry = server.revoke(Scope.SUBJECT, "alice")
        waits(verifier, lambda: verifier.stats().resyncs > 0 or verifier.stats().connections > 1)
        server.tamper = lambda frames: frames
        waits(verifier, reaches(verifier, entry.position))
        assert cause_of(verifier.verify, server.token(as_of=0)) is Cause.REVOKED


def test_half_an_event_and_a_lost_connection_lose_nothing(server, new_verifier, waits):
    fault = Fault(server, on_entry(lambda event: event[:40]))
    with new_verifier() as verifier:
        fault.armed.set()
        entry = server.revoke(Scope.SUBJECT, "alice")
        waits(verifier, lambda: fault.done.is_set())
        server.cut()
        waits(verifier, reaches(verifier, entry.position))
        assert cause_of(verifier.verify, server.token(as_of=0)) is Cause.REVOKED


def test_an_entry_that_a_relay_drops_is_found_out_within_a_heartbeat(server, new_verifier, waits):
    events = []
    with new_verifier(on_event=events.append) as verifier:
        server.tamper = on_entry(lambda event: b"")
        server.revoke(Scope.SUBJECT, "alice")
        waits(verifier, lambda: verifier.stats().resyncs > 0)
        assert cause_of(verifier.verify, server.token(as_of=0)) in {Cause.VERIFIER_STALE, Cause.REVOKED}
        assert "feed_forked" not in {event.code for event in events}


def test_unknown_events_are_for_readers_of_a_later_version(server, new_verifier, waits):
    server.tamper = lambda frames: b"event: canary\ndata: x\n\n: comment\n\n" + frames
    with new_verifier() as verifier:
        entry = server.revoke(Scope.SUBJECT, "alice")
        waits(verifier, reaches(verifier, entry.position))
        assert verifier.stats().resyncs == 0


@pytest.mark.parametrize(
    ("typ", "payload"),
    [
        (
            wire.ENTRIES_TYPE,
            lambda server: wire.encode_batch(
                server.issuer, Timeline("another"), list(server.store.feed._state.entries.values())
            ),
        ),
        (
            wire.HEARTBEAT_TYPE,
            lambda server: wire.encode_heartbeat(
                wire.Heartbeat(
                    issuer=server.issuer,
                    head=replace(server.feed.live.head, timeline=Timeline("another")),
                    at=server.clock.now(),
                )
            ),
        ),
        (
            wire.KEYS_TYPE,
            lambda server: wire.encode_keys("https://other.example", server.key_sets, server.clock.now()),
        ),
        (
            wire.ENTRIES_TYPE,
            lambda server: wire.encode_batch(
                "https://other.example",
                server.feed.live.head.timeline,
                list(server.store.feed._state.entries.values()),
            ),
        ),
    ],
)
def test_a_signed_object_that_is_not_of_this_feed_breaks_it(server, verifier, waits, typ, payload):
    entry = server.revoke(Scope.SUBJECT, "bob")
    waits(verifier, reaches(verifier, entry.position))
    names = {wire.ENTRIES_TYPE: "entry", wire.HEARTBEAT_TYPE: "heartbeat", wire.KEYS_TYPE: "keys"}
    signed = jws.sign(payload(server), server.feed_key, typ=typ)
    frame = f"event: {names[typ]}\ndata: {signed}\n\n".encode()
    server.loop.call_soon_threadsafe(server.feed._fan_out.followers.publish, frame)
    waits(verifier, lambda: verifier.stats().resyncs == 1)
    waits(verifier, lambda: verifier.is_level)


def test_entries_that_continue_but_name_another_timeline_break_it(server, verifier):
    head = server.feed.live.head
    fields = {
        "position": Position(head.position + 1),
        "at": server.clock.now(),
        "scope": Scope.SUBJECT,
        "id": "bob",
        "reach": Reach.END,
        "until": None,
        "spared": None,
    }
    entry = Entry(**fields, chain=next_chain(head.chain, **fields))
    payload = wire.encode_batch(server.issuer, Timeline("another"), [entry])
    signed = jws.sign(payload, server.feed_key, typ=wire.ENTRIES_TYPE)
    with pytest.raises(FeedBroken, match="another timeline"):
        verifier._following.reader._hear_entries(StreamEvent("entry", signed))


def test_a_heartbeat_of_a_server_that_is_behind_says_nothing(server, verifier, waits):
    entry = server.revoke(Scope.SUBJECT, "bob")
    waits(verifier, reaches(verifier, entry.position))
    level_at = verifier._view.level_at
    head = replace(server.feed.live.head, position=Position(0))
    beat = wire.Heartbeat(issuer=server.issuer, head=head, at=server.clock.now() + 100 * SECONDS)
    signed = jws.sign(wire.encode_heartbeat(beat), server.feed_key, typ=wire.HEARTBEAT_TYPE)
    verifier._following.reader._hear_heartbeat(StreamEvent("heartbeat", signed))
    assert verifier._view.level_at < level_at + 50


def test_two_histories_of_one_position_are_an_event_and_a_resync(server, new_verifier, waits):
    events = []
    with new_verifier(on_event=events.append) as verifier:
        server.revoke(Scope.SUBJECT, "bob")
        waits(verifier, reaches(verifier, 1))

        def fork():
            state = server.store.feed._state
            state.chain = bytes(32)
            server.feed.live._state = (
                server.feed.live.head.__class__(
                    timeline=server.feed.live.head.timeline, position=Position(1), chain=bytes(32)
                ),
                server.feed.live._state[1],
            )
            server.feed._snapshots._made = None

        server.loop.call_soon_threadsafe(fork)
        waits(verifier, lambda: verifier._view.live.head.chain == bytes(32) and verifier.is_level)
        assert "feed_forked" in {event.code for event in events}


def test_a_server_that_is_behind_is_staleness_and_nothing_is_forgotten(server, new_verifier, waits):
    with new_verifier() as verifier:
        token = server.token()
        server.revoke(Scope.SUBJECT, "bob")
        entry = server.revoke(Scope.SUBJECT, "alice")
        waits(verifier, reaches(verifier, entry.position))
        head = verifier._view.live.head

        def go_back():
            state = server.store.feed._state
            state.position = Position(1)
            state.chain = state.entries[Position(1)].chain
            del state.entries[Position(2)]
            server.feed.live.replace(state.head(), list(state.entries.values()))
            server.feed._snapshots._made = None
            server.feed._fan_out.followers.end_all(b"event: resync\ndata: {}\n\n")

        server.loop.call_soon_threadsafe(go_back)
        waits(verifier, lambda: verifier.stats().resyncs > 1)
        assert verifier._view.live.head == head
        assert not verifier.is_level
        assert cause_of(verifier.verify, token) is Cause.REVOKED
        verifier._view.level_at = verifier._view.last_level_at
        assert cause_of(verifier.verify, token) is Cause.REVOKED


def test_a_new_timeline_is_taken_over_and_all_before_it_is_covered(server, verifier, waits):
    old = server.token()
    verifier.verify(old)

    def renew():
        state = server.store.feed._state
        state.timeline = Timeline("later")
        state.position = Position(2**32)

    server.loop.call_soon_threadsafe(renew)
    waits(verifier, lambda: verifier._view.live.head.timeline == "later" and verifier.is_level)
    assert cause_of(verifier.verify, old) is Cause.REVOKED
    verifier.verify(server.token(jti="j9"))


def test_a_snapshot_of_a_timeline_that_was_left_is_not_taken(server, new_verifier, waits):
    kept = []

    def replay(raw):
        kept.append(raw)
        return kept[0]

    server.tamper_snapshot = replay
    with new_verifier() as verifier:

        def renew():
            state = server.store.feed._state
            state.timeline = Timeline("later")
            state.position = Position(2**32)

        server.tamper_snapshot = lambda raw: raw
        server.loop.call_soon_threadsafe(renew)
        reader = verifier._following.reader
        waits(verifier, lambda: verifier._view.live.head.timeline == "later" and reader.is_level)
        server.tamper_snapshot = replay
        server.loop.call_soon_threadsafe(
            lambda: server.feed._fan_out.followers.end_all(b"event: resync\ndata: {}\n\n")
        )
        waits(verifier, lambda: "left behind" in str(reader.failure))
        assert verifier._view.live.head.timeline == "later"
        assert cause_of(verifier.verify, server.token()) is Cause.VERIFIER_STALE


def test_a_snapshot_that_was_tampered_with_is_never_used(server, new_verifier, waits):
    server.tamper_snapshot = lambda raw: gzip.compress(
        gzip.decompress(raw) + b'["subject","end",[1],[-1],["alice"]]\n'
    )
    verifier = new_verifier()
    verifier.start()
    waits(verifier, lambda: verifier.stats().resyncs > 0)
    assert not verifier.is_level
    server.tamper_snapshot = lambda raw: raw
    waits(verifier, lambda: verifier.is_level)
    verifier.verify(server.token())


@pytest.mark.meets("10.5.3", "8414-3.3")
def test_a_feed_of_another_issuer_is_never_followed(server, new_verifier, waits):
    server.run(asyncio.sleep(0))
    server.feed._frames.issuer = "https://other.example"
    verifier = new_verifier(start_timeout=timedelta(seconds=0.3))
    with pytest.raises(AuthorityUnavailable, match="exactly as it calls itself"), verifier:
        pass


def test_key_sets_in_a_signed_snapshot_that_cannot_be_used_break_it(server, new_verifier, waits):
    key_sets, document = server.key_sets, server.feed.key_document()
    server.key_document = lambda: document
    server.key_sets = replace(key_sets, access={"keys": []})
    verifier = new_verifier()
    verifier.start()
    waits(verifier, lambda: verifier.stats().resyncs > 0)
    assert not verifier.is_level
    server.key_sets = key_sets
    waits(verifier, lambda: verifier.is_level)


def test_a_time_step_while_the_authority_is_away_is_tried_again(server, verifier, verifier_clock):
    server.status["/feed/time"] = 503
    verifier_clock.wall += 100
    upkeep = verifier._following.upkeep
    asked = server.asked("/feed/time")
    upkeep.run_due()
    upkeep.run_due()
    assert server.asked("/feed/time") >= asked + 2
    assert not verifier.is_level
    del server.status["/feed/time"]
    upkeep.run_due()
    assert verifier._view.time.offset == pytest.approx(-100, abs=5)


def test_locks_are_made_anew_and_what_the_parent_noted_is_forgotten_after_a_fork(server, verifier):
    verifier._uses.note("s1", 1.0)
    verifier.verify(server.token())
    verifier._view._changed.acquire()
    verifier._forget_threads()
    assert len(verifier._uses) == 0
    assert verifier.stats().verdicts == 0
    verifier._view.wake()


def test_a_check_in_another_process_starts_threads_of_its_own(server, verifier):
    following = verifier._following
    verifier._process = -1
    verifier.verify(server.token())
    assert verifier._following is not following
    following.close()


def test_objects_of_another_issuer_under_the_right_key_break_the_feed(server, new_verifier, waits):
    with new_verifier() as verifier:
        issuer = server.issuer
        for _ in range(2):
            resyncs = verifier.stats().resyncs
            server.feed._frames.issuer = "https://other.example"
            server.key_document = lambda: wire.encode_key_document(issuer, server.key_sets)
            waits(verifier, lambda known=resyncs: verifier.stats().resyncs > known)
            assert not verifier.is_level
            server.feed._frames.issuer = issuer
            server.feed._snapshots._made = None
            waits(verifier, lambda: verifier.is_level)


# Time


@pytest.mark.parametrize("minutes", [10, -10])
def test_a_clock_that_is_minutes_off_changes_nothing(server, new_verifier, verifier_clock, minutes):
    verifier_clock.wall = minutes * 60
    with new_verifier() as verifier:
        verifier.verify(server.token())
        token = server.token(exp=int(server.clock.time()) - 1)
        assert cause_of(verifier.verify, token) is Cause.EXPIRED
        assert verifier.stats().clock_offset == pytest.approx(-minutes * 60, abs=5)
        assert verifier.staleness < 5
        token = server.token(jti="j3")
        verifier.verify(token)
        verifier_clock.pass_by(601)
        assert cause_of(verifier.verify, token) is Cause.EXPIRED


def test_a_time_that_is_not_for_this_request_is_not_believed(server, new_verifier):
    first = []

    def replay(raw):
        first.append(raw)
        return first[0]

    with new_verifier() as verifier:
        server.tamper_time = replay
        verifier._following.reader.learn_time()
        with pytest.raises(AuthorityUnavailable, match="not for this request"):
            verifier._following.reader.learn_time()
        for forged in (b"x", b"\xff", b"a.b.c"):
            server.tamper_time = lambda raw, forged=forged: forged
            with pytest.raises(AuthorityUnavailable):
                verifier._following.reader.learn_time()


def test_a_time_that_takes_too_long_is_not_believed(server, new_verifier, verifier_clock):
    with new_verifier() as verifier:

        def slow(raw):
            verifier_clock.boot += 2.1
            return raw

        server.tamper_time = slow
        with pytest.raises(AuthorityUnavailable, match="too long"):
            verifier._following.reader.learn_time()


# Keys


def test_new_keys_come_with_the_feed(server, verifier, waits):
    server.access_key = PrivateKey.generate(Algorithm.ES256)
    token = server.token()
    assert cause_of(verifier.verify, token) is Cause.UNKNOWN_KEY
    server.key_sets = server.sets()
    waits(verifier, lambda: server.access_key.key_id in verifier._keys.access)
    verifier.verify(token)


def test_a_key_that_was_taken_away_takes_its_verdicts_with_it(server, verifier, waits):
    token = server.token()
    verifier.verify(token)
    verifier.verify(token)
    server.access_key = PrivateKey.generate(Algorithm.ES256)
    server.key_sets = server.sets()
    waits(verifier, lambda: server.access_key.key_id in verifier._keys.access)
    assert cause_of(verifier.verify, token) is Cause.UNKNOWN_KEY


def test_a_key_taken_away_while_a_token_is_checked_leaves_no_verdict(server, verifier, monkeypatch):
    token = server.token()
    put = verifier._checker.verdicts.__class__.put

    def racing(cache, text, verdict):
        put(cache, text, verdict)
        verifier._keys.access = dict(verifier._keys.access)

    monkeypatch.setattr(verifier._checker.verdicts.__class__, "put", racing)
    verifier.verify(token)
    assert verifier._checker.verdicts.get(token) is None


@pytest.mark.meets("JWKS-cache")
def test_unknown_keys_cause_one_fetch_in_thirty_seconds(server, verifier, verifier_clock):
    other = PrivateKey.generate(Algorithm.ES256)
    real, server.access_key = server.access_key, other
    token = server.token()
    server.access_key = real
    upkeep = verifier._following.upkeep
    before = server.asked("/feed/keys")
    for _ in range(3):
        assert cause_of(verifier.verify, token) is Cause.UNKNOWN_KEY
        upkeep.run_due()
    assert server.asked("/feed/keys") == before + 1
    verifier_clock.boot += 30
    verifier_clock.wall += 30
    upkeep.run_due()
    assert server.asked("/feed/keys") == before + 2
    upkeep.run_due()
    assert server.asked("/feed/keys") == before + 2


def test_the_feed_key_can_change(server, verifier, waits):
    """The next one is announced under the one before; whoever missed that finds it over TLS."""
    old = server.feed_key
    new = PrivateKey.generate(Algorithm.EDDSA)
    server.key_sets = wire.KeySets(
        access=jwk_set([server.access_key.public]), feed=jwk_set([old.public, new.public])
    )
    waits(verifier, lambda: new.key_id in verifier._keys.feed)
    server.feed_key = new
    entry = server.revoke(Scope.SUBJECT, "bob")
    waits(verifier, reaches(verifier, entry.position))
    assert verifier.stats().resyncs == 0
    server.feed_key = PrivateKey.generate(Algorithm.EDDSA)
    server.key_sets = server.sets()
    entry = server.revoke(Scope.SUBJECT, "carol")
    waits(verifier, reaches(verifier, entry.position))
    assert verifier.stats().resyncs > 0


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        wire.encode_key_document("{issuer}", wire.KeySets(access={"keys": []}, feed={"keys": []})),
        wire.encode_key_document(
            "{issuer}", wire.KeySets(access={"keys": [{"kty": "oct", "k": "AAAA"}]}, feed={"keys": []})
        ),
        wire.encode_key_document("{issuer}", wire.KeySets(access={"keys": 1}, feed={"keys": []})),
        b"x" * (512 * 1024 + 1),
    ],
)
def test_keys_that_cannot_be_used_are_refused(server, new_verifier, document):
    server.key_document = lambda: document.replace(b"{issuer}", server.issuer.encode())
    verifier = new_verifier(start_timeout=timedelta(seconds=0.3))
    with pytest.raises(AuthorityUnavailable, match="not level"), verifier:
        pass


# Starting


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_say_which_scope_is_wanted(server, new_verifier, status):
    server.status["/feed/snapshot"] = status
    with pytest.raises(ConfigurationError, match="scope keyfob:feed"), new_verifier():
        pass


def test_wrong_or_no_credentials_are_named_but_never_shown(server, new_verifier):
    with pytest.raises(ConfigurationError, match="client 'orders'") as refused:
        new_verifier(credentials=("orders", "wr0ng-secret")).__enter__()
    assert "wr0ng" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="without credentials"):
        new_verifier(credentials=None).__enter__()


@pytest.mark.parametrize(("status", "said"), [(404, "is the issuer the address"), (302, "302"), (500, "500")])
def test_an_address_that_is_no_authority_says_what_to_look_at(server, new_verifier, status, said):
    server.status["/feed/keys"] = status
    verifier = new_verifier(start_timeout=timedelta(seconds=0.3))
    with pytest.raises(AuthorityUnavailable, match=said), verifier:
        pass
    assert verifier._following is None


def test_an_authority_that_is_not_there_says_so(server, new_verifier):
    server.stop()
    verifier = new_verifier(start_timeout=timedelta(seconds=0.3))
    with pytest.raises(AuthorityUnavailable, match="is the authority running"), verifier:
        pass
    server.resume()


def test_a_ca_file_that_is_not_there_is_a_configuration_error(server, new_verifier):
    with pytest.raises(ConfigurationError, match="ca="):
        new_verifier(ca="/nowhere/ca.pem").start()


@pytest.mark.meets("7662-R018")
def test_over_tls_only_the_given_ca_is_trusted(tls_server):
    options = {"audience": "orders", "credentials": ("orders", "s3cret/+"), "heartbeat": SECONDS / 5}
    with Verifier.follow(tls_server.issuer, ca=tls_server.certificate, **options) as verifier:
        verifier.verify(tls_server.token())
    stranger = Verifier.follow(tls_server.issuer, start_timeout=SECONDS / 2, **options)
    with pytest.raises(AuthorityUnavailable, match="certificate"), stranger:
        pass


def test_start_and_close_twice_are_once_and_it_starts_again(server, new_verifier, waits):
    verifier = new_verifier()
    verifier.start()
    following = verifier._following
    verifier.start()
    assert verifier._following is following
    verifier.wait_until_level()
    verifier.close()
    verifier.close()
    verifier.start()
    verifier.wait_until_level()
    verifier.verify(server.token())


def test_after_the_last_level_moment_a_closed_verifier_denies(server, verifier, verifier_clock):
    token = server.token()
    verifier.verify(token)
    verifier.close()
    verifier_clock.pass_by(6)
    assert cause_of(verifier.verify, token) is Cause.VERIFIER_STALE


def test_a_verifier_without_a_feed_cannot_start(server):
    verifier = Verifier.from_jwks(server.key_sets.access, issuer=server.issuer, audience="orders")
    with pytest.raises(ConfigurationError, match=r"Verifier\.follow"):
        verifier.start()


def test_a_forked_child_follows_the_feed_with_a_reader_of_its_own(server, new_verifier, waits):
    verifier = new_verifier()
    verifier.start()
    verifier.wait_until_level()
    token = server.token()
    verifier.verify(token)
    verifier._view.live._lock.acquire()  # as if another thread held it at this moment
    to_parent, from_child = os.pipe()
    child = os.fork()
    if child == 0:
        os._exit(_in_child(verifier, token, from_child))
    verifier._view.live._lock.release()
    assert os.read(to_parent, 1) == b"1"
    server.revoke(Scope.SUBJECT, "alice")
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    waits(verifier, reaches(verifier, 1))
    assert cause_of(verifier.verify, token) is Cause.REVOKED


def _in_child(verifier, token, pipe):
    try:
        verifier.verify(token)
        verifier.wait_until_level()
        os.write(pipe, b"1")
        verifier._view.wait_for(lambda: verifier.stats().position >= 1, timeout=15)
        return 0 if cause_of(verifier.verify, token) is Cause.REVOKED else 3
    except (Denied, AuthorityUnavailable, AssertionError, OSError):
        return 4


def test_a_verifier_that_is_gone_is_not_kept_by_the_fork_hook(server, new_verifier):
    import gc
    import weakref

    verifier = Verifier.follow(server.issuer, audience="orders")
    verifier.start()
    verifier.close()
    alive = weakref.ref(verifier)
    del verifier
    gc.collect()
    assert alive() is None
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


# In threads


def test_many_threads_verify_while_entries_come(server, verifier, waits):
    tokens = [server.token(sub=f"user{number}", sid=None, jti=f"j{number}") for number in range(20)]
    wrong = []
    done = threading.Event()

    def check():
        while not done.is_set():
            for token in tokens:
                try:
                    verifier.verify(token)
                except Denied as denied:
                    if denied.cause not in {Cause.REVOKED, Cause.VERIFIER_STALE}:
                        wrong.append(denied)

    threads = [threading.Thread(target=check) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(20):
        entry = server.revoke(Scope.SUBJECT, f"user{number}")
    waits(verifier, reaches(verifier, entry.position))
    done.set()
    for thread in threads:
        thread.join(15)
    assert wrong == []
    assert all(cause_of(verifier.verify, token) is Cause.REVOKED for token in tokens)
