from __future__ import annotations

import threading
import tracemalloc
from datetime import timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyfob.base.errors import Cause
from keyfob.base.identifiers import ClientId, KeyId, Position, SessionId, Subject, Timeline, TokenId
from keyfob.base.principal import Principal
from keyfob.revocation.coverage import covers
from keyfob.revocation.entry import CHAIN_START, Entry, Head, Reach, Scope
from keyfob.revocation.entry_table import MAX_MARKS, Columns, EntryTable
from keyfob.revocation.live_entries import ISSUER_SKEW, FeedGap, LiveEntries
from keyfob.testing.frozen_clock import START

SECOND = timedelta(seconds=1)


def held(history):
    live = LiveEntries()
    live.replace(Head(timeline=Timeline("t1"), position=Position(0), chain=CHAIN_START), ())
    live.apply(history.entries)
    return live


# The rule


@pytest.mark.parametrize(
    ("scope", "name"),
    [
        (Scope.TOKEN, "j1"),
        (Scope.SESSION, "s1"),
        (Scope.SUBJECT, "alice"),
        (Scope.CLIENT, "web"),
        (Scope.EVERYTHING, ""),
    ],
)
def test_an_entry_covers_what_is_older_than_it_and_nothing_else(history, holder, scope, name):
    history.add(Scope.SESSION, "other")
    history.add(scope, name)
    live = held(history)
    assert live.cause(holder(1)) is Cause.REVOKED
    assert live.cause(holder(2)) is None
    assert live.cause(holder(3)) is None
    others = {"subject": "bob", "session": "s2", "client": "app", "token": "j2"}
    assert (live.cause(holder(1, **others)) is None) is (scope is not Scope.EVERYTHING)


def test_a_key_entry_covers_whatever_as_of_says(history, holder):
    history.add(Scope.KEY, "k1", until=None)
    assert held(history).cause(holder(10**9, issued_at=START + timedelta(days=1))) is Cause.REVOKED
    assert held(history).cause(holder(0, key="k2")) is None


def test_a_key_entry_is_never_dropped(history, holder):
    history.add(Scope.KEY, "k1", until=None)
    live = held(history)
    live.drop_expired(START + timedelta(days=10_000))
    assert live.cause(holder(5)) is Cause.REVOKED


def test_revoked_comes_before_stale_claims(history, holder):
    history.add(Scope.SESSION, "s1", Reach.CLAIMS)
    assert held(history).cause(holder()) is Cause.STALE_CLAIMS
    history.add(Scope.SUBJECT, "alice", Reach.END)
    assert held(history).cause(holder()) is Cause.REVOKED
    assert held(history).cause(holder(1)) is Cause.REVOKED
    history.add(Scope.EVERYTHING, "", Reach.CLAIMS)
    assert held(history).cause(holder(1)) is Cause.REVOKED
    assert held(history).cause(holder(2)) is Cause.STALE_CLAIMS


def test_everything_revokes_where_another_entry_only_makes_claims_stale(history, holder):
    history.add(Scope.SESSION, "s1", Reach.CLAIMS)
    history.add(Scope.EVERYTHING, "", Reach.END)
    assert held(history).cause(holder()) is Cause.REVOKED


def test_the_spared_session_and_its_children_are_not_covered(history, holder):
    history.add(Scope.SUBJECT, "alice", spared="s1")
    live = held(history)
    assert live.cause(holder(0, session="s1")) is None
    assert live.cause(holder(0, session="child", parent="s1")) is None
    assert live.cause(holder(0, session="s2")) is Cause.REVOKED
    assert live.cause(holder(0, session=None)) is Cause.REVOKED


def test_everything_can_spare_a_session(history, holder):
    history.add(Scope.EVERYTHING, "", spared="s1")
    assert held(history).cause(holder(0)) is None
    assert held(history).cause(holder(0, session="s2")) is Cause.REVOKED


def test_an_entry_of_the_parent_session_covers_its_children(history, holder):
    history.add(Scope.SESSION, "parent")
    assert held(history).cause(holder(0, session="child", parent="parent")) is Cause.REVOKED


