"""Each cause of a denial, as the page says it: its status and what the client does next."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from keyfob.base.errors import Cause, Denied
from keyfob.http.problem import Refusal, problem

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "denials.md"
ROW = re.compile(r"\| `(\w+)` \| (\d{3}) \| (.+?) \| (.+?) \|$", re.MULTILINE)
ROWS = {name: (int(status), said) for name, status, said, _ in ROW.findall(PAGE.read_text("utf-8"))}


def test_every_cause_is_on_the_page_once_and_no_other() -> None:
    names = [name for name, *_ in ROW.findall(PAGE.read_text("utf-8"))]
    assert sorted(names) == sorted(cause.value for cause in Cause)


@pytest.mark.parametrize("cause", Cause)
def test_status_and_next_are_those_of_the_page(cause: Cause) -> None:
    status, said = ROWS[cause.value]
    words = [None if word == "null" else word.strip("`") for word in said.split(", else ")]
    for refreshable, expected in ((True, words[0]), (False, words[-1])):
        response = problem(Denied(cause), Refusal(refreshable=refreshable))
        assert (response.status, json.loads(response.body)["next"]) == (status, expected)
