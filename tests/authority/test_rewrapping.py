"""A store goes over to another master key, and a crash at any moment leaves a file and a database that fit each other."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from keyfob.authority import rewrapping
from keyfob.authority.authority import Authority
from keyfob.authority.master_key import new_master_key
from keyfob.authority.rewrapping import Rewrapped, rewrap_store
from keyfob.base import base64url
from keyfob.base.clock import SystemClock
from keyfob.base.errors import ConfigurationError
from keyfob.stores.opening import open_store

ISSUER = "https://auth.example"


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'keyfob.db'}?synchronous=normal"


async def rewrapped(url: str, old: bytes | None = None, new: bytes | None = None) -> Rewrapped:
    return await rewrap_store(url, master_key=old, new_master_key=new, clock=SystemClock(), actor="cli")


async def token_of(url: str, master_key: bytes | None = None) -> str:
    async with Authority.open(url, issuer=ISSUER, master_key=master_key) as authority:
        return str((await authority.login("alice", strategy="jwt")).access_token)


async def still_verifies(url: str, token: str, master_key: bytes | None = None) -> bool:
    async with Authority.open(url, issuer=ISSUER, master_key=master_key) as authority:
        return (await authority.authenticate(token)).subject == "alice"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if ".key" in path.name)


async def test_a_key_file_is_swapped_and_tokens_stay_good(url: str, tmp_path: Path) -> None:
    token = await token_of(url)
    file = tmp_path / "keyfob.db.key"
    old = file.read_bytes()
    assert await rewrapped(url) == Rewrapped(keys=4, key_file=file)
    assert files(tmp_path) == ["keyfob.db.key"]
    assert file.read_bytes() != old
    assert file.stat().st_mode & 0o777 == 0o600
    assert await still_verifies(url, token)
    file.write_bytes(old)
    with pytest.raises(ConfigurationError, match=r"does not fit .* last rewrapped to"):
        await still_verifies(url, token)


async def test_each_run_with_a_key_file_makes_another_key(url: str, tmp_path: Path) -> None:
    token = await token_of(url)
    seen = set()
    for _ in range(3):
        assert (await rewrapped(url)).keys == 4
        seen.add((tmp_path / "keyfob.db.key").read_bytes())
    assert len(seen) == 3
    assert await still_verifies(url, token)


async def test_a_key_that_is_given_takes_the_place_of_the_file_once(url: str, tmp_path: Path) -> None:
    token, new = await token_of(url), new_master_key()
    assert (await rewrapped(url, new=new)).keys == 4
    assert (await rewrapped(url, new=new)).keys == 0
    assert (tmp_path / "keyfob.db.key").read_text().strip() == base64url.encode(new)
    assert await still_verifies(url, token)


async def test_keys_from_the_environment_leave_no_file(url: str, tmp_path: Path) -> None:
    old, new = new_master_key(), new_master_key()
    token = await token_of(url, old)
    assert await rewrapped(url, old, new) == Rewrapped(keys=4, key_file=None)
    assert await rewrapped(url, old, new) == Rewrapped(keys=0, key_file=None)
    assert files(tmp_path) == []
    assert await still_verifies(url, token, new)
    with pytest.raises(ConfigurationError, match="does not fit"):
        await still_verifies(url, token, old)


async def test_it_is_written_into_the_audit_trail_once(url: str) -> None:
    await token_of(url)
    new = new_master_key()
    await rewrapped(url, new=new)
    await rewrapped(url, new=new)
    async with Authority.open(url, issuer=ISSUER) as authority:
        page = await authority.store.audit.list(code="keys_rewrapped", limit=10)
    assert [(event.actor, event.facts) for event in page.events] == [("cli", {"keys": 4})]


STEPS = ["write_key", "rewrap", "sync_folder"]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_between_any_two_steps_leaves_a_store_that_opens(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, moment: str
) -> None:
    token = await token_of(url)
    with monkeypatch.context() as patch:
        patch.setattr(rewrapping, step, _crashing(getattr(rewrapping, step), moment))
        with pytest.raises(Crash):
            await rewrapped(url)
    assert await still_verifies(url, token)
    later = await token_of(url)
    assert (await rewrapped(url)).keys == 4
    assert files(tmp_path) == ["keyfob.db.key"]
    assert await still_verifies(url, token)
    assert await still_verifies(url, later)


def _crashing(step: Callable[..., object], moment: str) -> Callable[..., object]:
    def crash(*arguments: object, **options: object) -> object:
        if moment == "after":
            step(*arguments, **options)
        raise Crash

    async def crash_later(*arguments: object, **options: object) -> object:
        if moment == "after":
            await step(*arguments, **options)  # type: ignore[misc]
        raise Crash

    return crash_later if asyncio.iscoroutinefunction(step) else crash


async def test_what_was_interrupted_is_finished_before_a_given_key_comes(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, new = await token_of(url), new_master_key()
    with monkeypatch.context() as patch:
        patch.setattr(rewrapping, "rewrap", _crashing(rewrapping.rewrap, "after"))
        with pytest.raises(Crash):
            await rewrapped(url)
    assert files(tmp_path) == ["keyfob.db.key", "keyfob.db.key.new"]
    assert (await rewrapped(url, new=new)).keys == 4
    assert (tmp_path / "keyfob.db.key").read_text().strip() == base64url.encode(new)
    assert await still_verifies(url, token)


async def test_where_neither_file_fits_both_are_left(url: str, tmp_path: Path) -> None:
    await token_of(url)
    for name in ("keyfob.db.key", "keyfob.db.key.new"):
        (tmp_path / name).write_text(base64url.encode(new_master_key()))
        (tmp_path / name).chmod(0o600)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    with pytest.raises(ConfigurationError, match="neither"):
        await rewrapped(url)
    with pytest.raises(ConfigurationError, match="does not fit"):
        await token_of(url)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


async def test_a_running_authority_goes_on(url: str) -> None:
    async with Authority.open(url, issuer=ISSUER) as running:
        await rewrapped(url)
        await running.keys.reload()
        token = str((await running.login("alice", strategy="jwt")).access_token)
        assert (await running.authenticate(token)).subject == "alice"
    assert await still_verifies(url, token)


async def test_the_commit_is_durable_whatever_the_url_says(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await token_of(url)
    opened = []

    async def noting(url: str, **options: object) -> object:
        opened.append(url)
        return await open_store(url, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(rewrapping, "open_store", noting)
    await rewrapped(url)
    assert opened == [url.removesuffix("?synchronous=normal")]


async def test_a_second_one_at_the_same_time_is_refused(url: str, tmp_path: Path) -> None:
    token = await token_of(url)
    held = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConfigurationError, match="another rewrap is under way"):
            await rewrapped(url)
    finally:
        os.close(held)
    assert (await rewrapped(url)).keys == 4
    assert await still_verifies(url, token)


async def test_processes_that_rewrap_at_once_leave_a_store_that_opens(url: str, tmp_path: Path) -> None:
    token = await token_of(url)
    program = "import sys; sys.stdin.readline(); from keyfob.cli import main; main()"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KEYFOB_")}
    command = [sys.executable, "-c", program, "keys", "rewrap", "--store", url]
    processes = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outcomes = [(*process.communicate(timeout=60), process.returncode) for process in processes]
    assert any(code == 0 for *_, code in outcomes), outcomes
    assert all(code == 0 or "another rewrap" in errors for _, errors, code in outcomes), outcomes
    assert files(tmp_path) == ["keyfob.db.key"]
    assert await still_verifies(url, token)


@pytest.mark.parametrize(
    ("store", "old", "new", "message"),
    [
        ("memory://", None, None, "in memory"),
        ("sqlite:///nowhere.db", None, None, "there is no database"),
        ("sqlite:///nowhere.db", bytes(32), bytes(32), "there is no database"),
    ],
)
async def test_what_has_no_keys_is_refused(
    store: str,
    old: bytes | None,
    new: bytes | None,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=message):
        await rewrapped(store, old, new)
    assert list(tmp_path.iterdir()) == []


async def test_a_new_key_that_is_not_given_is_asked_for(url: str) -> None:
    old = new_master_key()
    await token_of(url, old)
    with pytest.raises(ConfigurationError, match="KEYFOB_NEW_MASTER_KEY is not set"):
        await rewrapped(url, old)
