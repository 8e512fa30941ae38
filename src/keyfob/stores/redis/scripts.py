"""The scripts of the store: Lua files beside this module, each one step. A line `--#include a b` stands for the files `a.lua` and `b.lua`.

A file that is included already is not included again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files

_INCLUDE = "--#include "


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text, and the digest under which a server that has seen it knows it."""

    name: str
    text: bytes = field(repr=False)
    digest: bytes


class Scripts:
    """Reads each script once."""

    def __init__(self) -> None:
        self._known: dict[str, Script] = {}

    def __getitem__(self, name: str) -> Script:
        """Return the script *name*."""
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = read_script(name)
        return known


def read_script(name: str) -> Script:
    """Return the script *name* with what it includes."""
    text = "\n".join(_lines(name, set())).encode()
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


def _lines(name: str, included: set[str]) -> Iterator[str]:
    text = (files("keyfob.stores.redis") / "scripts" / f"{name}.lua").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith(_INCLUDE):
            for each in line.removeprefix(_INCLUDE).split():
                if each not in included:
                    included.add(each)
                    yield from _lines(each, included)
        else:
            yield line
