"""Between processes on one file: whoever follows is told, by a socket or by looking."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyfob.revocation.entry import Scope
from keyfob.stores.opening import open_store
from keyfob.stores.sqlite.wake_up import WakeUps
from keyfob.stores.store import Store
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.testing.store_contract import position, put_new, revocation

DEADLINE = 5.0  # seconds


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyfob.db"


@pytest.fixture
async def pair(path: Path, clock: FrozenClock) -> AsyncIterator[tuple[Store, Store]]:
    """Yield two stores on one file, as two processes have them."""
    stores = [await open_store(f"sqlite:///{path}", clock=clock) for _ in range(2)]
    yield stores[0], stores[1]
    for store in stores:
        await store.close()


async def append(store: Store, clock: FrozenClock) -> None:
    await store.sessions.end(revocation(Scope.TOKEN, "jti", clock.now()), now=clock.now())


async def test_another_process_is_woken(pair: tuple[Store, Store], clock: FrozenClock) -> None:
    reader, writer = pair
    woken = threading.Event()
    reader.feed.subscribe(woken.set)
    for number in range(1, 4):
        woken.clear()
        await append(writer, clock)
        assert woken.wait(DEADLINE)
        assert await position(reader) == number


async def test_this_process_is_woken_before_the_call_returns(
    pair: tuple[Store, Store], clock: FrozenClock
) -> None:
    store = pair[0]
    woken = threading.Event()
    store.feed.subscribe(woken.set)
    for _ in range(20):
        woken.clear()
        await append(store, clock)
        assert woken.is_set()


async def test_the_others_are_called_before_the_call_returns(
    pair: tuple[Store, Store], clock: FrozenClock, path: Path
) -> None:
    side = WakeUps(path)
    receiver = side.open_socket()
    assert receiver is not None
    await append(pair[0], clock)
    receiver.setblocking(False)
    assert receiver.recv(16) == b"\0"
    side.close_socket(receiver)


async def test_both_directions_at_once(pair: tuple[Store, Store], clock: FrozenClock) -> None:
    woken = [threading.Event(), threading.Event()]
    for store, event in zip(pair, woken, strict=True):
        store.feed.subscribe(event.set)
    await append(pair[0], clock)
    assert all(event.wait(DEADLINE) for event in woken)


async def test_polling_alone_is_enough(path: Path, clock: FrozenClock) -> None:
    path.with_name("keyfob.db-wake").write_bytes(b"")  # where the folder of sockets would be
    stores = [await open_store(f"sqlite:///{path}", clock=clock) for _ in range(2)]
    woken = threading.Event()
    stores[0].feed.subscribe(woken.set)
    await append(stores[1], clock)
    assert woken.wait(DEADLINE)
    for store in stores:
        await store.close()
    assert path.with_name("keyfob.db-wake").is_file()


async def test_what_moves_no_feed_wakes_nobody(pair: tuple[Store, Store], clock: FrozenClock) -> None:
    reader, writer = pair
    woken, again = threading.Event(), threading.Event()
    reader.feed.subscribe(woken.set)
    await put_new(writer, clock)
    assert not woken.is_set()
    reader.feed.subscribe(again.set)
    await append(writer, clock)
    assert again.wait(DEADLINE)
    assert woken.wait(DEADLINE)


async def test_a_file_that_is_gone_wakes_so_that_it_is_found_out(
    pair: tuple[Store, Store], path: Path
) -> None:
    woken = threading.Event()
    pair[0].feed.subscribe(woken.set)
    path.unlink()
    assert woken.wait(DEADLINE)


# the sockets by themselves


def receive(receiver: socket.socket) -> bytes:
    receiver.settimeout(DEADLINE)
    return receiver.recv(16)


def nothing_comes(receiver: socket.socket) -> bool:
    receiver.setblocking(False)
    try:
        receiver.recv(16)
    except BlockingIOError:
        return True
    return False


def test_a_datagram_reaches_every_other_process(path: Path) -> None:
    sides = [WakeUps(path) for _ in range(3)]
    receivers = [side.open_socket() for side in sides]
    assert all(receivers)
    sides[0].send()
    assert nothing_comes(receivers[0])
    assert [receive(receiver) for receiver in receivers[1:]] == [b"\0"] * 2
    for side, receiver in zip(sides, receivers, strict=True):
        side.close_socket(receiver)
    assert list(path.parent.iterdir()) == []


def test_the_folder_of_sockets_is_for_its_owner_alone(path: Path) -> None:
    side = WakeUps(path)
    receiver = side.open_socket()
    assert receiver is not None
    assert path.with_name("keyfob.db-wake").stat().st_mode & 0o777 == 0o700
    side.close_socket(receiver)


def test_a_dead_socket_is_removed(path: Path) -> None:
    dead, sender, living = WakeUps(path), WakeUps(path), WakeUps(path)
    gone, here = dead.open_socket(), living.open_socket()
    assert gone is not None
    assert here is not None
    gone.close()  # as a process that was killed leaves it
    folder = path.with_name("keyfob.db-wake")
    assert len(list(folder.iterdir())) == 2
    sender.send()
    assert receive(here) == b"\0"
    assert len(list(folder.iterdir())) == 1
    living.close_socket(here)


def test_a_path_too_long_for_an_address_has_sockets_too(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    path = folder / "keyfob.db"
    sender, living = WakeUps(path), WakeUps(path)
    receiver = living.open_socket()
    assert receiver is not None
    sender.send()
    assert receive(receiver) == b"\0"
    living.close_socket(receiver)
    assert list(folder.iterdir()) == []


def test_a_full_socket_holds_nobody_up(path: Path) -> None:
    sender, living = WakeUps(path), WakeUps(path)
    receiver = living.open_socket()
    assert receiver is not None
    for _ in range(2000):
        sender.send()
    assert receive(receiver) == b"\0"
    living.close_socket(receiver)


def test_what_is_no_socket_is_left_alone(path: Path) -> None:
    folder = path.with_name("keyfob.db-wake")
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    WakeUps(path).send()
    side = WakeUps(path)
    receiver = side.open_socket()
    assert receiver is not None
    side.close_socket(receiver)
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]


def test_without_a_folder_nothing_is_sent(path: Path) -> None:
    WakeUps(path).send()
    assert list(path.parent.iterdir()) == []


def test_where_no_folder_can_be_there_is_no_socket(tmp_path: Path) -> None:
    assert WakeUps(tmp_path / "none" / "keyfob.db").open_socket() is None
