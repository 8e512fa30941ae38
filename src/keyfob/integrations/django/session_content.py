"""What a session keeps: how it is written, and how the changes of two requests at once are joined. Pure.

Signed by Django's own means, compressed where that makes it shorter, and bound to the session: what is kept of one cannot be read as that of
another.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from django.core import signing

from keyfob.sessions.store import MAX_DATA

_ABSENT = object()
_SALT = "keyfob.sessions:"
_log = logging.getLogger("django.security.SuspiciousSession")


class SessionTooLarge(ValueError):
    """A session was given more than it can keep: a mistake of the application, which is a 500. The message names what takes the most."""

    def __init__(self, size: int, largest: str) -> None:
        super().__init__(
            f"a session keeps at most {MAX_DATA} bytes, signed and compressed, not {size}; the most is taken by {largest}. "
            "Keep the rest in the database or the cache, and a key to it in the session"
        )


@dataclass(frozen=True, slots=True)
class Content:
    """What an application keeps, and when that runs out by the application's own word: seconds since the epoch."""

    kept: Mapping[str, object]
    expires_at: float


class SessionCodec:
    """Writes and reads contents with the project's serializer, a class with `dumps` and `loads`."""

    def __init__(self, serializer: object) -> None:
        self._serializer = serializer

    def pack(self, content: Content, session_id: str) -> bytes:
        """Write *content* for the session.

        Raises:
            SessionTooLarge: it takes more than `MAX_DATA` bytes.
        """
        text = self._text(content, session_id)
        if len(text) > MAX_DATA:
            raise SessionTooLarge(len(text), self._largest(content.kept))
        return text.encode("ascii")

    def unpack(self, packed: bytes, session_id: str) -> Content | None:
        """Read what was written for the session; None for nothing, and for whatever was not written so."""
        if not packed:
            return None
        try:
            expires_at, kept = signing.loads(
                packed.decode("ascii"), salt=_SALT + session_id, serializer=self._serializer
            )
            return Content(dict(kept), float(expires_at))
        except (signing.BadSignature, ValueError, TypeError):
            _log.warning("Session data corrupted")
            return None

    def kept(self, packed: bytes, session_id: str) -> dict[str, object]:
        """Return a copy of what was written for the session, that is the caller's own; empty where nothing can be read."""
        content = self.unpack(packed, session_id)
        return {} if content is None else dict(content.kept)

    def _text(self, content: Content, session_id: str) -> str:
        return str(
            signing.dumps(
                [content.expires_at, dict(content.kept)],
                salt=_SALT + session_id,
                serializer=self._serializer,
                compress=True,
            )
        )

    def _largest(self, kept: Mapping[str, object]) -> str:
        """Name the three entries that take the most, without what is in them."""
        sizes = {str(name): len(self._text(Content({name: value}, 0.0), "")) for name, value in kept.items()}
        return ", ".join(f"{name[:60]!r}" for name in sorted(sizes, key=lambda name: -sizes[name])[:3])


def joined(
    mine: Mapping[str, object], *, base: Mapping[str, object], theirs: Mapping[str, object]
) -> dict[str, object]:
    """Return what *theirs* becomes by the changes that lead from *base* to *mine*, entry by entry: of one that both changed, *mine* stays."""
    result = dict(theirs)
    for name in {**base, **mine}:
        value = mine.get(name, _ABSENT)
        if value == base.get(name, _ABSENT):
            continue
        if value is _ABSENT:
            result.pop(name, None)
        else:
            result[name] = value
    return result