def test_an_entry_of_the_parents_client_covers_its_children_elsewhere(history, holder):
    """The login that they began from was issued to that client, and is over by the same entry."""
    history.add(Scope.CLIENT, "portal")
    live = held(history)
    child = {"session": "child", "parent": "parent", "client": "shop"}
    assert live.cause(holder(0, **child, parent_client="portal")) is Cause.REVOKED
    assert live.cause(holder(1, **child, parent_client="portal")) is None
    assert live.cause(holder(0, **child, parent_client="web")) is None


def test_a_credential_of_another_timeline_or_of_none_is_covered(history, holder):
    live = held(history)
    assert live.cause(holder(0, timeline="t2")) is Cause.REVOKED
    assert live.cause(holder(0, timeline=None)) is Cause.REVOKED
    assert live.cause(holder(0)) is None


def test_before_anything_was_heard_every_credential_is_covered(holder):
    assert LiveEntries().cause(holder(0, timeline=None)) is Cause.REVOKED
    assert LiveEntries().cause(holder(0)) is Cause.REVOKED


def test_an_as_of_past_a_head_that_was_signed_after_the_token_is_a_forgery(history, holder):
    history.add()
    live = held(history)
    assert live.cause(holder(2, session="s2")) is None  # nothing was signed yet: the verifier is behind
    live.confirm(START + ISSUER_SKEW)
    assert live.cause(holder(2, session="s2")) is None
    live.confirm(START + ISSUER_SKEW + timedelta(microseconds=1))
    live.confirm(START)  # an earlier one takes nothing back
    assert live.cause(holder(2, session="s2")) is Cause.REVOKED
    assert live.forged_as_of == 1
    assert live.cause(holder(1, session="s2")) is None
    assert live.cause(holder(2, session="s2", key=None)) is None  # of the store, not signed by anybody


names = st.sampled_from(["a", "b", "c"])
optional = st.none() | names
reaches = st.sampled_from(Reach)
scopes = st.sampled_from(Scope)
drawn_entries = st.lists(
    st.tuples(scopes, names, reaches, optional, st.integers(0, 3)), min_size=0, max_size=12
)
drawn_credentials = st.builds(
    lambda as_of, subject, client, session, parent, parent_client, token, key: Principal(
        subject=Subject(subject),
        client_id=ClientId(client),
        strategy=None,
        audience=(),
        issued_at=START,
        expires_at=START,
        as_of=Position(as_of),
        session_id=session and SessionId(session),
        parent_session_id=parent and SessionId(parent),
        parent_client_id=parent_client and ClientId(parent_client),
        token_id=token and TokenId(token),
        key_id=key and KeyId(key),
    ),
    st.integers(0, 13),
    names,
    names,
    optional,
    optional,
    optional,
    optional,
    optional,
)


def entries_of(drawn):
    for number, (scope, name, reach, spared, minutes) in enumerate(drawn, 1):
        can_spare = scope in {Scope.SUBJECT, Scope.EVERYTHING}
        yield Entry(
            position=Position(number),
            at=START,
            scope=scope,
            id="" if scope is Scope.EVERYTHING else name,
            reach=Reach.END if scope in {Scope.TOKEN, Scope.KEY} else reach,
            until=None if scope is Scope.KEY else START + minutes * timedelta(minutes=1),
            chain=CHAIN_START,
            spared=spared and SessionId(spared) if can_spare else None,
        )


def expected(entries, principal):
    found = {entry.reach for entry in entries if covers(entry, principal)}
    return Reach.END if Reach.END in found else Reach.CLAIMS if found else None


@settings(max_examples=300)
@given(drawn_entries, drawn_credentials)
def test_the_table_says_what_the_rule_says(drawn, principal):
    entries = list(entries_of(drawn))
    assert EntryTable.of(entries).reach_over(principal) is expected(entries, principal)


