"""The package of the browser: it builds, stays small, names no registry, and its own tests pass."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "packages" / "browser"
MAX_GZIPPED = 3_000  # bytes


def _npm(npm: str, folder: Path, script: str) -> None:
    ran = subprocess.run(
        [npm, "run", script], cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_module_is_less_than_three_kilobytes_and_needs_nothing_else(built: Path) -> None:
    module = (built / "dist" / "index.js").read_bytes()
    assert len(gzip.compress(module, 9)) < MAX_GZIPPED
    assert b"import" not in module
    assert "dependencies" not in json.loads((PACKAGE / "package.json").read_text())


def test_its_types_hold_and_its_own_tests_pass(npm: str, built: Path) -> None:
    _npm(npm, built, "check")
    _npm(npm, built, "test")


def test_what_is_public_has_types_and_words(built: Path) -> None:
    declared = "".join(path.read_text("utf-8") for path in (built / "dist").glob("*.d.ts"))
    exported = re.findall(
        r"[\w]+",
        " ".join(re.findall(r"export (?:type )?{([^}]*)}", (PACKAGE / "src" / "index.ts").read_text())),
    )
    assert len(exported) == 8, exported
    for name in exported:
        assert re.search(rf"\*/\nexport (declare class|interface) {name}\b", declared), name


def test_nothing_of_it_names_a_registry() -> None:
    for name in ("package.json", "package-lock.json", ".npmrc"):
        assert not re.search(
            r"https?://(?!github\.com|opencollective\.com|www\.patreon\.com)", (PACKAGE / name).read_text()
        ), name
    lock = json.loads((PACKAGE / "package-lock.json").read_text())
    for name, entry in lock["packages"].items():
        assert "resolved" not in entry, name
        assert not name or entry["integrity"].startswith("sha512-"), name


def test_versions_are_exact() -> None:
    wanted = json.loads((PACKAGE / "package.json").read_text())["devDependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values()), wanted
