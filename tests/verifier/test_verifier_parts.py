from __future__ import annotations

from datetime import timedelta

import pytest

from keyfob.base.errors import ConfigurationError
from keyfob.base.identifiers import ClientId, Position, SessionId, Subject
from keyfob.base.principal import Principal
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey, jwk_set
from keyfob.revocation.wire import KeySets, WireError
from keyfob.testing.frozen_clock import START, FrozenClock
from keyfob.verifier.feed_view import LAG_BUCKETS, FeedView, LagHistogram
from keyfob.verifier.generations import Generations
from keyfob.verifier.jwks_source import JwksSource
from keyfob.verifier.server_time import MAX_ROUND_TRIP, ServerTime
from keyfob.verifier.session_cache import CachedSession, SessionCache
from keyfob.verifier.session_uses import SessionUses
from keyfob.verifier.settings import FollowSettings
from keyfob.verifier.verifier import Verifier

SECOND = timedelta(seconds=1)


def principal(**changes):
    fields = {
        "subject": Subject("alice"),
        "client_id": ClientId("web"),
        "strategy": None,
        "audience": ("orders",),
        "issued_at": START,
        "expires_at": START + timedelta(minutes=10),
        "as_of": Position(3),
        "session_id": SessionId("s1"),
    }
    return Principal(**{**fields, **changes})


# Settings


def settings(**changes):
    return FollowSettings(**{"issuer": "https://auth.example", "audiences": frozenset({"orders"}), **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"issuer": "auth.example"}, "no address"),
        ({"issuer": "ftp://auth.example"}, "no address"),
        ({"issuer": "https://"}, "no address"),
        ({"issuer": "https://auth.example?x=1"}, "no address"),
        ({"issuer": "https://auth.example#x"}, "no address"),
        ({"issuer": "http://auth.example"}, "use https"),
        ({"issuer": "https://user:pass@auth.example"}, "credentials"),
        ({"feed_url": "http://relay.example"}, "use https"),
        ({"report_as": ""}, "report_as"),
        ({"report_as": "a" * 65}, "report_as"),
        ({"report_as": "-a"}, "report_as"),
        ({"report_as": "a b"}, "report_as"),
        ({"report_as": "a\n"}, "report_as"),
        ({"report_as": "é"}, "report_as"),
        ({"audiences": frozenset()}, "audience"),
        ({"audiences": frozenset({""})}, "audience"),
        ({"max_staleness": 3 * SECOND - timedelta(microseconds=1)}, "three heartbeats"),
        ({"heartbeat": 2 * SECOND}, "three heartbeats"),
        ({"on_stale": "ignore"}, "deny, accept or introspect"),
        ({"on_stale": "accept"}, "upper bound"),
        ({"accept_within": 4 * SECOND}, "at least max_staleness"),
        ({"max_cache_age": timedelta(0)}, "5 minutes"),
        ({"max_cache_age": timedelta(minutes=5, microseconds=1)}, "5 minutes"),
        ({"touch_interval": timedelta(0)}, "above 0"),
        ({"start_timeout": timedelta(0)}, "above 0"),
        ({"heartbeat": timedelta(0)}, "above 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused_and_say_why(changes, said):
    with pytest.raises(ConfigurationError, match=said):
        settings(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"issuer": "http://localhost:8080"},
        {"issuer": "http://[::1]:8080"},
        {"issuer": "https://auth.example/tenant"},
        {"max_staleness": 3 * SECOND},
        {"on_stale": "accept", "accept_within": 5 * SECOND},
        {"max_cache_age": timedelta(minutes=5)},
    ],
)
def test_settings_at_their_bounds_are_taken(changes):
    settings(**changes)


def test_a_verifier_refuses_what_its_settings_refuse():
    with pytest.raises(ConfigurationError, match="three heartbeats"):
        Verifier.follow("https://auth.example", audience="orders", max_staleness=2 * SECOND)
    with pytest.raises(ConfigurationError, match="audience"):
        Verifier.from_jwks({"keys": []}, issuer="https://auth.example", audience=[])


def test_no_secret_is_shown():
    assert "s3cret" not in repr(settings(credentials=("orders", "s3cret")))


# The authority's time


def test_the_authoritys_time_is_bounded_from_above():
    clock = FrozenClock()
    time = ServerTime(clock)
    sent = time.instant()
    clock.advance(0.5)
    assert time.learn(1_000.0, sent=sent)
    assert time.now() == pytest.approx(1_000.5)
    assert time.round_trip == 0.5
    clock.advance(10)
    assert time.now() == pytest.approx(1_010.5)
    assert time.offset == pytest.approx(1_000.5 - clock.time() + 10)


def test_a_clock_put_back_makes_it_no_earlier_and_one_put_ahead_makes_it_later():
    clock = FrozenClock()
    time = ServerTime(clock)
    time.learn(1_000.0, sent=time.instant())
    assert not time.has_stepped()
    clock.set(START - timedelta(hours=1))
    assert time.now() == pytest.approx(1_000.0)
    assert time.has_stepped()
    clock.set(START + timedelta(hours=1))
    assert time.now() == pytest.approx(4_600.0)
    assert time.has_stepped()
    time.learn(1_000.0, sent=time.instant())
    assert time.now() == pytest.approx(1_000.0)
    assert not time.has_stepped()


def test_a_wall_clock_set_while_the_answer_was_under_way_does_not_matter():
    clock = FrozenClock()
    time = ServerTime(clock)
    sent = time.instant()
    clock.advance(0.25)
    clock.set(START + timedelta(days=1))
    assert time.learn(1_000.0, sent=sent)
    assert time.now() == pytest.approx(1_000.25)


