"""The store in memory: for tests and for one process that may forget everything."""

from __future__ import annotations

from keyfob.base.clock import Clock
from keyfob.stores.memory.accounts import MemoryAccountStore
from keyfob.stores.memory.audit import MemoryAuditStore
from keyfob.stores.memory.clients import MemoryClientStore
from keyfob.stores.memory.consents import MemoryConsentStore
from keyfob.stores.memory.feed import MemoryFeedStore
from keyfob.stores.memory.grants import MemoryGrantStore
from keyfob.stores.memory.keys import MemoryKeyStore
from keyfob.stores.memory.outbox import MemoryOutboxStore
from keyfob.stores.memory.reports import MemoryReportStore
from keyfob.stores.memory.sessions import MemorySessionStore
from keyfob.stores.memory.state import State
from keyfob.stores.memory.throttle import MemoryThrottleStore
from keyfob.stores.memory.transfer import MemoryTransfer
from keyfob.stores.store import Store


def open_memory_store(clock: Clock) -> Store:
    """Make an empty store in memory. It may be used from any thread and event loop; it is gone with the process."""
    state = State(clock=clock)

    async def close() -> None:
        state.close()

    return Store(
        sessions=MemorySessionStore(state),
        feed=MemoryFeedStore(state),
        keys=MemoryKeyStore(state),
        accounts=MemoryAccountStore(state),
        throttle=MemoryThrottleStore(state),
        clients=MemoryClientStore(state),
        audit=MemoryAuditStore(state),
        reports=MemoryReportStore(state),
        grants=MemoryGrantStore(state),
        consents=MemoryConsentStore(state),
        outbox=MemoryOutboxStore(state),
        salt=state.salt,
        reads_at_once=True,
        close=close,
        transfer=MemoryTransfer(state),
    )