@settings(max_examples=200)
@given(drawn_entries, drawn_credentials, st.integers(0, 4))
def test_a_table_never_forgets_an_entry_before_its_until(drawn, principal, minutes):
    entries = list(entries_of(drawn))
    table = EntryTable.of(entries)
    now = START + minutes * timedelta(minutes=1)
    while table.drop_expired(now, limit=2):
        pass
    left = [entry for entry in entries if entry.until is None or entry.until > now]
    order = [None, Reach.CLAIMS, Reach.END]
    found = table.reach_over(principal)
    assert order.index(found) >= order.index(expected(left, principal))
    assert order.index(found) <= order.index(expected(entries, principal))
    if minutes == 4:
        assert found is expected([entry for entry in entries if entry.until is None], principal)
        assert len(table) == len({entry.id for entry in entries if entry.scope is Scope.KEY})


@settings(max_examples=100)
@given(drawn_entries, drawn_credentials)
def test_columns_hold_what_single_entries_hold(drawn, principal):
    entries = [entry for entry in entries_of(drawn) if entry.spared is None]
    table = EntryTable()
    for entry in entries:
        if entry.scope in {Scope.KEY, Scope.EVERYTHING}:
            table.add(entry)
            continue
        until = round(entry.until.timestamp()) if entry.until else -1
        table.add_columns(
            Columns(
                scope=entry.scope,
                reach=entry.reach,
                positions=[entry.position],
                untils=[until],
                ids=[entry.id],
            )
        )
    assert table.reach_over(principal) is expected(entries, principal)


def test_a_scope_without_columns_is_refused():
    with pytest.raises(ValueError):
        EntryTable().add_columns(
            Columns(scope=Scope.KEY, reach=Reach.END, positions=[1], untils=[-1], ids=["k"])
        )


# Dropping


def test_an_entry_is_dropped_at_its_until_and_not_before(history, holder):
    history.add(until=START + SECOND)
    live = held(history)
    assert live.drop_expired(START + SECOND - timedelta(microseconds=1)) == 0
    assert live.cause(holder()) is Cause.REVOKED
    assert live.drop_expired(START + SECOND) == 1
    assert live.cause(holder()) is None
    assert len(live) == 0


def test_an_until_between_two_seconds_is_rounded_up(history, holder):
    history.add(until=START + SECOND / 2)
    live = held(history)
    live.drop_expired(START + SECOND / 2)
    assert live.cause(holder()) is Cause.REVOKED
    live.drop_expired(START + SECOND)
    assert live.cause(holder()) is None


def test_a_later_entry_of_the_same_id_outlives_the_drop_of_the_first(history, holder):
    history.add(until=START + SECOND)
    history.add(until=START + 3 * SECOND)
    live = held(history)
    live.drop_expired(START + 2 * SECOND)
    assert live.cause(holder(1)) is Cause.REVOKED


def test_an_earlier_entry_that_lives_longer_is_not_lost_to_a_later_one(history, holder):
    history.add(until=START + 3 * SECOND)
    history.add(until=START + SECOND)
    live = held(history)
    live.drop_expired(START + 2 * SECOND)
    assert live.cause(holder(0)) is Cause.REVOKED


def test_everything_is_dropped_like_the_rest(history, holder):
    history.add(Scope.EVERYTHING, "", until=START + SECOND)
    history.add(Scope.EVERYTHING, "", Reach.CLAIMS, until=START + 2 * SECOND)
    live = held(history)
    live.drop_expired(START + SECOND)
    assert live.cause(holder(0)) is Cause.STALE_CLAIMS
    live.drop_expired(START + 2 * SECOND)
    assert live.cause(holder(0)) is None


def test_dropping_looks_at_no_more_than_its_limit(history):
    for number in range(10):
        history.add(name=f"s{number}", until=START)
    live = held(history)
    assert live.drop_expired(START, limit=4) == 4
    assert live.drop_expired(START, limit=4) == 4
    assert live.drop_expired(START, limit=4) == 2
    assert live.drop_expired(START, limit=4) == 0


def test_an_entry_that_never_runs_out_stays(history, holder):
    history.add(until=None)
    live = held(history)
    live.drop_expired(START + timedelta(days=40_000))
    assert live.cause(holder()) is Cause.REVOKED


# Floods


