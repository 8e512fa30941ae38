"""The page of attacks names tests that exist, and leaves out no row of the list."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "attacks.md"
LIST = ROOT.parent / "shared" / "standards" / "attacks.md"
ROW = re.compile(r"^\| ([A-Z]-\d\d) \|.*\|(.*)\|$", re.MULTILINE)


def rows() -> dict[str, str]:
    return {number: text.strip() for number, text in ROW.findall(PAGE.read_text("utf-8"))}


def test_every_named_test_exists() -> None:
    missing = []
    for number, text in rows().items():
        for file, name in re.findall(r"`(tests/[a-z_/]+\.py)::(test_[a-z0-9_]+)`", text):
            path = ROOT / file
            if not path.is_file() or not re.search(rf"def {name}\(", path.read_text("utf-8")):
                missing.append((number, file, name))
    assert not missing


def test_every_row_names_a_test_or_a_reason() -> None:
    assert len([number for number in rows() if number[0] in "JK"]) == 50
    assert all(len(text) > 40 for text in rows().values())


def test_no_row_of_the_list_is_missing() -> None:
    if not LIST.is_file():
        pytest.skip("the list of attacks is not beside this checkout (../shared/standards/attacks.md)")
    listed = set(re.findall(r"^\| ☐ ([JKOR]-\d\d) \|", LIST.read_text("utf-8"), re.MULTILINE))
    shown = set(rows())
    assert shown <= listed
    # Of O and R, only some are there yet.
    assert {number for number in listed - shown if number[0] not in "OR"} == set()
