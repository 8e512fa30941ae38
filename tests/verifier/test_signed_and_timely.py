"""What is believed: objects that a key of the feed signed, by the time inside them; and sessions by the moment before they were read."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import Position
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey, jwk_set
from keyfob.revocation import wire
from keyfob.revocation.entry import Entry, Reach, Scope, next_chain
from keyfob.revocation.event_stream import StreamEvent

HOURS = timedelta(hours=1)


def the_next_entry(server):
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
    return Entry(**fields, chain=next_chain(head.chain, **fields))


def a_heartbeat(server):
    heartbeat = wire.Heartbeat(issuer=server.issuer, head=server.feed.live.head, at=server.clock.now())
    return wire.encode_heartbeat(heartbeat)


def other_keys(server):
    stranger = PrivateKey.generate(Algorithm.ES256)
    sets = wire.KeySets(access=jwk_set([stranger.public]), feed=server.key_sets.feed)
    return wire.encode_keys(server.issuer, sets, server.clock.now())


@pytest.mark.parametrize(
    ("name", "typ", "payload"),
    [
        (
            "entry",
            wire.ENTRIES_TYPE,
            lambda server: wire.encode_batch(
                server.issuer, server.feed.live.head.timeline, [the_next_entry(server)]
            ),
        ),
        ("heartbeat", wire.HEARTBEAT_TYPE, a_heartbeat),
        ("keys", wire.KEYS_TYPE, other_keys),
    ],
)
def test_what_a_stranger_signed_breaks_the_feed_though_it_fits(server, verifier, waits, name, typ, payload):
    """Whoever is in between, a relay or a proxy, has no key of the feed."""
    token = server.token()
    verifier.verify(token)
    signed = jws.sign(payload(server), PrivateKey.generate(Algorithm.EDDSA), typ=typ)
    frame = f"event: {name}\ndata: {signed}\n\n".encode()
    server.loop.call_soon_threadsafe(server.feed._fan_out.followers.publish, frame)
    waits(verifier, lambda: verifier.stats().resyncs == 1)
    waits(verifier, lambda: verifier.is_level)
    assert verifier.stats().position == server.feed.live.head.position
    verifier.verify(token)


def test_a_heartbeat_that_was_held_back_is_as_old_as_its_signed_time(server, verifier, verifier_clock):
    """A proxy that buffers delays heartbeats and entries alike: one that arrives late makes nothing level."""
    server.hangs = True
    signed = jws.sign(a_heartbeat(server), server.feed_key, typ=wire.HEARTBEAT_TYPE)
    verifier_clock.pass_by(10)
    verifier._following.reader._hear_heartbeat(StreamEvent("heartbeat", signed))
    assert verifier.staleness >= 9
    with pytest.raises(Denied) as denied:
        verifier.verify(server.token())
    assert denied.value.cause is Cause.VERIFIER_STALE
    server.hangs = False


def test_the_age_of_a_session_counts_from_before_it_was_asked_about(
    server, verifier, verifier_clock, eventually
):
    """The answer may be as old as the question: what was revoked while it was under way must not be outlived."""
    token = server.opaque()
    server.release.clear()
    answered = []
    asking = threading.Thread(
        target=lambda: answered.append(verifier.authenticate_blocking(token, max_staleness=HOURS))
    )
    asking.start()
    eventually(lambda: server.asked("/oauth/introspect") == 1)
    verifier_clock.pass_by(200)
    server.release.set()
    asking.join(15)
    assert answered
    verifier_clock.pass_by(99)
    verifier.verify(token, max_staleness=HOURS)
    verifier_clock.pass_by(2)
    with pytest.raises(Denied) as denied:
        verifier.verify(token, max_staleness=HOURS)
    assert denied.value.cause is Cause.UNKNOWN_SESSION
