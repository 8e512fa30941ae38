from __future__ import annotations

import gzip
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyfob.base.clock import from_micros
from keyfob.base.identifiers import Position, SessionId, Timeline
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey
from keyfob.revocation import snapshot as snapshots
from keyfob.revocation import wire
from keyfob.revocation.entry import CHAIN_START, Entry, Head, Reach, Scope
from keyfob.revocation.entry_table import until_seconds
from keyfob.revocation.event_stream import MAX_EVENT, EventStreamReader, StreamEvent, encode_event
from keyfob.revocation.snapshot import SnapshotLines, SnapshotReader, encode_body, pack
from keyfob.revocation.wire import KeySets, SnapshotHead, WireError
from keyfob.testing.frozen_clock import START

ISSUER = "https://auth.example"
HEAD = Head(timeline=Timeline("t1"), position=Position(7), chain=bytes(range(32)))
KEY_SETS = KeySets(access={"keys": [{"kid": "a"}]}, feed={"keys": []})
KEY = PrivateKey.generate(Algorithm.EDDSA)
KEYS = {KEY.key_id: KEY.public}


def sign(payload, typ):
    return jws.sign(payload, KEY, typ=typ)


def verified(text, typ):
    return jws.verify(text, KEYS, typ=typ, limit=wire.MAX_SIGNED)


moments = st.integers(0, 4 * 10**15).map(from_micros)
texts = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=20)
entries = st.lists(
    st.builds(
        lambda at, scope, name, reach, until, spared, chain: Entry(
            position=Position(1),
            at=at,
            scope=scope,
            id="" if scope is Scope.EVERYTHING else name,
            reach=reach,
            until=until,
            chain=chain,
            spared=spared and SessionId(spared),
        ),
        moments,
        st.sampled_from(Scope),
        texts,
        st.sampled_from(Reach),
        st.none() | moments,
        st.none() | texts,
        st.binary(min_size=32, max_size=32),
    ),
    min_size=1,
    max_size=8,
)


def numbered(drawn):
    from dataclasses import replace

    return [replace(entry, position=Position(number)) for number, entry in enumerate(drawn, 1)]


@settings(max_examples=50)
@given(entries)
def test_a_batch_reads_as_it_was_written(drawn):
    drawn = numbered(drawn)
    batch = wire.decode_batch(wire.encode_batch(ISSUER, Timeline("t1"), drawn))
    assert (batch.issuer, batch.timeline, list(batch.entries)) == (ISSUER, "t1", drawn)


def test_the_members_of_an_entry_are_those_of_the_contract():
    import json

    entry = numbered([one_entry()])[0]
    written = json.loads(wire.encode_batch(ISSUER, Timeline("t1"), [entry]))["entries"][0]
    assert list(written) == ["position", "at", "scope", "id", "reach", "chain", "until", "except"]


def one_entry(**changes):
    fields = {
        "position": Position(1),
        "at": START,
        "scope": Scope.SUBJECT,
        "id": "alice",
        "reach": Reach.END,
        "until": START,
        "chain": CHAIN_START,
        "spared": SessionId("s1"),
    }
    return Entry(**{**fields, **changes})


def test_heartbeat_keys_time_and_key_document_read_as_they_were_written():
    heartbeat = wire.Heartbeat(issuer=ISSUER, head=HEAD, at=START)
    assert wire.decode_heartbeat(wire.encode_heartbeat(heartbeat)) == heartbeat
    notice = wire.decode_keys(wire.encode_keys(ISSUER, KEY_SETS, START))
    assert (notice.issuer, notice.key_sets, notice.at) == (ISSUER, KEY_SETS, START)
    signed = wire.SignedTime(issuer=ISSUER, nonce="n" * 16, at=START)
    assert wire.decode_time(wire.encode_time(signed)) == signed
    assert wire.decode_key_document(wire.encode_key_document(ISSUER, KEY_SETS)) == (ISSUER, KEY_SETS)


@settings(max_examples=100)
@given(st.binary(max_size=60) | st.sampled_from([b"[]", b"{}", b'{"iss":1}', b"[" * 2_000]))
def test_anything_else_is_refused_with_our_error(payload):
    for decode in (
        wire.decode_batch,
        wire.decode_heartbeat,
        wire.decode_keys,
        wire.decode_time,
        wire.decode_key_document,
        wire.decode_snapshot_head,
    ):
        with pytest.raises(WireError):
            decode(payload)


@pytest.mark.parametrize(
    "wrong",
    [
        {"position": -1},
        {"position": wire.MAX_POSITION + 1},
        {"chain": "AA"},
        {"chain": "=" * 43},
        {"time": 10**30},
        {"time": -(10**30)},
    ],
)
def test_impossible_members_are_refused(wrong):
    import json

    payload = json.loads(wire.encode_heartbeat(wire.Heartbeat(issuer=ISSUER, head=HEAD, at=START)))
    with pytest.raises(WireError):
        wire.decode_heartbeat(json.dumps({**payload, **wrong}).encode())


