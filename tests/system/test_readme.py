"""What the README and the documentation show works as it stands there."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import urllib3
from typer.main import get_command
from typer.testing import CliRunner

from keyfob.cli.commands import commands

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:^|[`\s])keyfob((?: [a-z][a-z-]*)+|(?: --?[a-z-]+)+)")
_TARGET = re.compile(r"\bmake ([a-z]+)\b")


def _python(page: Path) -> list[str]:
    return [code for language, code in _FENCED.findall(page.read_text("utf-8")) if language == "python"]


def _examples() -> dict[str, str]:
    """The files of examples/, by their text."""
    return {path.read_text("utf-8"): path.name for path in (ROOT / "examples").glob("*.py")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_on_a_page_is_an_example_or_runs_as_it_is(page: Path, tmp_path: Path) -> None:
    for number, code in enumerate(_python(page)):
        if code in _examples():
            continue
        script = tmp_path / f"block_{number}.py"
        script.write_text(code, "utf-8")
        ran = subprocess.run(
            [sys.executable, "-W", "error", str(script)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=60,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, ""), code
        for comment in re.findall(r"print\(.*\)  # (\w+)$", code, re.MULTILINE):
            assert comment in ran.stdout.splitlines(), "what a comment says that it prints"


def test_the_readme_shows_an_example_whole() -> None:
    shown = [name for text, name in _examples().items() if text in _python(README)]
    assert shown == ["asgi_service.py"]


@pytest.fixture
def service(deploy: Any) -> Iterator[Any]:
    """A server, and `examples/asgi_service.py` beside it, run as the README says."""
    deployment, beside = deploy(feed_heartbeat="0.2"), deploy()
    client_id, secret = deployment.add_client("orders-service", "keyfob:feed")
    deployment.add_users("alice")
    deployment.start()
    told = {"ISSUER": deployment.url, "CLIENT_ID": client_id, "CLIENT_SECRET": secret}
    process = subprocess.Popen(
        [
            *(sys.executable, "-W", "error", "-m", "uvicorn", "--app-dir", str(ROOT / "examples")),
            *("asgi_service:app", "--port", str(beside.port), "--lifespan", "off", "--log-level", "error"),
        ],
        env={**os.environ, **told},
        stdin=subprocess.DEVNULL,
        cwd=deployment.folder,
    )
    deployment.service = f"http://127.0.0.1:{beside.port}/"
    yield deployment
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    process.kill()
    process.wait()


@pytest.mark.slow
def test_the_example_service_takes_every_strategy_and_denies_what_is_revoked(
    service: Any, eventually: Any
) -> None:
    def ask(token: str) -> tuple[int, str]:
        with urllib3.PoolManager(retries=False, timeout=10) as pool:
            try:
                reply = pool.request("GET", service.service, headers={"Authorization": f"Bearer {token}"})
            except urllib3.exceptions.HTTPError:  # it is not up yet
                return 0, ""
            return reply.status, reply.data.decode()

    for strategy in ("session", "jwt", "hybrid"):
        grant = service.api.login("alice", strategy=strategy, audience=[service.url, "orders"]).body
        token = grant.get("access_token") or grant["session_token"]
        eventually(lambda token=token: ask(token)[0] == 200, "the service is level and accepts", within=40)
        assert ask(token) == (200, f"hello {grant['subject']}\n")
        assert service.api.post("/logout", token=token).status == 204
        eventually(lambda token=token: ask(token) == (401, "revoked\n"), "the service denies")
    assert ask("nonsense") == (401, "malformed\n")


# The command line


def _texts(page: Path) -> Iterator[str]:
    """The code on a page that is no Python: fenced, indented, and in a line."""
    text = page.read_text("utf-8")
    yield from (code for language, code in _FENCED.findall(text) if language != "python")
    prose = _FENCED.sub("", text)
    yield from re.findall(r"^ {4}(.+)$", prose, re.MULTILINE)
    yield from re.findall(r"`([^`\n]+)`", prose)


def _commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for text in _texts(page):
            for line in text.splitlines():
                shown = line.partition("#")[0].rstrip()
                if match := _COMMAND.search(shown):
                    yield shown[match.start() :].strip(" `"), str(page.relative_to(ROOT))


def _known(words: list[str]) -> list[str]:
    """The leading words of a command line that name a command, down to the last group."""
    command: Any = get_command(commands)
    named = []
    for word in words:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            break
        named.append(word)
    return named


def test_every_command_that_is_named_exists_with_its_options() -> None:
    shown = dict.fromkeys(_commands())
    assert len(shown) > 5, "the pages name commands"
    for line, page in shown:
        words = line.split()[1:]
        named = _known(words)
        assert named or words[0].startswith("-"), f"{page}: {line}"
        helped = CliRunner().invoke(commands, [*named, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
        assert helped.exit_code == 0, f"{page}: {line}"
        for option in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert option in helped.output, f"{page}: {line} has no {option}"


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    for page in PAGES:
        for text in _texts(page):
            named = set(itertools.chain.from_iterable(map(_TARGET.findall, text.splitlines())))
            assert named <= targets, page


def test_every_link_of_the_readme_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text("utf-8"))
    missing = [link for link in links if not link.startswith("http") and not (ROOT / link).exists()]
    assert missing == [], textwrap.shorten(str(missing), 300)
