"""The small tables of a store: hashes whose values are records as every store can read them."""

from __future__ import annotations

from typing import TypeVar

from keyfob.stores.records import AnyRecord, decode
from keyfob.stores.rows import DamagedRow

R = TypeVar("R")


def read_record(raw: bytes, kind: type[R]) -> R:
    """Return the record of the type *kind* that *raw* is.

    Raises:
        StoreUnavailable: it is none: the data are damaged.
    """
    try:
        record: AnyRecord = decode(raw)
    except ValueError:
        raise DamagedRow("a record") from None
    if not isinstance(record, kind):
        raise DamagedRow("a record of another kind")
    return record
