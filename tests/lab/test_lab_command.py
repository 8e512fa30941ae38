"""`keyfob lab` as it is called."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from keyfob.cli.commands import commands

_PLAIN = {"COLUMNS": "200", "NO_COLOR": "1"}


@pytest.mark.parametrize("only", ["0", "9", "1,", "", "one", "1;2", "-1", "٣"])
def test_an_experiment_that_there_is_not_is_wrong_usage(only: str) -> None:
    done = CliRunner().invoke(commands, ["lab", "--only", only], env=_PLAIN)
    assert done.exit_code == 2
    assert "1 to 8" in done.output


def test_the_help_has_examples_and_names_the_experiments() -> None:
    done = CliRunner().invoke(commands, ["lab", "--help"], env=_PLAIN)
    assert done.exit_code == 0
    assert "$ keyfob lab --only 1,2" in done.output
    for option in ("--json", "--html", "--access-lifetime"):
        assert option in done.output
