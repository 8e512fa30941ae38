"""The tests in docs/how-to/testing.md, run as a user would run them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "testing.md"


# What a project's own conftest may say, and a test of it.
CONFTEST = """
import pytest

@pytest.fixture
def keyfob_options():
    return {"issuer": "https://mine.example"}
"""
OWN = """
def test_own_options(keyfob_authority, keyfob_login, keyfob_clock):
    assert keyfob_authority.issuer == "https://mine.example"
    assert keyfob_login("alice").principal.subject == "alice"
    assert keyfob_clock.now().year == 2026
"""
# Plugins that these tests do not need, and that take seconds to load on a busy machine.
WITHOUT = (
    "cacheprovider",
    "asyncio",
    "anyio",
    "hypothesispytest",
    "xdist",
    "xdist.looponfail",
    "pytest_cov",
    "faker",
)


def test_pytest_finds_the_plugin_by_itself_and_the_tests_of_the_page_pass(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (tmp_path / "test_page.py").write_text(code)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_own.py").write_text(OWN)
    options = ["-q", "-W", "error", *(f"-pno:{name}" for name in WITHOUT)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "6 passed" in done.stdout, done.stdout + done.stderr