def test_the_largest_position_is_read():
    head = Head(timeline=Timeline("t1"), position=Position(wire.MAX_POSITION), chain=bytes(32))
    heartbeat = wire.Heartbeat(issuer=ISSUER, head=head, at=START)
    assert wire.decode_heartbeat(wire.encode_heartbeat(heartbeat)).head == head


def test_a_batch_has_one_to_256_entries():
    for count, is_read in ((0, False), (1, True), (wire.MAX_BATCH, True), (wire.MAX_BATCH + 1, False)):
        payload = wire.encode_batch(ISSUER, Timeline("t1"), [one_entry()] * count)
        if is_read:
            assert len(wire.decode_batch(payload).entries) == count
        else:
            with pytest.raises(WireError):
                wire.decode_batch(payload)


def test_a_full_batch_of_the_longest_ids_fits_into_a_signed_object_and_an_event():
    batch = [one_entry(id="\U0001f511" * 255, spared=SessionId("f" * 32))] * wire.MAX_BATCH
    text = sign(wire.encode_batch(ISSUER, Timeline("t1"), batch), wire.ENTRIES_TYPE)
    assert len(text) < min(wire.MAX_SIGNED, MAX_EVENT)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("t1:7", ("t1", 7)),
        ("a:b:0", ("a:b", 0)),
        ("t1:", None),
        (":7", None),
        ("7", None),
        ("", None),
        ("t1:-1", None),
        ("t1:+1", None),
        ("t1:٣", None),
        ("t1:1 ", None),
        ("t1:" + "9" * 19, ("t1", 10**19 - 1)),
        ("t1:" + "9" * 20, None),
    ],
)
def test_an_event_id_is_a_timeline_and_a_position(text, parsed):
    assert wire.parse_event_id(text) == parsed
    if parsed is not None:
        assert wire.event_id(*parsed) == text


# The event stream


single_lines = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\u2028"), max_size=9
)
events = st.builds(
    StreamEvent,
    st.sampled_from(["entry", "keys", "heartbeat"]),
    single_lines.filter(lambda text: text and not text.startswith(" ")),
    st.sampled_from(["", "t:1"]),
)


@settings(max_examples=100)
@given(st.lists(events, max_size=5), st.integers(1, 7))
def test_a_stream_reads_the_same_in_pieces_of_any_size(written, size):
    raw = b"".join(map(encode_event, written))
    reader = EventStreamReader()
    read = []
    for start in range(0, len(raw), size):
        read += reader.feed(raw[start : start + size])
    assert read == written


def test_half_an_event_is_none_and_comments_and_unknown_fields_are_passed_over():
    reader = EventStreamReader()
    assert list(reader.feed(b": hello\n\nretry: 5\nevent: keys\ndata:x\n\nevent: entry\ndata: y")) == [
        StreamEvent("keys", "x")
    ]


def test_an_event_may_be_as_long_as_the_limit_and_no_longer():
    fitting = b"data: " + b"x" * (MAX_EVENT - 6)
    assert len(list(EventStreamReader().feed(fitting + b"\n\n"))) == 1
    with pytest.raises(ValueError, match="too long"):
        list(EventStreamReader().feed(fitting + b"x\n\n"))
    with pytest.raises(ValueError, match="too long"):
        list(EventStreamReader().feed(fitting + b"xx"))
    assert list(EventStreamReader().feed(fitting)) == []


def test_an_event_that_is_no_utf8_is_refused():
    with pytest.raises(ValueError):
        list(EventStreamReader().feed(b"data: \xff\n\n"))


# The snapshot


def packed(drawn):
    body = encode_body(drawn)
    head = SnapshotHead(
        issuer=ISSUER,
        head=HEAD,
        at=START,
        count=body.count,
        digest=body.digest,
        key_sets=KEY_SETS,
    )
    return pack(head, body, sign=sign)


def read(raw, *, size=50):
    reader = SnapshotReader(verified)
    for start in range(0, len(raw), size):
        reader.feed(raw[start : start + size])
    return reader.finish()


@settings(max_examples=50)
@given(entries)
def test_a_snapshot_reads_as_it_was_written(drawn):
    drawn = numbered(drawn)
    snapshot = read(gzip.decompress(packed(drawn)))
    assert snapshot.head.head == HEAD
    assert snapshot.head.at == START
    assert snapshot.head.count == len(drawn)
    assert snapshot.head.key_sets == KEY_SETS
    from keyfob.revocation.entry_table import EntryTable

    assert len(snapshot.table) == len(EntryTable.of(drawn))


