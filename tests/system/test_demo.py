"""The demo as a user runs it: a process, its figures, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

DEMO = [sys.executable, "-m", "keyfob.cli", "demo"]
MILLISECONDS = {
    "login_ms",
    "check_ms",
    "all_devices_denied_after_ms",
    "password_change_denied_after_ms",
    "deletion_denied_after_ms",
    "role_change_denied_after_ms",
}
THEFT = {"reuse_detected", "replayed_refresh_is_identical"}
CAUSES = {"sign_out", "all_devices", "password_change", "deletion", "role_change"}


class Demo:
    """A demo that was started in a session and with a folder for temporary files of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.printed = folder / "printed.txt"
        with self.printed.open("wb") as output:
            self.process = subprocess.Popen(
                [*DEMO, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(self.temporary), "COLUMNS": "120"},
                cwd=folder,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.printed.read_text()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


@pytest.fixture
def start_demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    started: list[Demo] = []

    def start(*arguments: str) -> Demo:
        started.append(Demo(tmp_path, *arguments))
        return started[-1]

    yield start
    for demo in started:
        demo.kill()


def test_the_demo_ends_well_and_writes_every_figure(start_demo: Any, processes_of: Any) -> None:
    demo = start_demo("--once", "--json", "demo.json")
    assert demo.process.wait(120) == 0, demo.text()
    result = json.loads((demo.folder / "demo.json").read_text())
    assert set(result) == {"strategies"}
    assert list(result["strategies"]) == ["session", "jwt", "hybrid"]
    for strategy, figures in result["strategies"].items():
        theft = THEFT if strategy == "hybrid" else set()
        assert set(figures) == MILLISECONDS | theft | {"denied_after_ms", "causes"}
        assert all(isinstance(figures[name], float) and figures[name] >= 0 for name in MILLISECONDS)
        assert len(figures["denied_after_ms"]) == 3
        assert all(isinstance(one, float) and one >= 0 for one in figures["denied_after_ms"])
        assert all(figures[name] is True for name in theft)
        assert set(figures["causes"]) == CAUSES
        ended = {figures["causes"][what] for what in CAUSES - {"role_change"}}
        assert ended == {"revoked"}
    lost_role = {name: figures["causes"]["role_change"] for name, figures in result["strategies"].items()}
    assert lost_role == {"session": "insufficient_role", "jwt": "stale_claims", "hybrid": "stale_claims"}
    assert processes_of(demo.process.pid) == {}
    assert list(demo.temporary.iterdir()) == []


def test_a_staying_demo_takes_another_port_and_ctrl_c_leaves_nothing_behind(
    start_demo: Any, processes_of: Any, eventually: Any
) -> None:
    with ExitStack() as stack:
        with suppress(OSError):  # taken by somebody else is as good
            stack.enter_context(socket.create_server(("127.0.0.1", 8080)))
        demo = start_demo()
        eventually(
            lambda: "Ctrl-C ends everything" in demo.text() or demo.process.poll() is not None,
            "the demo is over and stays up",
            within=120,
        )
    assert demo.process.poll() is None, demo.text()
    assert "still up at http://127.0.0.1:" in demo.text()
    assert "127.0.0.1:8080 " not in demo.text()
    assert len(processes_of(demo.process.pid)) == 5, "the demo, a server, three services"
    os.killpg(demo.process.pid, signal.SIGINT)  # as a terminal does: to all of them
    assert demo.process.wait(30) == 0, demo.text()
    assert "Traceback" not in demo.text()
    assert processes_of(demo.process.pid) == {}
    assert list(demo.temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_ended_while_it_starts_leaves_nothing_behind(
    start_demo: Any, processes_of: Any, eventually: Any, number: int
) -> None:
    demo = start_demo("--once")
    eventually(lambda: len(processes_of(demo.process.pid)) > 1, "a process of the demo runs")
    demo.process.send_signal(number)
    assert demo.process.wait(30) == 130, demo.text()
    # A command that was just being started ends by itself.
    eventually(lambda: processes_of(demo.process.pid) == {}, "every process of the demo is gone")
    assert list(demo.temporary.iterdir()) == []
