"""From the URL of a store to the store. Drivers are loaded late: only the one that is asked for."""

from __future__ import annotations

from keyfob.base.clock import Clock
from keyfob.base.errors import ConfigurationError
from keyfob.stores.memory import open_memory_store
from keyfob.stores.store import Store

_POSSIBLE = "memory://, sqlite:///relative.db or sqlite:////absolute.db"


async def open_store(url: str, *, clock: Clock) -> Store:
    """Open the store at *url*, making it if there is none.

    Raises:
        ConfigurationError: no such store can be opened.
        StoreUnavailable: it does not answer.
    """
    scheme, separator, place = url.partition("://")
    if scheme == "memory" and separator and not place:
        return open_memory_store(clock)
    raise ConfigurationError(f"the store {scheme}:// cannot be opened: give {_POSSIBLE}")
