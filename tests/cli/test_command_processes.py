"""The command line as a process: the entry point, its exit codes, and a running server that hears of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("KEYFOB_")}


def run(directory: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "keyfob", *arguments],
        cwd=directory,
        env=ENVIRONMENT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_first_administrator_is_added_with_the_real_parameters(tmp_path: Path) -> None:
    added = run(
        tmp_path,
        "user",
        "add",
        "root",
        "--role",
        "keyfob:admin",
        "--password-stdin",
        stdin="a fine passphrase",
    )
    assert (added.returncode, added.stderr) == (0, "")
    listed = run(tmp_path, "user", "list")
    assert "keyfob:admin" in listed.stdout
    assert oct((tmp_path / "keyfob.db.key").stat().st_mode & 0o777) == "0o600"


def test_exit_codes_and_streams(tmp_path: Path) -> None:
    assert run(tmp_path, "version").returncode == 0
    refused = run(tmp_path, "user", "delete", "nobody")
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.count("\n") == 1
    assert "Traceback" not in refused.stderr
    assert run(tmp_path, "nonsense").returncode == 2


def test_two_commands_that_make_the_store_at_once_agree_on_its_keys(tmp_path: Path) -> None:
    commands = [
        subprocess.Popen(
            [sys.executable, "-m", "keyfob.cli", "client", "add", f"c{number}"],
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for command in commands:
        _, errors = command.communicate(timeout=60)
        assert command.returncode == 0, errors
    keys = run(tmp_path, "keys", "list").stdout.splitlines()
    assert len(keys) == 5  # a heading, and one key of each purpose


def test_without_the_server_extra_the_line_says_what_to_install(tmp_path: Path) -> None:
    program = "import sys; sys.modules['typer'] = None; from keyfob.cli import main; main()"
    refused = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert refused.returncode == 1
    assert "pip install keyfob[server]" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_importing_keyfob_loads_neither_argon2_nor_the_command_line() -> None:
    program = (
        "import sys, keyfob; "
        "sys.exit(bool({'argon2', 'typer', 'rich', 'uvicorn', 'starlette', 'sqlite3'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0
