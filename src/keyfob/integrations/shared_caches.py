"""What caches are told of an answer that goes by who is calling, so that nobody is given the page of somebody else.

1. Where it was asked who is calling, whatever came of it, the answer varies with the headers in which credentials come.
2. Where somebody was let in, it is kept out of shared caches too: they would answer in the guard's place, and whoever was cut off since would
   still be let in.

What the application says itself stands. A `Cache-Control` that says nothing of shared caches, such as `max-age=60`, is kept, and `private` is added.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from keyfob.http.headers import Header

VARY: Final = "Cookie, Authorization"
PRIVATE: Final = "private"

_NAMES: Final = ("cookie", "authorization")
_SAYS_ITSELF: Final = frozenset({"public", "private", "no-store"})
_OURS: Final = frozenset({"vary", "cache-control"})
_OURS_AS_BYTES: Final = frozenset(name.encode("ascii") for name in _OURS)
_VARY_AS_BYTES: Final[Header] = (b"vary", VARY.encode("ascii"))
_PRIVATE_AS_BYTES: Final[Header] = (b"cache-control", PRIVATE.encode("ascii"))

Text = tuple[str, str]
"""A header as WSGI writes it, name and value."""


def varying(stated: str | None) -> str:
    """Return the `Vary` of an answer that states *stated*, None for nothing: with both headers in which credentials come."""
    if not stated:
        return VARY
    named = {name.strip().lower() for name in stated.split(",")}
    if "*" in named:
        return stated
    return ", ".join([stated, *(name.title() for name in _NAMES if name not in named)])


def kept_private(stated: str | None) -> str:
    """Return the `Cache-Control` of an answer that states *stated*, None for nothing: for no shared cache, unless it says itself for which."""
    if not stated:
        return PRIVATE
    directives = [directive.strip().lower() for directive in stated.split(",")]
    if not _SAYS_ITSELF.isdisjoint(directives) or any(word.startswith("s-maxage") for word in directives):
        return stated
    return f"{stated}, {PRIVATE}"


def texts_varied(headers: Sequence[Text]) -> list[Text]:
    """Return *headers* of an answer to somebody who was let in as a stranger: rule 1."""
    return [*_without(headers, "vary"), ("Vary", varying(_stated(headers, "vary")))]


def texts_varied_and_private(headers: Sequence[Text]) -> list[Text]:
    """Return *headers* of an answer to somebody who was let in by a credential: both rules."""
    if _OURS.isdisjoint([name.lower() for name, _ in headers]):  # as nearly always
        return [*headers, ("Vary", VARY), ("Cache-Control", PRIVATE)]
    kept = ("Cache-Control", kept_private(_stated(headers, "cache-control")))
    return [*texts_varied(_without(headers, "cache-control")), kept]


def varied(headers: Sequence[Header]) -> list[Header]:
    """Do as `texts_varied` with headers as ASGI writes them."""
    return _as_bytes(texts_varied(_as_texts(headers)))


def varied_and_private(headers: Sequence[Header]) -> list[Header]:
    """Do as `texts_varied_and_private` with headers as ASGI writes them."""
    if _OURS_AS_BYTES.isdisjoint([name.lower() for name, _ in headers]):
        return [*headers, _VARY_AS_BYTES, _PRIVATE_AS_BYTES]
    return _as_bytes(texts_varied_and_private(_as_texts(headers)))


def _as_texts(headers: Sequence[Header]) -> list[Text]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _as_bytes(headers: Sequence[Text]) -> list[Header]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def _stated(headers: Sequence[Text], wanted: str) -> str:
    """Return the values of all headers *wanted*, in one list."""
    return ", ".join([value for name, value in headers if name.lower() == wanted])


def _without(headers: Sequence[Text], unwanted: str) -> list[Text]:
    return [header for header in headers if header[0].lower() != unwanted]
