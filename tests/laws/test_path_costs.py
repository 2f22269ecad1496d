"""Costs made ready once equal those of every architecture by itself."""

from __future__ import annotations

import pytest

import nasdsl
from nasdsl import Space, UserError
from tests.laws.common import small


def _space(name: str) -> Space:
    return nasdsl.load("ofa", classes=10) if name == "ofa" else small(name)


@pytest.mark.parametrize("name", ["cream", "ofa", "nasbench201", "darts"])
def test_costs_equal_stats(name: str) -> None:
    space = _space(name)
    costs = {measure: space.costs(measure) for measure in ("params", "macs")}
    for arch in space.sample(8, seed=4):
        stats = space.stats(arch)
        for measure, known in costs.items():
            value = known.at(arch.choices)
            assert value == getattr(stats, measure)
            assert known.additive
            assert known.low is not None
            assert known.high is not None
            assert known.low <= value <= known.high


def test_the_ends_are_reached() -> None:
    space = nasdsl.load("nasbench201", N=1, C=4, resolution=8)
    first = {d.path: "none" for d in space.decisions}
    last = {d.path: "nor_conv_3x3" for d in space.decisions}
    for measure in ("params", "macs"):
        costs = space.costs(measure)
        assert (costs.at(first), costs.at(last)) == (costs.low, costs.high)


@pytest.mark.parametrize("name", ["cream", "ofa", "darts"])
def test_depth_and_edges_are_those_of_limits(name: str) -> None:
    space = _space(name)
    depth, edges = space.costs("depth"), space.costs("edges")
    for arch in space.sample(3, seed=5):
        assert depth.at(arch.choices) == space.population.measure("depth", arch.choices)
        assert edges.at(arch.choices) == space.population.measure("edges", arch.choices)


def test_sizes_that_the_whole_architecture_settles() -> None:
    """NAS-Bench-101 shares widths among what is chosen: no sum of tables, the same answers."""
    space = nasdsl.load("nasbench101")
    costs = space.costs("params")
    assert not costs.additive
    assert (costs.low, costs.high) == (None, None)
    for arch in space.sample(2, seed=6):
        assert costs.at(arch.choices) == space.stats(arch).params


def test_an_unknown_measure_is_refused() -> None:
    with pytest.raises(UserError, match="NAS306"):
        small("cream").costs("mcs")
