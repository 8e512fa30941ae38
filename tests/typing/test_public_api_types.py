"""The types of the public names, as a user's checker sees them: none of them is `Any`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.timeout(240)  # the first time, when mypy has nothing cached
@pytest.mark.parametrize("names", ["public_api", "django_api", "integrations_api"])
def test_the_public_names_are_fully_typed(names: str) -> None:
    checked = subprocess.run(
        # The project's own settings, so that the cache of 'make check' serves.
        [sys.executable, "-m", "mypy", "--strict", str(Path(__file__).with_name(f"{names}.py"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(shutil.which("pyright") is None, reason="pyright is not installed")
def test_they_are_to_pyright_as_well() -> None:
    settings = {
        "include": [str(Path(__file__).parent.relative_to(ROOT))],
        "venvPath": str(ROOT),
        "venv": ".venv",
        "typeCheckingMode": "strict",
        "reportUnusedFunction": "none",  # the examples of these files are not called
        "reportUnusedVariable": "none",
    }
    place = ROOT / ".pyright-of-tests.json"  # paths are relative to where it lies
    place.write_text(json.dumps(settings))
    try:
        checked = subprocess.run(
            ["pyright", "-p", str(place)], cwd=ROOT, capture_output=True, text=True, check=False
        )
    finally:
        place.unlink()
    assert checked.returncode == 0, checked.stdout + checked.stderr
