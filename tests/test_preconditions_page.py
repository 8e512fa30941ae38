"""The page of the thirteen preconditions names guards and tests that exist, and leaves out none."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "explanation" / "preconditions.md"
ROW = re.compile(r"^\| (\d+)\. [^|]+\|([^|]+)\|([^|]+)\|([^|]+)\|$", re.MULTILINE)
TEST = re.compile(r"`([a-z_/]+\.py)::(test_[a-z0-9_]+)`")


def rows() -> list[tuple[int, str, str, str]]:
    return [(int(number), *texts) for number, *texts in ROW.findall(PAGE.read_text("utf-8"))]


def test_each_precondition_has_its_rows() -> None:
    assert {number for number, *_ in rows()} == set(range(1, 14))
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if re.match(r"\| \d", line)]
    assert len(lines) == len(rows())


def test_each_row_names_a_function_in_the_code_and_a_test() -> None:
    for number, guard, where, tests in rows():
        file = re.fullmatch(r" `(src/keyfob/[a-z_/]+\.py)`, `([a-z_]+)` ", where)
        assert file is not None, (number, guard)
        code = (ROOT / file[1]).read_text("utf-8")
        assert re.search(rf"^ *(?:async )?def {file[2]}\(", code, re.MULTILINE), (number, file[1], file[2])
        assert TEST.search(tests), (number, guard)


def test_every_named_test_exists() -> None:
    named = TEST.findall(PAGE.read_text("utf-8"))
    assert len(named) >= len(rows())
    missing = [
        (file, name)
        for file, name in named
        if not re.search(rf"def {name}\(", (ROOT / file).read_text("utf-8"))
    ]
    assert missing == []


def test_every_file_of_tests_that_is_named_exists() -> None:
    files = re.findall(r"`((?:tests|src)/[a-z_/]+(?:\.py|/))", PAGE.read_text("utf-8"))
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_every_file_that_the_page_on_bounds_names_exists() -> None:
    text = (ROOT / "docs" / "explanation" / "bounds.md").read_text("utf-8")
    files = re.findall(r"`((?:tests|docs)/[a-z_/-]+\.(?:py|md))`", text)
    assert files
    assert [file for file in files if not (ROOT / file).exists()] == []
