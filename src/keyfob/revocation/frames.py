"""What a feed sends, signed and framed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from keyfob.base.errors import InvalidRequest
from keyfob.base.identifiers import Timeline
from keyfob.revocation import wire
from keyfob.revocation.entry import Head
from keyfob.revocation.event_stream import StreamEvent, encode_event
from keyfob.revocation.recent_entries import RecentBatch

NONCE_LENGTH = range(16, 65)  # characters of a nonce
_NONCE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


class FrameWriter:
    """Writes the frames of one issuer. Signing takes some 100 µs, so a frame is made once for all followers."""

    def __init__(self, issuer: str, *, sign: wire.Sign, key_sets: Callable[[], wire.KeySets]) -> None:
        self.issuer = issuer
        self.sign = sign
        self._key_sets = key_sets

    def key_sets(self) -> wire.KeySets:
        """Return the key sets of this moment."""
        return self._key_sets()

    def batch(self, timeline: Timeline, batch: RecentBatch) -> bytes:
        """Return the frame of *batch*, signed at the first call."""
        if batch.frame is None:
            payload = wire.encode_batch(self.issuer, timeline, batch.entries)
            last = wire.event_id(timeline, batch.entries[-1].position)
            batch.frame = encode_event(StreamEvent("entry", self.sign(payload, wire.ENTRIES_TYPE), last))
        return batch.frame

    def heartbeat(self, head: Head, at: datetime) -> bytes:
        """Return the frame that says: at the moment *at* the feed reached no further than *head*."""
        payload = wire.encode_heartbeat(wire.Heartbeat(issuer=self.issuer, head=head, at=at))
        return encode_event(StreamEvent("heartbeat", self.sign(payload, wire.HEARTBEAT_TYPE)))

    def keys(self, key_sets: wire.KeySets, at: datetime) -> bytes:
        """Return the frame of *key_sets*."""
        payload = wire.encode_keys(self.issuer, key_sets, at)
        return encode_event(StreamEvent("keys", self.sign(payload, wire.KEYS_TYPE)))

    def time(self, nonce: str, at: datetime) -> bytes:
        """Return the moment *at*, signed with *nonce*: 16 to 64 characters of the base64url alphabet.

        Raises:
            InvalidRequest: *nonce* is not of that form.
        """
        if len(nonce) not in NONCE_LENGTH or not _NONCE.issuperset(nonce):
            raise InvalidRequest("invalid_nonce", "nonce must be 16 to 64 characters of base64url")
        signed = wire.SignedTime(issuer=self.issuer, nonce=nonce, at=at)
        return self.sign(wire.encode_time(signed), wire.TIME_TYPE).encode()

    def key_document(self) -> bytes:
        """Return the key sets of this moment, unsigned."""
        return wire.encode_key_document(self.issuer, self.key_sets())
