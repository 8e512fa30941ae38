"""From URL to store."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from keyfob.base.errors import ConfigurationError
from keyfob.stores.opening import SchemaChange, migrate_store, open_store, sqlite_path
from keyfob.testing.frozen_clock import FrozenClock


async def test_memory_is_new_each_time() -> None:
    one, other = [await open_store("memory://", clock=FrozenClock()) for _ in range(2)]
    assert len(one.salt) == len(other.salt) == 32
    assert one.salt != other.salt
    assert (await one.feed.head()).timeline != (await other.feed.head()).timeline
    assert await migrate_store("memory://") == SchemaChange(before=0, after=0)


async def test_three_slashes_are_relative_and_four_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = await open_store("sqlite:///relative.db", clock=FrozenClock())
    monkeypatch.chdir("/")
    await store.feed.extend_retention(credential=timedelta(minutes=1), session=timedelta(minutes=1))
    await store.close()
    assert (tmp_path / "relative.db").is_file()
    store = await open_store(
        f"sqlite:///{tmp_path}/absolute%20one.db?synchronous=normal", clock=FrozenClock()
    )
    await store.close()
    assert (tmp_path / "absolute one.db").is_file()


async def test_what_is_asked_for_is_loaded_and_no_more() -> None:
    program = (
        "import sys, asyncio\n"
        "from keyfob.stores.opening import open_store\n"
        "from keyfob.testing.frozen_clock import FrozenClock\n"
        "asyncio.run(open_store('memory://', clock=FrozenClock()))\n"
        "assert 'sqlite3' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "keyfob.db",
        "sqlite:",
        "sqlite:/keyfob.db",
        "sqlite://",
        "sqlite:///",
        "sqlite://host/keyfob.db",
        "sqlite:///:memory:",
        "sqlite:///a.db#fragment",
        "sqlite:///a%00.db",
        "sqlite:///a.db?synchronous=off",
        "sqlite:///a.db?mode=ro",
        "memory:",
        "memory://x",
        "mysql://user:hunter2@host/db",
        "postgresql://user:hunter2@host",
        "postgresql://user:hunter2@host/db?sslmode=prefer",
        "postgres://user:hunter2@host/db",
        "redis://:hunter2@host",
        "rediss://host?replicas=x",
        "redis+cluster://127.0.0.1/1",
        "SQLITE:///a.db",
    ],
)
async def test_what_cannot_be_opened_is_said_in_one_line_without_a_secret(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for attempt in (open_store(url, clock=FrozenClock()), migrate_store(url)):
        with pytest.raises(ConfigurationError) as raised:
            await attempt
        message = str(raised.value)
        assert "\n" not in message
        assert "hunter2" not in message
        assert any(
            scheme in message
            for scheme in ("sqlite:///", "memory://", "?synchronous", "postgresql://", "redis:// URL")
        )
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_a_url_is_known_before_it_is_opened() -> None:
    assert sqlite_path("sqlite:////var/lib/keyfob.db") == Path("/var/lib/keyfob.db")
    assert sqlite_path("memory://") is None
