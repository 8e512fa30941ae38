"""The audit trail: events written durably and told to a logger, with nothing in them that could deceive its reader or give a secret away."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import structs

from keyfob.audit.store import AuditStore, EventPage
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, SessionId, Subject
from keyfob.base.redaction import redacted

MAX_TEXT = 1000  # characters of any one field; what is longer is cut, and says so
_CUT = "…"

LogLine = Callable[[Mapping[str, str | int]], None]
"""Takes one event as flat fields. Must not block."""


class Trail:
    """Writes audit events. What a store wrote in the step that made the change is only told, by `tell`."""

    def __init__(self, store: AuditStore, *, log: LogLine) -> None:
        self._store = store
        self._log = log

    async def record(self, event: Event) -> None:
        """Write *event* durably, then tell the logger.

        Raises:
            StoreUnavailable: it was not written, and not told.
        """
        clean = cleaned(event)
        await self._store.add(clean)
        self._log(fields_of(clean))

    def tell(self, event: Event) -> None:
        """Tell the logger of an event that a store has written."""
        self._log(fields_of(cleaned(event)))

    async def list(
        self,
        *,
        subject: Subject | None = None,
        code: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> EventPage:
        """Return events, newest first, continuing *after* an earlier page's `next`.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        page = await self._store.list(subject=subject, code=code, after=after, limit=limit)
        # Those that came with a change were never cleaned.
        return EventPage([cleaned(event) for event in page.events], page.next)


def cleaned(event: Event) -> Event:
    """Return *event* with every text fit to be shown: no control characters, no secrets, 1000 characters at most.

    Cleaning what is clean changes nothing.
    """
    return structs.replace(
        event,
        code=_text(event.code),
        actor=_text(event.actor),
        subject=None if event.subject is None else Subject(_text(event.subject)),
        session_id=None if event.session_id is None else SessionId(_text(event.session_id)),
        client_id=None if event.client_id is None else ClientId(_text(event.client_id)),
        address=None if event.address is None else _text(event.address),
        reason=None if event.reason is None else _text(event.reason),
        facts={
            _text(name): _text(value) if isinstance(value, str) else value
            for name, value in event.facts.items()
        },
    )


def fields_of(event: Event) -> Mapping[str, str | int]:
    """Return *event* as flat fields, those that are absent left out. A fact never replaces a field of the event."""
    own: dict[str, str | int | None] = {
        "event": event.code,
        "at": event.at.isoformat(),
        "actor": event.actor,
        "subject": event.subject,
        "session_id": event.session_id,
        "client_id": event.client_id,
        "address": event.address,
        "reason": event.reason,
    }
    return {**event.facts, **{name: value for name, value in own.items() if value is not None}}


def encoded(text: str) -> str:
    r"""Return *text* with what forges lines or hides text in a terminal written as `\uXXXX`."""
    return "".join(_shown(character) for character in text)


def _text(text: str) -> str:
    """Encode what deceives, redact what is secret, cut what is long."""
    if len(text) > MAX_TEXT:
        text = text[: MAX_TEXT - 1] + _CUT
    shown = encoded(redacted(text))
    return shown if len(shown) <= MAX_TEXT else shown[: MAX_TEXT - 1] + _CUT


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"
