"""The pages of the shop and of the attacker, as they are served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

_FOLDER = Path(__file__).parent / "page"
HTML, SCRIPT = "text/html; charset=utf-8", "text/javascript; charset=utf-8"


@dataclass(frozen=True, slots=True)
class ServedPage:
    """A file and its type."""

    content_type: str
    name: str

    @property
    def body(self) -> bytes:
        """Read the file."""
        return (_FOLDER / self.name).read_bytes()


PAGES: Mapping[str, ServedPage] = MappingProxyType(
    {
        "/shop": ServedPage(HTML, "shop.html"),
        "/shop.js": ServedPage(SCRIPT, "shop.js"),
        "/worker.js": ServedPage(SCRIPT, "worker.js"),
        "/frame": ServedPage(HTML, "frame.html"),
    }
)
"""What the shop serves, by path."""

ATTACKER_PAGES: Mapping[str, ServedPage] = MappingProxyType(
    {
        "/thief.js": ServedPage(SCRIPT, "thief.js"),
        "/forgery": ServedPage(HTML, "forgery.html"),
    }
)
"""What the other site serves."""
