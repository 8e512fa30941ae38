"""The page of the five journeys names files that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "explanation" / "five-journeys.md"


def test_every_file_that_the_page_names_exists() -> None:
    page = PAGE.read_text("utf-8")
    named = set(re.findall(r"`([a-z0-9_/]+\.py)`", page))
    assert len(named) > 25
    missing = sorted(name for name in named if not (ROOT / "src" / "keyfob" / name).is_file())
    missing += [
        name for name in re.findall(r"`(packages/[a-z0-9_/]+\.ts)`", page) if not (ROOT / name).is_file()
    ]
    assert not missing
