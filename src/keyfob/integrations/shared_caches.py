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
_VARY: Final[Header] = (b"vary", VARY.encode("ascii"))
_PRIVATE: Final[Header] = (b"cache-control", PRIVATE.encode("ascii"))


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


def varied(headers: Sequence[Header]) -> list[Header]:
    """Return *headers* of an answer to somebody who was let in as a stranger: rule 1."""
    stated = _stated(headers, b"vary")
    if not stated:
        return [*headers, _VARY]
    return [*_without(headers, b"vary"), (b"vary", varying(stated).encode("latin-1"))]


def varied_and_private(headers: Sequence[Header]) -> list[Header]:
    """Return *headers* of an answer to somebody who was let in by a credential: both rules."""
    stated = _stated(headers, b"cache-control")
    if not stated:
        return [*varied(headers), _PRIVATE]
    kept = (b"cache-control", kept_private(stated).encode("latin-1"))
    return [*varied(_without(headers, b"cache-control")), kept]


def _stated(headers: Sequence[Header], wanted: bytes) -> str:
    """Return the values of all headers *wanted*, in one list."""
    return ", ".join([value.decode("latin-1") for name, value in headers if name.lower() == wanted])


def _without(headers: Sequence[Header], unwanted: bytes) -> list[Header]:
    return [header for header in headers if header[0].lower() != unwanted]
