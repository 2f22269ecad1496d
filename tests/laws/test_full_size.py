"""The laws at full size, behind the marker `slow`: `make slow`, some minutes."""

from __future__ import annotations

import re
from itertools import product

import pytest

import nasdsl
from tests.laws.common import batch, float64

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_every_architecture_of_nasbench201_has_the_benchmark_s_costs() -> None:
    """All 15,625 encodings against the closed form, and the 341 that output zero."""
    space = nasdsl.load("nasbench201")
    paths, options = [d.path for d in space.decisions], space.decisions[0].options
    seen = zero = 0
    for combination in product(options, repeat=6):
        stats = space.stats(space.architecture(dict(zip(paths, combination, strict=True))))
        k1, k3 = combination.count("nor_conv_1x1"), combination.count("nor_conv_3x3")
        assert stats.params == 73_306 + 28_000 * k1 + 243_040 * k3
        flops = 7_782_400 + 3_932_160 * k1 + 35_389_440 * k3 + 650
        assert stats.conventions["nasbench201"] == {"params": stats.params, "flops": flops}
        assert stats.live_params <= stats.params
        zero += stats.zero_output
        seen += 1
    assert (seen, zero) == (15_625, 341)


@pytest.mark.parametrize("method", ["darts", "toponas"])
def test_one_hot_law_at_the_published_size(method: str) -> None:
    space = nasdsl.load("darts")
    with float64():
        program = space.compile(method)
        net, x = program.supernet(seed=0), batch(space, 2)
        for arch in space.sample(3, seed=0):
            net.set_architecture(arch)
            for training in (True, False):
                net.train(training)
                child = program.network(arch, inherit=net, form="search")
                assert (net(x) - child(x)).abs().max() < 1e-10


def test_cells_of_any_depth_share_their_classes() -> None:
    sources = [nasdsl.load("darts", layers=n).compile("darts").files()["supernet.py"] for n in (8, 20, 40)]
    classes = [re.findall(r"^class (\w+)", s, re.MULTILINE) for s in sources]
    assert classes[0] == classes[1] == classes[2]


@pytest.mark.slow
def test_the_distinct_pairs_of_darts() -> None:
    """By patterns up to symmetry, half a minute; the method is checked by enumeration in test_population."""
    assert nasdsl.load("darts").count(distinct=True) == 382_114_852 * 382_128_166
