"""`keyfob advise`: flags, a file, a log, a terminal, and what it writes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from keyfob.advice.rules import read_rules
from keyfob.cli.commands import commands
from keyfob.server.settings import Settings

LINE = b'192.0.2.7 - - [24/Nov/2026:10:%02d:07 +0100] "GET / HTTP/1.1" 200 5 "-" "okhttp/5"\n'


def run(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["advise", *arguments])


def advice(*arguments: str) -> dict[str, object]:
    result = run("--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def test_without_a_terminal_everything_has_a_default() -> None:
    result = run()
    assert result.exit_code == 0
    assert result.stdout.startswith("browser: session, in an HttpOnly cookie (rule single)\n")
    assert 'access_lifetime = "300s"' in result.stdout


def test_flags_win_over_the_log_the_file_and_the_situation(tmp_path: Path) -> None:
    (tmp_path / "answers.toml").write_text('regions = 2\nservices = 5\nclients = ["browser", "machine"]\n')
    (tmp_path / "access.log").write_bytes(LINE % 1 * 120 + b"no line\n")
    told = advice(
        "--situation", "monolith", "--answers", str(tmp_path / "answers.toml"),
        "--access-log", str(tmp_path / "access.log"), "--services", "7",
    )  # fmt: skip
    need = told["need"]
    assert isinstance(need, dict)
    assert (need["services"], need["regions"], need["revocation"]) == (7, 2, "within-minutes")
    assert (need["clients"], need["requests"]) == (["mobile"], 2.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--services", "none"), "services is a whole number from 1 to 10000"),
        (("--situation", "holiday"), "--situation is one of monolith, "),
        (("--answers", "absent.toml"), "absent.toml: cannot be read"),
        (("--access-log", "absent.log"), "absent.log: cannot be read"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"keyfob: {said}")


@pytest.mark.parametrize("text", ["services =", 'flavour = "vanilla"', "services = [[1]]"])
def test_a_file_that_holds_no_answers_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "answers.toml").write_text(text)
    assert run("--answers", str(tmp_path / "answers.toml")).exit_code == 1


@pytest.mark.parametrize("situation", read_rules().situation)
def test_the_settings_of_each_situation_can_be_read(tmp_path: Path, situation: str) -> None:
    file = tmp_path / "keyfob.toml"
    assert run("--situation", situation, "--out", str(file)).exit_code == 0
    settings = Settings.load(config=file, environ={})
    told = advice("--situation", situation)
    assert settings.access_lifetime.total_seconds() == told["access_lifetime_seconds"]
    assert told["keyfob_toml"] == file.read_text("utf-8")


def test_settings_that_are_there_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "keyfob.toml"
    file.write_text("mine")
    assert run("--out", str(file)).exit_code == 1
    assert file.read_text() == "mine"


def test_the_questions_are_printed() -> None:
    said = run("--questions").stdout
    for question in read_rules().question:
        assert question.text in said


def at_a_terminal(typed: bytes) -> str:
    """Return what the command says at a real terminal at which *typed* is typed."""
    master, terminal = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "keyfob.cli", "advise"],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "200", "NO_COLOR": "1"},
        )
        os.close(terminal)
        os.write(master, typed)
        said = b""
        try:
            while piece := os.read(master, 65_536):
                said += piece
        except OSError:  # Linux: the other side is closed
            pass
        assert process.wait(60) == 0
        return said.decode()
    finally:
        os.close(master)


def test_at_a_terminal_it_asks_and_enter_takes_the_default() -> None:
    assert "browser: session, in an HttpOnly cookie (rule single)" in at_a_terminal(b"\n" * 10)


def test_an_answer_can_be_taken_back_and_a_wrong_one_is_asked_again() -> None:
    # 1 service; no: back, 12 services; run by nobody, by others; the rest by default.
    said = at_a_terminal(b"1\nb\n12\nnobody\nothers\n" + b"\n" * 8)
    assert "run_by is one of us, others" in said
    assert "(rule others-at-once)" in said
