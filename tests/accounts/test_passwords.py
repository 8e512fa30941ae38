"""Hashing: argon2id behind a bounded queue."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from keyfob.accounts.passwords import PasswordPolicy, Passwords
from keyfob.base.errors import ConfigurationError, Unavailable

CHEAP = PasswordPolicy(memory_kib=8, iterations=1, threads=1, queue=1)
RIGHT = "correct horse battery"


@pytest.fixture
def passwords():
    made = Passwords(CHEAP)
    yield made
    made.close()


class Gate:
    """Holds the one thread of a pool until opened."""

    def __init__(self, passwords: Passwords) -> None:
        self._held = threading.Event()
        self._open = threading.Event()
        passwords.load().threads.submit(self._hold)
        assert self._held.wait(10)

    def _hold(self) -> None:
        self._held.set()
        assert self._open.wait(30)

    def open(self) -> None:
        self._open.set()


async def test_a_password_fits_its_own_hash_alone(passwords: Passwords) -> None:
    with passwords.seat() as seat:
        password_hash = await seat.hash(RIGHT)
        assert password_hash.startswith("$argon2id$")
        assert await seat.verify(password_hash, RIGHT)
        assert not await seat.verify(password_hash, RIGHT + "!")
        assert await seat.hash(RIGHT) != password_hash


async def test_no_account_and_no_readable_password_cost_a_verification_and_are_never_right(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = passwords.load()
    seen: list[str] = []
    verify = engine.verify

    def counted(password_hash: str, password: str) -> bool:
        seen.append(password_hash)
        return verify(password_hash, password)

    monkeypatch.setattr(engine, "verify", counted)
    with passwords.seat() as seat:
        password_hash = await seat.hash("")
        assert not await seat.verify(None, RIGHT)
        assert not await seat.verify(None, None)
        assert not await seat.verify(password_hash, None)  # although the hash is that of the empty text
    assert len(seen) == 3
    assert all(one.startswith("$argon2id$v=19$m=8,t=1,p=1$") for one in seen)


async def test_nobodys_hash_has_the_parameters_of_any_other(passwords: Passwords) -> None:
    with passwords.seat() as seat:
        mine = await seat.hash(RIGHT)
        nobodys = passwords.load().nobodys_hash
        assert [len(part) for part in mine.split("$")] == [len(part) for part in nobodys.split("$")]
        assert mine.split("$")[:4] == nobodys.split("$")[:4]
        assert not seat.is_outdated(nobodys)


async def test_a_hash_that_cannot_be_read_is_never_right(passwords: Passwords) -> None:
    with passwords.seat() as seat:
        for broken in ("", "x", "$argon2id$", "$argon2id$v=19$m=8,t=1,p=1$AAAA", "plain"):
            assert not await seat.verify(broken or "-", RIGHT)


async def test_a_hash_of_other_parameters_is_outdated_and_still_verified(passwords: Passwords) -> None:
    older = Passwords(PasswordPolicy(memory_kib=16, iterations=1, threads=1, queue=0))
    with older.seat() as seat:
        password_hash = await seat.hash(RIGHT)
    older.close()
    with passwords.seat() as seat:
        assert seat.is_outdated(password_hash)
        assert await seat.verify(password_hash, RIGHT)


async def test_whoever_finds_no_seat_is_told_at_once_and_when_to_come_back(passwords: Passwords) -> None:
    gate = Gate(passwords)
    with passwords.seat() as first, passwords.seat() as second:
        waiting = [asyncio.ensure_future(seat.hash(RIGHT)) for seat in (first, second)]
        with pytest.raises(Unavailable) as refusal, passwords.seat():
            pytest.fail("a third seat of two")
        assert refusal.value.retry_after >= 1
        gate.open()
        assert len(await asyncio.gather(*waiting)) == 2
    with passwords.seat() as seat:
        assert await seat.hash(RIGHT)


async def test_a_caller_that_is_cancelled_leaves_its_seat_when_the_thread_is_free(
    passwords: Passwords,
) -> None:
    engine = passwords.load()
    begun, go_on = threading.Event(), threading.Event()

    def slow(password: str) -> str:
        begun.set()
        assert go_on.wait(30)
        return password

    engine.hash = slow  # type: ignore[method-assign]

    async def hash_one() -> None:
        with passwords.seat() as seat:
            await seat.hash(RIGHT)

    running = asyncio.ensure_future(hash_one())
    await asyncio.to_thread(begun.wait, 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with (
        passwords.seat(),
        pytest.raises(Unavailable),
        passwords.seat(),
    ):  # one of two is still taken by the thread
        pytest.fail("the cancelled caller's seat was given away")
    go_on.set()
    await asyncio.to_thread(engine.threads.submit(lambda: None).result, 10)
    with passwords.seat(), passwords.seat():
        pass


async def test_the_event_loop_goes_on_while_a_hash_runs(passwords: Passwords) -> None:
    gate = Gate(passwords)
    with passwords.seat() as seat:
        hashing = asyncio.ensure_future(seat.hash(RIGHT))
        turns = 0
        while turns < 100:
            await asyncio.sleep(0)
            turns += 1
        assert not hashing.done()
        gate.open()
        assert await hashing


async def test_closing_twice_is_once_and_a_later_use_begins_anew(passwords: Passwords) -> None:
    with passwords.seat() as seat:
        await seat.hash(RIGHT)
    passwords.close()
    passwords.close()
    with passwords.seat() as seat:
        assert await seat.hash(RIGHT)


async def test_the_default_is_argon2id_with_19_mebibytes_and_two_passes() -> None:
    passwords = Passwords()
    with passwords.seat() as seat:
        password_hash = await seat.hash(RIGHT)
        assert password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert await seat.verify(password_hash, RIGHT)
        assert not await seat.verify(None, RIGHT)
    passwords.close()


@pytest.mark.parametrize("wrong", [{"memory_kib": 7}, {"iterations": 0}, {"threads": 0}, {"queue": -1}])
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        PasswordPolicy(**wrong)


def test_without_argon2_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "argon2", None)
    passwords = Passwords(CHEAP)
    with pytest.raises(ConfigurationError, match=r"pip install keyfob\[server\]"), passwords.seat():
        pytest.fail("a seat without argon2")


def test_importing_the_services_does_not_load_argon2() -> None:
    import subprocess

    program = (
        "import sys, keyfob.accounts.accounts, keyfob.clients.clients; sys.exit('argon2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
