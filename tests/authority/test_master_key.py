"""The master key: read strictly, made once, never shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from keyfob.authority.authority import Authority
from keyfob.authority.master_key import master_key_beside, new_master_key, read_master_key
from keyfob.base import base64url
from keyfob.base.errors import ConfigurationError

ISSUER = "https://auth.example"


def test_a_key_is_read_with_or_without_padding() -> None:
    key = new_master_key()
    text = base64url.encode(key)
    assert read_master_key(text) == read_master_key(text + "=") == read_master_key(f" {text}\n") == key


@pytest.mark.parametrize("text", ["", "x", "A" * 42, "A" * 44, "!" * 43, "\u00e9" * 43])
def test_what_is_no_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigurationError, match="32 bytes in base64url") as caught:
        read_master_key(text)
    assert len(text) < 2 or text not in str(caught.value)


def test_the_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    database = tmp_path / "keyfob.db"
    key = master_key_beside(database)
    file = tmp_path / "keyfob.db.key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert master_key_beside(database) == key
    assert [path.name for path in tmp_path.iterdir()] == ["keyfob.db.key"]


def test_processes_that_make_it_at_once_agree(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from keyfob.authority.master_key import master_key_beside; "
        "sys.stdin.readline(); print(master_key_beside(Path(sys.argv[1])).hex())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "keyfob.db")]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    keys = {process.communicate(timeout=60)[0] for process in processes}
    assert len(keys) == 1
    assert len(keys.pop().strip()) == 64


def test_whoever_links_second_takes_the_key_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "keyfob.db"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda self: False)  # as the slower process saw it
        first = master_key_beside(database)
        assert master_key_beside(database) == first
    assert master_key_beside(database) == first


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    database = tmp_path / "keyfob.db"
    master_key_beside(database)
    (tmp_path / "keyfob.db.key").chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        master_key_beside(database)


def test_a_database_that_lost_its_key_is_not_given_another(tmp_path: Path) -> None:
    database = tmp_path / "keyfob.db"
    database.write_bytes(b"not empty")
    with pytest.raises(ConfigurationError, match="restore it"):
        master_key_beside(database)
    assert not (tmp_path / "keyfob.db.key").exists()


def test_a_file_that_is_no_text_and_a_missing_folder_are_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "keyfob.db.key").write_bytes(b"\xff" * 44)
    (tmp_path / "keyfob.db.key").chmod(0o600)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        master_key_beside(tmp_path / "keyfob.db")
    with pytest.raises(ConfigurationError, match="there is no folder"):
        master_key_beside(tmp_path / "nowhere" / "keyfob.db")


async def test_an_authority_on_sqlite_makes_and_finds_its_key(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'keyfob.db'}"
    async with Authority.open(url, issuer=ISSUER) as authority:
        issued = await authority.login("alice", strategy="jwt")
    async with Authority.open(url, issuer=ISSUER) as authority:
        assert (await authority.authenticate(str(issued.access_token))).subject == "alice"


async def test_a_key_that_does_not_fit_the_store_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'keyfob.db'}"
    async with Authority.open(url, issuer=ISSUER, master_key=bytes(32)):
        pass
    with pytest.raises(ConfigurationError, match="master key"):
        await Authority.open(url, issuer=ISSUER, master_key=b"x" * 32)


@pytest.mark.parametrize("key", [b"", b"x" * 31, b"x" * 33, "", "x"])
async def test_a_key_of_another_length_is_refused(key: bytes | str) -> None:
    with pytest.raises(ConfigurationError, match="32 bytes"):
        await Authority.open("memory://", issuer=ISSUER, master_key=key)


async def test_a_store_given_as_it_is_needs_its_key_named() -> None:
    from keyfob.stores.memory import open_memory_store
    from keyfob.testing.frozen_clock import FrozenClock

    with pytest.raises(ConfigurationError, match="needs a master key"):
        await Authority.open(open_memory_store(FrozenClock()), issuer=ISSUER)


def test_a_file_that_cannot_be_made_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be made"):
        master_key_beside(tmp_path / ("x" * 255))