def test_past_a_hundred_sparing_entries_of_one_subject_they_become_one_that_covers_no_less(history, holder):
    history.add(Scope.SUBJECT, "alice")
    for number in range(MAX_MARKS):
        history.add(Scope.SUBJECT, "alice", spared=f"spared{number}")
    live = held(history)
    assert live.cause(holder(0, session="x")) is Cause.REVOKED  # the one that spares nobody stands
    assert live.cause(holder(1, session="x")) is Cause.STALE_CLAIMS
    assert live.cause(holder(1, session="spared7")) is Cause.STALE_CLAIMS
    assert live.cause(holder(MAX_MARKS + 1, session="x")) is None


def test_a_hundred_are_still_told_apart(history, holder):
    for number in range(MAX_MARKS):
        history.add(Scope.SUBJECT, "alice", spared=f"spared{number}")
    live = held(history)
    assert live.cause(holder(0, session="x")) is Cause.REVOKED
    assert live.cause(holder(MAX_MARKS - 1, session=f"spared{MAX_MARKS - 1}")) is None


# Continuing


def test_a_missing_a_repeated_and_a_reordered_entry_are_gaps(history):
    first, second, third = (history.add(name=name) for name in "abc")
    live = LiveEntries()
    live.replace(Head(timeline=Timeline("t1"), position=Position(0), chain=CHAIN_START), ())
    for wrong in ([second], [first, third], [first, first], [second, first], [third, second, first]):
        with pytest.raises(FeedGap):
            live.apply(wrong)
        assert len(live) == 0
        assert live.head.position == 0
    live.apply([first, second])
    with pytest.raises(FeedGap, match="wanted the entry at position 3, got 2"):
        live.apply([second])
    live.apply([third])
    live.apply([])
    assert live.head == history.head


@pytest.mark.parametrize(
    "change",
    [
        {"id": "other"},
        {"scope": Scope.TOKEN},
        {"reach": Reach.CLAIMS},
        {"at": START + SECOND},
        {"until": None},
        {"spared": SessionId("s9")},
        {"chain": bytes(32)},
    ],
)
def test_an_altered_entry_breaks_the_chain(history, change):
    from dataclasses import replace

    entry = history.add()
    live = LiveEntries()
    live.replace(Head(timeline=Timeline("t1"), position=Position(0), chain=CHAIN_START), ())
    with pytest.raises(FeedGap, match="chain"):
        live.apply([replace(entry, **change)])


# The change counter


def test_the_counter_moves_after_the_entries_are_in(history, holder, monkeypatch):
    live = held(history)
    before = live.changes
    seen = []
    add = EntryTable.add

    def watched(table, entry):
        add(table, entry)
        seen.append(live.changes)

    monkeypatch.setattr(EntryTable, "add", watched)
    live.apply([history.add()])
    assert seen == [before]
    assert live.changes == before + 1


def test_a_replacement_moves_the_counter(history):
    live = held(history)
    before = live.changes
    live.replace(history.head, ())
    assert live.changes > before


def test_a_prepared_table_is_taken_over(history, holder):
    table = EntryTable.of([history.add()])
    live = LiveEntries()
    live.replace(history.head, table)
    assert live.cause(holder()) is Cause.REVOKED
    assert len(live) == 1


def test_a_verdict_is_settled_once_the_head_has_reached_its_as_of(history, holder):
    history.add()
    live = held(history)
    assert live.is_settled(holder(1))
    assert not live.is_settled(holder(2))


def test_a_reader_that_reads_the_counter_first_never_keeps_a_verdict_past_an_entry(new_history, holder):
    """Writers insert, then publish; readers read the counter, then look up: forced through many interleavings by two threads."""
    history = new_history()
    live = held(history)
    sessions = [f"s{number}" for number in range(400)]
    wrong = []
    done = threading.Event()

    def reader():
        kept = {}
        while not done.is_set():
            for name in sessions:
                changes = live.changes
                if kept.get(name) == changes:
                    continue
                if live.cause(holder(0, session=name)) is None:
                    kept[name] = changes
        changes = live.changes
        wrong.extend(name for name in sessions if kept.get(name) == changes)

    thread = threading.Thread(target=reader)
    thread.start()
    for name in sessions:
        live.apply([history.add(name=name)])
    done.set()
    thread.join(20)
    assert wrong == []


