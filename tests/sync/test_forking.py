"""`keyfob.sync.Authority` and real forks, in processes of their own."""

from __future__ import annotations

import http.client
import os
import signal
import socket as sockets
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


KEPT_BY_THE_PARENT = """
import os, sys
from keyfob.sync import Authority
from keyfob.base.errors import ConfigurationError

authority = Authority.open("memory://", issuer="https://auth.example")
child = os.fork()
if child == 0:
    try:
        authority.login("alice")
    except ConfigurationError as error:
        authority.close()
        os._exit(7 if "fork" in str(error) else 1)
    os._exit(2)
_, status = os.waitpid(child, 0)
authority.login("alice")
authority.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_is_told_that_sessions_in_memory_stay_with_the_parent() -> None:
    done = run(KEPT_BY_THE_PARENT)
    assert done.returncode == 7, done.stderr


MENDED = """
import os, sys
from keyfob.sync import Authority
from keyfob.base.errors import Denied

def locks_of(pid, path):
    inode = os.stat(path).st_ino
    return [line for line in open("/proc/locks") if f":{inode} " in line and int(line.split()[4]) == pid]

authority = Authority.open("sqlite:///" + sys.argv[1], issuer="https://auth.example")
token = authority.login("alice", strategy="session").session_token
children = []
for _ in range(2):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        assert authority.authenticate(token).subject == "alice"
        assert authority.login("bob").subject == "bob"
        if os.path.exists("/proc/locks"):
            assert locks_of(os.getpid(), sys.argv[1] + "-shm"), "the child holds no lock of its own"
        authority.close()
        os._exit(7)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
assert codes == [7, 7], codes
assert authority.authenticate(token).subject == "alice"
authority.logout(token)
try:
    authority.authenticate(token)
except Denied:
    authority.close()
    print("mended")
"""


def test_parent_and_children_each_open_their_own_on_a_database(tmp_path: Path) -> None:
    done = run(MENDED, str(tmp_path / "keyfob.db"))
    assert (done.returncode, done.stdout.strip()) == (0, "mended"), done.stderr


UNDER_LOAD = """
import os, sys, threading
from keyfob.sync import Authority

authority = Authority.open("sqlite:///" + sys.argv[1], issuer="https://auth.example")
stop, errors, done = threading.Event(), [], []

def work(number):
    while not stop.is_set():
        try:
            token = authority.login(f"user{number}", strategy="session").session_token
            assert authority.authenticate(token).subject == f"user{number}"
            done.append(number)
        except Exception as error:
            errors.append(repr(error))
            return

threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
codes = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        authority.login("child")
        authority.close()
        os._exit(7)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
before = len(done)
while len(done) < before + 8 and not errors:
    stop.wait(0.01)
stop.set()
for thread in threads:
    thread.join()
authority.close()
print(codes, errors)
"""


def test_forks_while_threads_are_calling_lose_no_call(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    rounds = request.config.getoption("--forks-under-load", default=0)
    if not rounds:
        pytest.skip("a race that takes many rounds: make soak")
    for number in range(rounds):
        done = run(UNDER_LOAD, str(tmp_path / f"{number}.db"))
        assert done.stdout.strip() == "[7, 7, 7] []", done.stderr


IN_USE = """
import os, sys
from keyfob.sync import Authority
from keyfob.base.errors import ConfigurationError

authority = Authority.open("sqlite:///" + sys.argv[1], issuer="https://auth.example")
with authority.sign_in() as attempt:
    child = os.fork()
    if child == 0:
        try:
            authority.login("alice")
        except ConfigurationError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert attempt.login("alice").subject == "alice"
authority.close()
print("went on")
"""


def test_what_is_under_way_in_the_parent_goes_on_and_the_child_is_told(tmp_path: Path) -> None:
    done = run(IN_USE, str(tmp_path / "keyfob.db"))
    assert done.stdout.strip() == "went on", done.stderr


APPLICATION = """
import http.client
import os
from urllib.parse import parse_qs
from keyfob.base.errors import Denied
from keyfob.sync import Authority

authority = Authority.open("sqlite:///" + os.environ["DATABASE"], issuer="https://auth.example")
TOKEN = authority.login("alice", strategy="session").session_token

def app(environ, start_response):
    if environ["PATH_INFO"] == "/end":
        authority.logout(TOKEN)
    try:
        text = f"{os.getpid()} {authority.authenticate(TOKEN).subject}"
    except Denied as denied:
        text = f"{os.getpid()} {denied.code}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]
"""


def test_the_workers_of_a_preloaded_gunicorn_each_have_one(tmp_path: Path) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    socket = tmp_path / "socket"
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "application:app", "--preload", "--workers", "2"),
                *("--threads", "4", "--log-level", "error", "-b", f"unix:{socket}"),
            ],
            cwd=tmp_path,
            env={**os.environ, "DATABASE": str(tmp_path / "keyfob.db")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        assert {answer for _, answer in both_workers(socket)} == {"alice"}
        ask(socket, "/end")
        until = time.monotonic() + 1.0
        while {answer for _, answer in both_workers(socket)} != {"revoked"}:
            assert time.monotonic() < until, (tmp_path / "log").read_text()
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(20)
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def ask(socket: Path, path: str) -> tuple[str, str]:
    """Ask over a connection of its own, which may reach either worker."""

    connection = http.client.HTTPConnection("localhost", timeout=20)
    connection.sock = sockets.socket(sockets.AF_UNIX)
    try:
        connection.sock.connect(str(socket))
        connection.request("GET", path, headers={"Connection": "close"})
        process, _, answer = connection.getresponse().read().decode().partition(" ")
    finally:
        connection.close()
    return process, answer


def both_workers(socket: Path) -> list[tuple[str, str]]:
    """Ask until both workers have answered."""
    until = time.monotonic() + 40
    answers: dict[str, str] = {}
    while len(answers) < 2:
        assert time.monotonic() < until, "both workers do not answer"
        try:
            process, answer = ask(socket, "/")
        except OSError:  # it does not listen yet
            time.sleep(0.02)
            continue
        answers[process] = answer
    return list(answers.items())
