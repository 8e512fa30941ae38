"""Threads are gone, and not only joined, before a process is forked."""

from __future__ import annotations

import ctypes
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keyfob.sync import Authority
from keyfob.sync.thread_ends import wait_until_gone, waiting_for_ends

DEADLINE = 10.0
SLOW = 300_000  # microseconds that a thread takes to end

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="there is no /proc here")


def end_slowly() -> None:
    """Let the thread that calls this take a while over its end, after Python is done with it: as a library with a key of its own may."""
    libc = ctypes.CDLL(None)
    key = ctypes.c_uint()
    libc.pthread_key_create(ctypes.byref(key), ctypes.cast(libc.usleep, ctypes.c_void_p))
    libc.pthread_setspecific(key, ctypes.c_void_p(SLOW))


def test_a_thread_that_was_there_before_and_ends_inside_is_waited_for() -> None:
    leave = threading.Event()

    def work() -> None:
        end_slowly()
        assert leave.wait(DEADLINE)

    thread = threading.Thread(target=work)
    thread.start()
    with waiting_for_ends():
        leave.set()
        thread.join()
    assert str(thread.native_id) not in os.listdir("/proc/self/task")


def test_waiting_goes_on_while_a_thread_is_there_and_ends_with_it() -> None:
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    thread.start()
    assert thread.native_id is not None
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait_until_gone, {thread.native_id})
        with pytest.raises(TimeoutError):
            waiting.result(0.1)
        leave.set()
        waiting.result(DEADLINE)
    thread.join()


def test_an_authority_that_is_closed_for_a_fork_leaves_no_thread_about_to_end(tmp_path: Path) -> None:
    with Authority.open(f"sqlite:///{tmp_path}/keyfob.db", issuer="https://auth.example") as authority:
        home = authority._home
        assert home._running is not None
        home._running.thread.loop.call_soon_threadsafe(end_slowly)
        home.call(_nothing)
        threads = {str(thread.native_id) for thread in threading.enumerate() if "keyfob" in thread.name}
        assert threads

        home.before_fork()
        left = threads.intersection(os.listdir("/proc/self/task"))
        home.after_fork_in_parent()

        assert not left
        assert authority.login("alice").subject == "alice"


async def _nothing(_authority: object) -> None:
    """Come back when what was told to the loop before is done."""
