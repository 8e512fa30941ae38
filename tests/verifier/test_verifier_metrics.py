"""The counts of a verifier as Prometheus reads them."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from keyfob.base.errors import Denied
from keyfob.jwt.jws import MAX_TOKEN
from keyfob.revocation.entry import Scope
from keyfob.verifier.feed_view import LAG_BUCKETS
from keyfob.verifier.generations import Generations
from keyfob.verifier.metrics import exposition
from keyfob.verifier.prometheus import VerifierCollector
from keyfob.verifier.verdict_cache import LARGEST_VERDICT
from keyfob.verifier.verifier import Verifier


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_a_verifier_did_is_shown(server, verifier, waits):
    token = server.token()
    verifier.verify(token)
    verifier.verify(token)
    entry = server.revoke(Scope.SUBJECT, "alice")
    waits(verifier, lambda: verifier.stats().position >= entry.position and verifier.is_level)
    for _ in range(3):
        with pytest.raises(Denied):
            verifier.verify(token)
    with pytest.raises(Denied):
        verifier.verify("x")
    shown = samples(verifier.metrics())
    assert shown["keyfob_denials_total", "revoked"] == 3
    assert shown["keyfob_denials_total", "malformed"] == 1
    assert shown["keyfob_feed_position",] == entry.position
    assert 0 <= shown["keyfob_feed_staleness_seconds",] < 5
    assert shown["keyfob_verdict_cache_hits_total",] == 1
    assert shown["keyfob_verdict_cache_misses_total",] == 2
    assert shown["keyfob_verdict_cache_size",] == 1
    assert shown["keyfob_verdict_cache_capacity",] == 20_000
    assert shown["keyfob_verdict_cache_bytes_bound",] == 20_000 * LARGEST_VERDICT
    assert shown["keyfob_revocation_lag_seconds_bucket", "+Inf"] == 1
    assert shown["keyfob_revocation_lag_seconds_count",] == 1


def test_buckets_are_cumulative_and_agree_with_the_count(server, verifier):
    for lag in (0.0, 0.002, 0.2, 60.0):
        verifier._view.lag.add(lag)
    shown = samples(verifier.metrics())
    buckets = [shown["keyfob_revocation_lag_seconds_bucket", f"{bound}"] for bound in LAG_BUCKETS]
    assert buckets == [1, 2, 2, 2, 2, 2, 2, 3, 3, 3]
    assert shown["keyfob_revocation_lag_seconds_bucket", "+Inf"] == 4
    assert shown["keyfob_revocation_lag_seconds_count",] == 4
    assert shown["keyfob_revocation_lag_seconds_sum",] == pytest.approx(60.202)


def test_a_verifier_that_is_not_level_shows_infinity(new_verifier):
    assert samples(new_verifier().metrics())["keyfob_feed_staleness_seconds",] == math.inf
    stats = new_verifier().stats()
    assert "+Inf\n" in exposition(replace(stats, staleness=math.inf))
    assert (
        samples(exposition(replace(stats, clock_offset=-math.inf)))["keyfob_clock_offset_seconds",]
        == -math.inf
    )


def test_the_collector_shows_the_same(server, verifier):
    with pytest.raises(Denied):
        verifier.verify("x")
    registry = CollectorRegistry()
    registry.register(VerifierCollector(verifier))
    ours = list(text_string_to_metric_families(verifier.metrics()))
    theirs = {family.name: family for family in registry.collect()}
    assert {family.name for family in ours} == set(theirs)
    for family in ours:
        other = theirs[family.name]
        assert (family.type, family.documentation) == (other.type, other.documentation)
        names = [(sample.name, sample.labels) for sample in family.samples]
        assert names == [(sample.name, sample.labels) for sample in other.samples]


def test_what_makes_room_is_counted_once():
    cache = Generations(4)
    for key in "abcd":
        cache.put(key, key)
    assert cache.evictions == 0
    assert cache.get("a") == "a"  # fills the younger generation: a is kept, b goes
    assert cache.get("a") == "a"
    assert (cache.evictions, len(cache)) == (1, 3)
    cache.put("e", "e")
    cache.put("f", "f")
    gone = {key for key in "abcdef" if cache.get(key) is None}
    assert cache.evictions >= len(gone)
    cache.clear()
    assert cache.evictions >= len(gone)
    assert len(cache) == 0


def _size(thing: object, seen: set[int]) -> int:
    if id(thing) in seen or isinstance(thing, type):
        return 0
    seen.add(id(thing))
    size = sys.getsizeof(thing)
    if isinstance(thing, dict):
        return size + sum(_size(key, seen) + _size(value, seen) for key, value in thing.items())
    if isinstance(thing, (list, tuple, set, frozenset)):
        return size + sum(_size(item, seen) for item in thing)
    if hasattr(thing, "keys"):  # a read-only view of a dictionary
        return size + sum(_size(key, seen) + _size(thing[key], seen) for key in thing.keys())  # noqa: SIM118
    names = getattr(thing, "__struct_fields__", None) or getattr(thing, "__slots__", ())
    return size + sum(_size(getattr(thing, name), seen) for name in names if hasattr(thing, name))


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": " ".join(f"{n:x}" for n in range(256, 256 + 1024))},
        {"roles": [f"r{n:02}" for n in range(256)], "x": [{}] * 1100},
        {"x": [[]] * 1800},
        {"x": {f"{n:x}": [] for n in range(256, 256 + 620)}},
        {"x": [f"é{n:x}" for n in range(256, 256 + 600)]},
    ],
    ids=["scopes", "objects", "lists", "members", "texts"],
)
def test_the_largest_token_takes_no_more_memory_than_is_stated(server, claims):
    token = server.token(**claims)
    assert 0.6 * MAX_TOKEN < len(token) <= MAX_TOKEN
    keys = server.key_sets.access
    verifier = Verifier.from_jwks(keys, issuer=server.issuer, audience="orders")
    verifier.verify(token)
    ((text, verdict),) = verifier._checker.verdicts._young.items()
    own_entry = 3 * 8 * 3 + 64  # a slot of a dictionary that is a third full, and the object's own head
    assert sys.getsizeof(text) + _size(verdict, set()) + own_entry <= LARGEST_VERDICT


def test_counting_in_many_threads_breaks_nothing(server, verifier):
    token, stop = server.token(), threading.Event()

    def check():
        while not stop.is_set():
            verifier.verify(token)
            with pytest.raises(Denied):
                verifier.verify("x" * 10)

    threads = [threading.Thread(target=check) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        assert samples(verifier.metrics())["keyfob_verdict_cache_size",] <= 1
    stop.set()
    for thread in threads:
        thread.join()


def test_the_text_needs_no_library_of_prometheus():
    code = (
        "import sys; import keyfob.verifier.verifier, keyfob.verifier.metrics; "
        "sys.exit(any(name.startswith('prometheus_client') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
