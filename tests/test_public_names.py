"""The public names: lazy, complete, and light on a bare install."""

from __future__ import annotations

import subprocess
import sys

import pytest

import keyfob
from keyfob import _HOMES

HEAVY = (
    "argon2",
    "sqlite3",
    "starlette",
    "uvicorn",
    "typer",
    "rich",
    "structlog",
    "prometheus_client",
    "asyncpg",
)


def test_every_public_name_has_a_home_and_is_there() -> None:
    assert set(keyfob.__all__) == {*_HOMES, "__version__"}
    for name in keyfob.__all__:
        assert getattr(keyfob, name) is not None
    assert dir(keyfob) == sorted(keyfob.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        keyfob.nonsense  # noqa: B018


@pytest.mark.parametrize("code", ["import keyfob", "import keyfob; keyfob.Verifier"])
def test_the_import_loads_no_driver_no_framework_and_no_password_hash(code: str) -> None:
    script = f"import sys; {code}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []


def test_import_alone_loads_nothing_of_ours_but_the_package() -> None:
    script = "import sys, keyfob; print(*(name for name in sys.modules if name.startswith('keyfob.')))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []
