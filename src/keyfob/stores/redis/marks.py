"""The mark of a store that is moved, as it lies in Redis."""

from __future__ import annotations

import msgspec

from keyfob.stores.moving import Mark
from keyfob.stores.rows import DamagedRow


def write_mark(mark: Mark | None) -> bytes:
    """Return *mark* as JSON; nothing for none."""
    return b"" if mark is None else _encoder.encode(mark)


def read_mark(raw: bytes | None) -> Mark | None:
    """Read what `write_mark` wrote."""
    if not raw:
        return None
    try:
        return _decoder.decode(raw)
    except msgspec.MsgspecError:
        raise DamagedRow("the mark of a move") from None


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Mark)
