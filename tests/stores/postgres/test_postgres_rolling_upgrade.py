"""Two adjacent versions on one database: expand first, while the older one works on; contract with the version after."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from keyfob.base.errors import ConfigurationError
from keyfob.revocation.entry import Scope
from keyfob.sessions.store import Ended, Rotated
from keyfob.stores.opening import migrate_store, open_store
from keyfob.stores.postgres import schema
from keyfob.stores.postgres.connecting import Connection
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.rotation_contract import rotate
from keyfob.testing.store_contract import assert_chained, entries, is_live, put_new, revocation

CURRENT = schema.SCHEMA_VERSION


async def _expand(connection: Connection) -> None:
    """Add what this version does not know of: columns and an index of partitioned tables, and a table."""
    await connection.execute(
        "ALTER TABLE keyfob.sessions ADD COLUMN posture text NOT NULL DEFAULT '';"
        "ALTER TABLE keyfob.entries ADD COLUMN reason text;"
        "ALTER TABLE keyfob.meta ADD COLUMN region text;"
        "CREATE INDEX sessions_by_posture ON keyfob.sessions (posture) WHERE posture <> '';"
        "CREATE TABLE keyfob.postures (posture text PRIMARY KEY)"
    )


async def _contract(connection: Connection) -> None:
    """Remove what this version still uses."""
    await connection.execute("ALTER TABLE keyfob.sessions DROP COLUMN idle_timeout")


@contextmanager
def _version(steps: tuple[schema.Step, ...], *, oldest: int) -> Iterator[None]:
    """Be a later version, with *steps* behind those of this one, on whose schema *oldest* can still work."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(schema, "_STEPS", (*schema._STEPS, *steps))
        patched.setattr(schema, "SCHEMA_VERSION", CURRENT + len(steps))
        patched.setattr(schema, "OLDEST_VERSION", oldest)
        yield


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
async def old(clock: FrozenClock, postgres_url: str) -> AsyncIterator[Store]:
    """Give the store of a server that runs since before the migration."""
    store = await open_store(postgres_url, clock=clock)
    yield store
    await store.close()


async def _works_on(mine: Store, theirs: Store, clock: FrozenClock) -> None:
    """Log in with one, and go on with the other."""
    session, further = await put_new(mine, clock), await put_new(mine, clock)
    clock.advance(60)
    assert isinstance(await rotate(theirs, session.session_id, 0, clock.now()), Rotated)
    order = revocation(Scope.SESSION, session.session_id, clock.now())
    assert isinstance(await theirs.sessions.end(order, now=clock.now()), Ended)
    assert not await is_live(mine, session.session_id, clock.now())
    assert await is_live(theirs, further.session_id, clock.now())


async def test_an_older_server_works_on_beside_a_newer_one(
    old: Store, clock: FrozenClock, postgres_url: str
) -> None:
    before = await put_new(
        old, clock
    )  # its statements are prepared, and its session is there, when the tables change
    with _version((_expand,), oldest=CURRENT):
        assert [(await migrate_store(postgres_url)).before for _ in range(2)] == [CURRENT, CURRENT + 1]
        new = await open_store(postgres_url, clock=clock)

    assert await is_live(new, before.session_id, clock.now())
    await _works_on(old, new, clock)
    await _works_on(new, old, clock)
    await old.sessions.delete_expired(clock.now(), 10)  # makes partitions of tables that it knows half of
    await _works_on(old, new, clock)
    restarted = await open_store(postgres_url, clock=clock)
    await _works_on(restarted, new, clock)
    assert_chained(await entries(old))
    assert await entries(new) == await entries(old)
    await new.close()
    await restarted.close()


async def test_after_the_contraction_the_version_before_last_does_not_start(
    clock: FrozenClock, postgres_url: str
) -> None:
    with _version((_expand, _contract), oldest=CURRENT + 1):
        await migrate_store(postgres_url)
    with pytest.raises(ConfigurationError, match="upgrade Keyfob"):
        await open_store(postgres_url, clock=clock)
