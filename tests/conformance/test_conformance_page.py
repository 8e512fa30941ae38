"""The page of conformance says what the marks of the tests say, and leaves out no row."""

from __future__ import annotations

import re

import pytest

from . import page

LIST = page.ROOT.parent / "shared" / "standards" / "requirements.md"
SECTIONS = re.compile(r"^#{2,3} (1\.3|[5-7]\.|8\.\d|9\.\d) ")


def test_the_page_is_what_the_marks_say() -> None:
    assert page.PAGE.read_text("utf-8") == page.page(), "run 'make conformance'"


def test_every_row_has_a_test_or_a_reason() -> None:
    shown_by, because = page.marks(), page.reasons()
    silent = [
        row.id
        for section in page.sections()
        for row in section.rows
        if not (row.id in shown_by or because.get(row.id) or section.because)
    ]
    assert not silent


def test_every_mark_and_every_reason_is_of_a_row() -> None:
    rows = [row.id for section in page.sections() for row in section.rows]
    assert len(rows) == len(set(rows))
    assert page.marks().keys() - set(rows) == set()
    assert page.reasons().keys() - set(rows) == set()


def test_a_reason_that_names_a_file_names_one_that_exists() -> None:
    said = "\n".join([*page.reasons().values(), *(section.because for section in page.sections())])
    missing = []
    for name, _, test in re.findall(r"`((?:src|tests|docs)/[\w./-]+)(::(\w+))?`", said):
        path = page.ROOT / name
        if not path.exists() or (test and not re.search(rf"def {test}\(", path.read_text("utf-8"))):
            missing.append((name, test))
    assert not missing


def test_no_row_of_the_list_is_missing() -> None:
    if not LIST.is_file():
        pytest.skip(
            "the list of requirements is not beside this checkout (../shared/standards/requirements.md)"
        )
    listed, is_ours = [], False
    for line in LIST.read_text("utf-8").splitlines():
        if line.startswith("#"):
            is_ours = SECTIONS.match(line) is not None
        elif is_ours and (row := re.match(r"\| ☐ (\S+) \|", line)):
            listed.append(row[1])
    assert listed == [row.id for section in page.sections() for row in section.rows]