# Watches


def test_a_watch_is_told_of_an_entry_that_covers_it_by_each_scope(new_history, holder):
    for scope, name in (
        (Scope.TOKEN, "j1"),
        (Scope.SESSION, "s1"),
        (Scope.SESSION, "parent"),
        (Scope.SUBJECT, "alice"),
        (Scope.CLIENT, "web"),
        (Scope.CLIENT, "portal"),
        (Scope.KEY, "k1"),
        (Scope.EVERYTHING, ""),
    ):
        history = new_history()
        live = held(history)
        causes = []
        live.watch(holder(0, parent="parent", parent_client="portal"), causes.append)
        live.apply([history.add(Scope.SESSION, "other")])
        assert causes == []
        live.apply([history.add(scope, name)])
        assert causes == [Cause.REVOKED]


def test_a_watch_of_something_covered_already_is_told_at_once(history, holder):
    history.add()
    causes = []
    held(history).watch(holder(), causes.append)
    assert causes == [Cause.REVOKED]


def test_a_watch_is_told_of_either_reach_but_not_of_an_entry_that_it_knew(history, holder):
    live = held(history)
    causes = []
    live.watch(holder(1), causes.append)
    live.apply([history.add()])
    assert causes == []
    live.apply([history.add(reach=Reach.CLAIMS)])
    assert causes == [Cause.STALE_CLAIMS]


def test_a_resync_rechecks_every_watch_once(history, holder):
    live = held(history)
    causes = []
    live.watch(holder(0, session=None, token=None, key=None), causes.append)
    entry = history.add(Scope.SUBJECT, "alice")
    live.replace(history.head, [entry])
    assert causes == [Cause.REVOKED]


def test_who_unwatches_hears_nothing_and_leaves_nothing_behind(history, holder):
    live = held(history)
    causes = []
    one = live.watch(holder(), causes.append)
    other = live.watch(holder(0, session="s2"), causes.append)
    live.unwatch(one)
    live.unwatch(one)
    live.apply([history.add()])
    assert causes == []
    live.unwatch(other)
    assert live._watches == {}


def test_ten_thousand_watches_cost_one_look_up_per_entry(history, holder):
    live = held(history)
    rechecked = []
    for number in range(10_000):
        live.watch(
            holder(0, session=f"w{number}", subject=f"u{number}", client=f"c{number}", token=None, key=None),
            rechecked.append,
        )
    live._recheck = lambda watch: rechecked.append(watch)
    live.apply([history.add(name=f"other{number}") for number in range(50)])
    assert rechecked == []
    live.apply([history.add(name="w77")])
    assert len(rechecked) == 1


def test_locks_can_be_made_anew_while_somebody_holds_the_old_ones(history, holder):
    live = held(history)
    live._lock.acquire()
    live.renew_locks()
    live.unwatch(live.watch(holder(), lambda cause: None))


# Size


def test_an_entry_takes_at_most_150_bytes():
    count = 200_000
    ids = [f"{number:032x}" for number in range(count)]
    tracemalloc.start()
    try:
        table = EntryTable()
        table.add_columns(
            Columns(
                scope=Scope.SESSION,
                reach=Reach.END,
                positions=range(2**32, 2**32 + count),
                untils=[1_800_000_000 + number // 1_000 for number in range(count)],
                ids=ids,
            )
        )
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table) == count
    assert size / count <= 150
    assert max(len(shard) for shard in table._shards[1]) < 1_000  # so that no growth takes a millisecond


def test_a_hash_that_collides_denies_more_and_not_less(holder, monkeypatch):
    monkeypatch.setattr("keyfob.revocation.entry_table.hash", lambda text: 7, raising=False)
    table = EntryTable.of(
        entries_of([(Scope.SESSION, "a", Reach.CLAIMS, None, 1), (Scope.SESSION, "b", Reach.END, None, 1)])
    )
    one = SimpleNamespace(
        key_id=None,
        session_id="z",
        parent_session_id=None,
        parent_client_id=None,
        subject="x",
        client_id="y",
        token_id=None,
        as_of=0,
    )
    assert table.reach_over(one) is Reach.END
