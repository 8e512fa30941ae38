"""The examples in the how-to pages are the files of `examples/`, which the system tests start."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "how-to"
EXAMPLES = {
    "aiohttp_service.py": "aiohttp.md",
    "django_service.py": "django.md",
    "fastapi_embedded.py": "fastapi.md",
    "fastapi_service.py": "fastapi.md",
    "flask_service.py": "flask.md",
    "flask_sessions.py": "flask-sessions.md",
    "grpc_aio_service.py": "grpc.md",
    "grpc_service.py": "grpc.md",
    "litestar_service.py": "litestar.md",
    "sign_in_client.py": "sign-in-from-another-domain.md",
}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_page_shows_the_example_that_is_tested(name: str) -> None:
    page = (PAGES / EXAMPLES[name]).read_text("utf-8")
    example = (ROOT / "examples" / name).read_text("utf-8")
    assert example in re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert f"docs/how-to/{EXAMPLES[name]}" in example
    assert system_test_of(name)


def system_test_of(name: str) -> str:
    """Return the system test that starts an example, by its module's name."""
    for test in sorted((ROOT / "tests" / "system").glob("test_*.py")):
        if name.removesuffix(".py") in test.read_text("utf-8"):
            return test.name
    raise AssertionError(f"no system test starts {name}")
