"""Server-sent events, as the feed uses them (HTML Living Standard, section "Server-sent events"): written whole, read in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_EVENT = 1 << 20  # bytes: a batch of entries is about 100 KiB; more than this is no event of ours
_UTF8 = "utf-8"


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event. `id` is empty where the event carried none."""

    name: str
    data: str
    id: str = ""


def encode_event(event: StreamEvent) -> bytes:
    """Return *event* as it is written to the stream. Its texts are single lines."""
    first = f"id: {event.id}\n" if event.id else ""
    return f"{first}event: {event.name}\ndata: {event.data}\n\n".encode(_UTF8)


class EventStreamReader:
    """Takes a stream in pieces of any size and gives its events as they become whole. Half an event at the end is none."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, piece: bytes) -> Iterator[StreamEvent]:
        """Take the next *piece* and give the events that it completes.

        Raises:
            ValueError: an event of more than `MAX_EVENT` bytes, or one that is no UTF-8.
        """
        self._pending += piece
        while (end := self._pending.find(b"\n\n")) >= 0:
            block = bytes(self._pending[:end])
            del self._pending[: end + 2]
            if len(block) > MAX_EVENT:
                raise ValueError("an event of the feed is too long")
            event = _decode(block.decode(_UTF8))
            if event is not None:
                yield event
        if len(self._pending) > MAX_EVENT:
            raise ValueError("an event of the feed is too long")


def _decode(block: str) -> StreamEvent | None:
    """Read one block of lines; a block without data is a comment, or nothing."""
    fields = {"event": "message", "data": "", "id": ""}
    for line in block.split("\n"):
        name, _, value = line.partition(":")
        if name in fields:
            fields[name] = value.removeprefix(" ")
    if not fields["data"]:
        return None
    return StreamEvent(fields["event"], fields["data"], fields["id"])
