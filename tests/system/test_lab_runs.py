"""Short real runs: real servers, real requests, and where there is one a real browser. Lifetimes of two seconds; no figure is looked at but for its kind."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyfob.lab.browser import NO_BROWSER, browser
from keyfob.lab.experiments import BY_KEY, cells
from keyfob.lab.plays import load, services
from keyfob.lab.readings import load as load_reading
from keyfob.lab.readings import services as services_reading
from keyfob.lab.result import Result
from keyfob.lab.run import Plan, run
from keyfob.lab.setups import BY_NAME
from keyfob.lab.stage import stage
from keyfob.testing.chromium import installed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LIFETIME = 2.0


@pytest.fixture(autouse=True)
def _keep_the_handler() -> Iterator[None]:
    """A run takes SIGTERM for itself."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def played(*numbers: int, setups: tuple[str, ...], budget: float = 280.0) -> tuple[Result, list[str]]:
    told: list[str] = []
    plan = Plan(
        numbers=frozenset(numbers),
        setups=[BY_NAME[name] for name in setups],
        access_seconds=LIFETIME,
        budget=budget,
    )
    result = run(plan, lambda setup, dimension: told.append(f"{setup}: {dimension}"))
    if budget:
        assert len(told) == plan.steps
    return result, told


def figures(result: Result, setup: str, key: str, row: str) -> Any:
    column = next(column for column in result.columns if column.setup == setup)
    cell = cells(BY_KEY[key], column)[row]
    assert cell.missing == "", f"{setup}, {key}: {cell.missing}"
    return cell.figures


def test_the_textbook_hybrid_waits_for_expiry_and_keyfobs_does_not() -> None:
    result, _ = played(1, 2, 6, setups=("textbook-hybrid", "keyfob-hybrid"))
    for setup, waits in (("textbook-hybrid", True), ("keyfob-hybrid", False)):
        assert figures(result, setup, "revocation", "denied")["until_exp"] is waits
        # Whatever is asked in the very moment of signing out may be answered: milliseconds, of a life of seconds.
        assert (figures(result, setup, "logout", "survival")["longest"] > LIFETIME / 2) is waits
        assert figures(result, setup, "theft", "detected")["detected"] is True
    assert figures(result, "textbook-hybrid", "theft", "thief")["beyond"] > 0
    assert result.columns[0].missing == {}


@pytest.mark.skipif(installed() is None, reason="needs Chromium")
def test_a_script_in_a_real_page_gets_a_token_from_local_storage_and_none_from_a_cookie() -> None:
    result, _ = played(3, 4, 5, setups=("textbook-jwt", "keyfob-session"))
    assert figures(result, "textbook-jwt", "storage", "own")["got"] > 0
    assert figures(result, "keyfob-session", "storage", "own")["got"] == 0
    assert figures(result, "textbook-jwt", "xss", "own")["replays"] > 0
    assert figures(result, "keyfob-session", "xss", "own")["replays"] == 0
    assert figures(result, "keyfob-session", "xss", "own")["acted"] is True
    for setup in ("textbook-jwt", "keyfob-session"):
        seen = figures(result, setup, "csrf", "changed")
        assert seen["changed"] == 0
        assert seen["control"] > 0


def test_what_needs_a_browser_says_that_there_is_none(monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", "")
    result, told = played(3, 4, 5, setups=("textbook-session",), budget=0)
    assert result.columns[0].missing == dict.fromkeys(("storage", "xss", "csrf"), NO_BROWSER)
    assert result.machine.browser.startswith("none")
    assert told == [], "nothing was started for it"
    with browser() as (browsing, _):
        assert browsing is None


def test_a_run_whose_time_is_over_begins_nothing_more() -> None:
    result, told = played(1, 7, setups=("keyfob-jwt",), budget=0)
    assert set(result.columns[0].missing) == {"revocation", "load"}
    assert all("over" in reason for reason in result.columns[0].missing.values())
    assert told == []


def test_whoever_ends_a_run_does_not_wait_until_its_tokens_expire() -> None:
    def tell(_setup: str, dimension: str) -> None:
        if dimension == BY_KEY["theft"].dimension:
            raise KeyboardInterrupt

    plan = Plan(numbers=frozenset({2, 6}), setups=[BY_NAME["textbook-jwt"]], access_seconds=3600)
    with pytest.raises(KeyboardInterrupt):
        run(plan, tell)


def test_what_a_checked_request_costs_is_counted_to_the_request(tmp_path: Path) -> None:
    with stage(BY_NAME["textbook-session"], folder=tmp_path, access_seconds=600, doors=1) as running:
        in_file, behind_socket = load.play(running, folder=tmp_path).variants
        load_reading.read(load_reading.LoadsSeen(variants=[in_file, behind_socket]))
        assert in_file.store_queries == in_file.requests
        assert in_file.network_calls == 0
        assert behind_socket.store_queries == behind_socket.network_calls == behind_socket.requests
        seen = services.play(running)
    read = services_reading.read(seen)
    assert read["calls"].figures == {"1": 1.0}
    assert read["authority"].figures["/orders.went_on"] is True
    assert read["store"].figures["/orders.went_on"] is False


def test_keyfobs_service_asks_once_and_refuses_when_it_cannot_know(tmp_path: Path) -> None:
    with stage(BY_NAME["keyfob-session"], folder=tmp_path, access_seconds=600, doors=1) as running:
        (counted,) = load.play(running, folder=tmp_path).variants
        seen = services.play(running)
    assert counted.store_queries == 0
    assert counted.network_calls == 0, "asked before, and not again"
    read = services_reading.read(seen)
    assert read["calls"].figures == {"1": 1 / services.REQUESTS}
    assert read["authority"].figures["/orders.went_on"] is False
    assert read["authority"].figures["/catalogue.went_on"] is True


def test_a_lab_that_is_ended_leaves_nothing_behind(
    tmp_path: Path, processes_of: Any, eventually: Any
) -> None:
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "keyfob.cli", "lab", "--only", "1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": "", "TMPDIR": str(tmp_path / "tmp")},
        cwd=tmp_path,
        start_new_session=True,
    )
    try:
        eventually(lambda: len(processes_of(process.pid)) > 1, "a process of the lab runs")
        process.terminate()
        assert process.wait(60) == 130
        eventually(lambda: processes_of(process.pid) == {}, "every process of the lab is gone")
        assert list((tmp_path / "tmp").iterdir()) == []
    finally:
        process.kill()