def test_a_round_trip_may_take_as_long_as_its_limit_and_no_longer():
    for seconds, is_taken in (
        (MAX_ROUND_TRIP - 0.01, True),
        (MAX_ROUND_TRIP, True),
        (MAX_ROUND_TRIP + 0.01, False),
    ):
        clock = FrozenClock()
        time = ServerTime(clock)
        sent = time.instant()
        clock.advance(seconds)
        assert time.learn(1_000.0, sent=sent) is is_taken


def test_a_heartbeat_that_is_ahead_of_the_bound_raises_it():
    clock = FrozenClock()
    time = ServerTime(clock)
    time.learn(1_000.0, sent=time.instant())
    time.heard(999.0)
    assert time.now() == pytest.approx(1_000.0)
    time.heard(1_002.0)
    assert time.now() == pytest.approx(1_002.0)


# The view


def test_a_view_is_level_from_a_heartbeat_until_it_breaks():
    clock = FrozenClock()
    view = FeedView(clock)
    view.time.learn(1_000.0, sent=view.time.instant())
    assert view.staleness() == float("inf")
    view.level(999.0)
    assert view.staleness() == pytest.approx(1.0)
    view.broken()
    assert view.staleness() == float("inf")
    assert view.last_level_at == 999.0
    view.level(998.0)  # an older word takes nothing back
    assert view.level_at == 999.0
    view.level(1_001.0)
    assert view.staleness() == 0.0


def test_lags_are_counted_in_buckets():
    lag = LagHistogram()
    for seconds in (-1.0, LAG_BUCKETS[0], LAG_BUCKETS[0] + 0.0001, 10.0):
        lag.add(seconds)
    assert lag.count == 4
    assert lag.longest == 10.0
    assert (lag.buckets[0], lag.buckets[1], lag.buckets[-1]) == (2, 1, 1)
    assert sum(lag.buckets) == 4


# Keys

KEY = PrivateKey.generate(Algorithm.ES256)
OTHER = PrivateKey.generate(Algorithm.ES256)
FEED = PrivateKey.generate(Algorithm.EDDSA)


def sets(*access):
    return KeySets(access=jwk_set([key.public for key in access]), feed=jwk_set([FEED.public]))


def test_older_key_sets_are_passed_over():
    source = JwksSource()
    source.anchor(sets(KEY))
    source.adopt(sets(OTHER), START + SECOND)
    source.adopt(sets(KEY), START)
    assert set(source.access) == {OTHER.key_id}
    source.adopt(sets(KEY), START + SECOND)
    assert set(source.access) == {KEY.key_id}


def test_only_a_key_that_was_taken_away_is_told_of():
    removed = []
    source = JwksSource()
    source.when_removed(lambda: removed.append(set(source.access)))
    source.anchor(sets(KEY))
    source.anchor(sets(KEY))
    source.anchor(sets(KEY, OTHER))
    assert removed == []
    source.anchor(sets(OTHER))
    assert removed == [{OTHER.key_id}]


@pytest.mark.meets("JWKS-cache")
@pytest.mark.parametrize(
    "wrong",
    [
        KeySets(access={"keys": []}, feed=jwk_set([FEED.public])),
        KeySets(access=jwk_set([KEY.public]), feed={"keys": []}),
        KeySets(access={"keys": [{"kty": "oct", "k": "AAAA"}]}, feed=jwk_set([FEED.public])),
    ],
)
def test_key_sets_that_cannot_be_trusted_change_nothing(wrong):
    source = JwksSource()
    source.anchor(sets(KEY))
    with pytest.raises(WireError):
        source.anchor(wrong)
    with pytest.raises(WireError):
        source.adopt(wrong, START)
    assert set(source.access) == {KEY.key_id}


# Caches


def test_a_cache_is_bounded_and_keeps_what_is_asked_for():
    cache: Generations[str, int] = Generations(10)
    for number in range(100):
        cache.put(str(number), number)
        assert cache.get("0") == 0
        assert len(cache) <= 10
    assert cache.get("99") == 99
    assert cache.get("1") is None
    assert all(cache.get(str(number)) == number for number in range(96, 100))
    cache.forget("99")
    cache.forget("99")
    assert cache.get("99") is None
    cache.clear()
    assert len(cache) == 0


def test_a_cached_session_is_fresh_until_the_first_of_its_limits():
    end = principal().expires_at.timestamp()
    for stale_at, idle_at, fresh_until in (
        (end + 1, None, end),
        (end - 1, None, end - 1),
        (end - 1, end - 2, end - 2),
    ):
        cached = CachedSession(principal(), cached_at=0.0, stale_at=stale_at, idle_at=idle_at)
        assert cached.fresh_until == fresh_until
        assert cached.as_of == 3
    cached.touched(end + 5)
    assert cached.fresh_until == end - 1
    cached.touched(START)
    assert cached.fresh_until == START.timestamp()
    cache = SessionCache(4)
    cache.put("token", cached)
    assert cache.get("token") is cached


def test_uses_are_taken_in_batches_the_latest_of_each_session():
    uses = SessionUses()
    uses.note(SessionId("a"), 2.0)
    uses.note(SessionId("b"), 1.0)
    uses.note(SessionId("a"), 1.0)
    assert uses.take(1) == {"a": 2.0}
    assert uses.take(5) == {"b": 1.0, "a": 1.0}
    assert uses.take(5) == {}
    uses.note(SessionId("a"), 2.0)
    uses.clear()
    assert len(uses) == 0