@settings(max_examples=50)
@given(entries)
def test_its_lines_are_the_entries_that_were_written(drawn):
    raw, lines, found = gzip.decompress(packed(drawn)), SnapshotLines(), []
    for start in range(0, len(raw), 50):
        found += lines.feed(raw[start : start + 50])

    def said(one):
        # Rounded up to a second, so that nobody drops an entry too early.
        until = -1 if one.until is None else until_seconds(one.until)
        return one.position, one.scope, one.id, one.reach, one.spared or "", until

    assert sorted(map(said, found)) == sorted(map(said, drawn))


def test_a_snapshot_covers_what_its_entries_cover(history, holder):
    history.add(Scope.SESSION, "s1")
    history.add(Scope.SUBJECT, "bob", Reach.CLAIMS)
    history.add(Scope.SUBJECT, "carol", spared="s3")
    history.add(Scope.KEY, "k9", until=None)
    history.add(Scope.EVERYTHING, "", Reach.CLAIMS, spared="s4")
    for number in range(snapshots.LINE_ENTRIES + 1):
        history.add(Scope.TOKEN, f"j{number}", until=START + timedelta(seconds=number))
    table = read(gzip.decompress(packed(history.entries)), size=4096).table

    def reach(as_of=0, **changes):
        nobody = {"session": "x", "subject": "x", "client": "x", "token": "x", "key": "x"}
        return table.reach_over(holder(as_of, **{**nobody, **changes}))

    assert reach(session="s1") is Reach.END
    assert reach(5, subject="bob") is None
    assert reach(1, subject="bob") is Reach.CLAIMS
    assert reach(5, key="k9") is Reach.END
    assert reach(session="s4") is None
    assert reach(2, subject="carol") is Reach.END
    assert reach(5, token=f"j{snapshots.LINE_ENTRIES}") is Reach.END
    assert reach(5, token=f"j{snapshots.LINE_ENTRIES + 1}") is None
    while table.drop_expired(START + timedelta(days=1)):
        pass
    assert len(table) == 1


def test_the_same_entries_give_the_same_bytes():
    drawn = numbered([one_entry()])
    assert packed(drawn) == packed(drawn)


def test_an_empty_snapshot_is_whole():
    assert len(read(gzip.decompress(packed([]))).table) == 0


def test_a_snapshot_with_any_byte_changed_or_cut_anywhere_is_refused():
    raw = gzip.decompress(packed(numbered([one_entry(), one_entry(spared=None)])))
    for index in range(len(raw)):
        with pytest.raises((WireError, Exception)) as changed:
            read(raw[:index] + bytes((raw[index] ^ 1,)) + raw[index + 1 :], size=4096)
        assert type(changed.value).__name__ in {"WireError", "Denied"}
        with pytest.raises(WireError):
            read(raw[:index], size=4096)
    with pytest.raises(WireError):
        read(raw + raw[-20:], size=4096)


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b'["session","end",[1],[1],["a","b"]]',
        b'["session","end",[1],[1,2],["a"]]',
        b'["session","end",[-1],[1],["a"]]',
        b'["session","end",[1],[1],["a"],["b","c"]]',
        b'["session","end",[99999999999999999999],[1],["a"]]',
        b'["nobody","end",[1],[1],["a"]]',
        b'["everything","end",[1],[99999999999999],[""]]',
        b"\xff",
    ],
)
def test_a_line_of_no_snapshot_is_refused_even_if_it_was_signed(line):
    import hashlib

    head = SnapshotHead(
        issuer=ISSUER,
        head=HEAD,
        at=START,
        count=1,
        digest=hashlib.sha256(line + b"\n").digest(),
        key_sets=KEY_SETS,
    )
    raw = sign(wire.encode_snapshot_head(head), wire.SNAPSHOT_TYPE).encode() + b"\n" + line + b"\n"
    with pytest.raises(WireError):
        read(raw)
    with pytest.raises(WireError):
        list(SnapshotLines().feed(raw))


def test_a_snapshot_without_a_head_and_lines_without_end_are_refused(monkeypatch):
    with pytest.raises(WireError):
        read(b"\xff\n")
    monkeypatch.setattr(snapshots, "MAX_LINE", 10)
    with pytest.raises(WireError, match="too long"):
        read(b"x" * 11)
    with pytest.raises(WireError, match="too long"):
        read(b"x" * 11 + b"\n")
    monkeypatch.setattr(snapshots, "MAX_SNAPSHOT", 10)
    with pytest.raises(WireError, match="too large"):
        read(b"x\n" * 6)


def test_an_object_of_one_type_does_not_stand_for_another():
    from keyfob.base.errors import Denied

    text = sign(
        wire.encode_heartbeat(wire.Heartbeat(issuer=ISSUER, head=HEAD, at=START)), wire.HEARTBEAT_TYPE
    )
    for typ in (wire.ENTRIES_TYPE, wire.KEYS_TYPE, wire.SNAPSHOT_TYPE, wire.TIME_TYPE, "at+jwt"):
        with pytest.raises(Denied, match="wrong_type"):
            verified(text, typ)
