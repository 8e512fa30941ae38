"""The benchmark of the stores: that it measures what it says. No test here looks at a time."""

from __future__ import annotations

import pytest
from benchmarks import store_bench
from benchmarks.figures import Figure
from benchmarks.targets import MEASURES, STORES, Section

SIZES = (2_000, 4_000)  # more sessions than a fast machine ends meanwhile


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    """Measure every store that can be had here, for as short as is possible."""
    told: list[float] = []
    found = store_bench.run(list(STORES), sizes=SIZES, seconds=0.1, tell=lambda what, part: told.append(part))
    assert told
    return {figure.name: figure for figure in found}


def test_each_store_gives_each_of_its_figures(figures: dict[str, Figure]) -> None:
    stores = {name.split(".")[1] for name in figures}
    assert "sqlite" in stores
    wanted = [
        name
        for name, measure in MEASURES.items()
        if measure.section is Section.STORES and name.split(".")[1] in stores
    ]
    assert sorted(figures) == sorted(wanted)
    assert all(figure.measured > 0 for figure in figures.values())


def test_growth_and_clean_up_are_ratios_of_what_was_measured_at_both_sizes(
    figures: dict[str, Figure],
) -> None:
    for name, figure in figures.items():
        if ".growth." in name or name.endswith(".cleanup"):
            assert figure.against is not None
            assert figure.ratio is not None
            assert figure.ratio > 0
        if name.endswith(".check"):
            sizes = figure.facts.get("sizes", {})
            assert not sizes or set(sizes) == {str(size) for size in SIZES}


def test_the_clean_up_is_the_server_s_and_deletes(figures: dict[str, Figure]) -> None:
    cleanups = {name: figure for name, figure in figures.items() if name.endswith(".cleanup")}
    assert cleanups
    for figure in cleanups.values():
        assert figure.facts["deleted"] > 0
        assert figure.facts["at"] == SIZES[-1]
        assert figure.facts["longest_ms"] >= figure.measured * 0.99


def test_of_postgresql_a_day_that_is_over_leaves_as_a_whole(figures: dict[str, Figure]) -> None:
    if "stores.postgresql.cleanup" not in figures:
        pytest.skip("PostgreSQL cannot be had here")
    # More than one step of the cleaning deletes row by row.
    assert figures["stores.postgresql.cleanup"].facts["deleted"] >= SIZES[-1] / 2
