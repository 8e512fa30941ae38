"""Where a server keeps what must outlive its restarts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from keyfob.authority.authority import Authority
from keyfob.authority.head_file import head_file_in
from keyfob.base.errors import ConfigurationError
from keyfob.server.settings import Settings
from keyfob.stores.memory import open_memory_store
from keyfob.testing.frozen_clock import FrozenClock

ISSUER = "https://auth.example"
POSTGRES = {"KEYFOB_STORE": "postgresql://keyfob@db.example/keyfob"}


def folder_of(environ: Mapping[str, str]) -> Path | None:
    return Settings.load(environ=environ).state_folder


def test_what_is_set_counts_then_the_service_s_then_the_user_s(tmp_path: Path) -> None:
    environ = POSTGRES | {"HOME": str(tmp_path)}
    assert folder_of(environ) == tmp_path / ".local/state/keyfob"
    environ |= {"XDG_STATE_HOME": str(tmp_path / "state")}
    assert folder_of(environ) == tmp_path / "state/keyfob"
    environ |= {"STATE_DIRECTORY": f"{tmp_path}/service:{tmp_path}/another"}
    assert folder_of(environ) == tmp_path / "service"
    environ |= {"KEYFOB_STATE_FOLDER": str(tmp_path / "chosen")}
    assert folder_of(environ) == tmp_path / "chosen"
    assert list(tmp_path.iterdir()) == [], "reading settings makes nothing"


def test_a_store_that_keeps_it_beside_itself_has_none(tmp_path: Path) -> None:
    for store in ("sqlite:///keyfob.db", "memory://"):
        assert folder_of({"HOME": str(tmp_path), "KEYFOB_STORE": store}) is None


def test_where_nobody_could_write_there_is_no_default(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert folder_of(POSTGRES) is None
    for home in (str(file), "relative"):
        assert folder_of(POSTGRES | {"HOME": home}) is None


@pytest.mark.parametrize("value", ["relative", "", "{file}"])
def test_what_is_no_folder_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="state_folder must be"):
        folder_of(POSTGRES | {"KEYFOB_STATE_FOLDER": value.format(file=tmp_path / "file")})


async def test_a_folder_that_cannot_be_made_refuses_to_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = open_memory_store(FrozenClock())
    with pytest.raises(ConfigurationError, match="cannot be made"):
        await Authority.open(
            store, issuer=ISSUER, master_key=bytes(32), state_folder=tmp_path / "file" / "folder"
        )
    await store.close()


async def test_each_store_and_each_issuer_has_a_file_of_its_own_for_the_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    stores = [open_memory_store(FrozenClock()) for _ in range(2)]
    wanted = set()
    for store in stores:
        for issuer in (ISSUER, "https://other.example"):
            authority = await Authority.open(
                store, issuer=issuer, master_key=bytes(32), state_folder=folder, clock=FrozenClock()
            )
            await authority.revoke("subject", "alice")
            await authority.feed.close()
            wanted.add(head_file_in(folder, salt=store.salt, issuer=issuer))
    assert {path for path in folder.iterdir() if path.suffix == ".head"} == wanted
    assert len(wanted) == 4
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in wanted} == {0o600}
