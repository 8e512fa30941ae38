"""The pieces in which a row of a session lies: the server packs a hash tightly only while no value is longer than 64 bytes.

The first is named by the session's id, the others by that and a number; the last takes whatever is left. `pieces.lua` does the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

ID: Final = 16  # bytes of a session's id: the name of a first piece
_PIECE: Final = 64  # bytes: `hash-max-listpack-value`, as every server has it unless it is told otherwise
_NUMBERS: Final = (b"", b"\1", b"\2", b"\3", b"\4")


def names_of(field: bytes) -> tuple[bytes, ...]:
    """Return the names of all pieces that the row of *field* can have."""
    return tuple(field + number for number in _NUMBERS)


def cut(field: bytes, row: bytes) -> dict[bytes, bytes]:
    """Return the pieces of *row* by their names; those that it has not are empty."""
    *others, last = names_of(field)
    pieces = {name: row[at * _PIECE : (at + 1) * _PIECE] for at, name in enumerate(others)}
    return pieces | {last: row[len(others) * _PIECE :]}


def joined(pieces: Sequence[bytes | None]) -> bytes | None:
    """Return the row whose *pieces* the server gave, in the order of their names; None where there is none."""
    return None if pieces[0] is None else b"".join(piece for piece in pieces if piece is not None)


def rows_in(pieces: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the rows of a whole hash by the ids of their sessions."""
    return {
        field: b"".join(pieces.get(name, b"") for name in names_of(field))
        for field in pieces
        if len(field) == ID
    }
