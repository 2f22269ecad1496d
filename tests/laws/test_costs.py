"""Costs are predicted exactly, and agree with published figures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import nasdsl
from nasdsl import UserError
from tests.laws.common import batch, executed_costs, small

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_prediction_equals_execution(name: str) -> None:
    space = small(name)
    program = space.compile("darts")
    for arch in space.sample(6, seed=2):
        stats = space.stats(arch)
        params, macs, shape = executed_costs(program.network(arch), batch(space))
        assert (stats.live_params, stats.live_macs) == (params, macs)
        assert shape == torch.Size([1, space.checked.classes])
        assert stats.params >= stats.live_params


def test_darts_v2_as_published() -> None:
    """3,349,342 parameters without and 3,825,768 with the auxiliary head (quark0/darts, C=36, 20 cells)."""
    space = nasdsl.load("darts", layers=20, C=36)
    arch = space.parse(V2)
    stats = space.stats(arch)
    assert stats.params == 3_349_342
    assert stats.macs == 528_353_280 + 5_760
    assert space.stats(arch, auxiliary=True).params == 3_825_768
    net = space.compile("darts").network(arch, auxiliary=True)
    assert sum(p.numel() for p in net.parameters()) == 3_825_768


def test_no_auxiliary_head_where_it_does_not_fit() -> None:
    space = small("darts")
    with pytest.raises(UserError, match="8 x 8"):
        space.stats(space.sample(1)[0], auxiliary=True)


def test_the_benchmark_s_own_figures() -> None:
    """Every architecture of nasbench201_costs.json on its three data sets."""
    path = DATA / "nasbench201_costs.json"
    if not path.exists():
        pytest.skip(f"{path.name} is not here: published costs cannot be compared")
    entries = [e for e in json.loads(path.read_text()).values() if isinstance(e, dict) and "arch" in e]
    assert len(entries) >= 5
    for data, classes, resolution in (
        ("cifar10", 10, 32),
        ("cifar100", 100, 32),
        ("imagenet16_120", 120, 16),
    ):
        space = nasdsl.load("nasbench201", classes=classes, resolution=resolution)
        for entry in entries:
            stats = space.stats(space.parse(entry["arch"]))
            assert stats.params == entry[data]["params"]
            assert stats.macs == entry[data]["macs_without_bias"]
            assert stats.conventions["nasbench201"] == {
                "params": entry[data]["params"],
                "flops": entry[data]["flops"],
            }


def test_the_closed_form_of_nasbench201() -> None:
    """FLOPs and parameters by the number of 1x1 and 3x3 edges (derived from the authors' code)."""
    space = nasdsl.load("nasbench201")
    for arch in space.sample(60, seed=1):
        text = space.format(arch)
        k1, k3 = len(re.findall("conv_1x1", text)), len(re.findall("conv_3x3", text))
        stats = space.stats(arch)
        assert stats.params == 72_656 + 65 * 10 + 28_000 * k1 + 243_040 * k3
        assert (
            stats.conventions["nasbench201"]["flops"]
            == 7_782_400 + 3_932_160 * k1 + 35_389_440 * k3 + 65 * 10
        )


def test_zero_outputs_are_said() -> None:
    """341 of the 15,625 encodings output zero (operations on zero counted as zero)."""
    from itertools import product

    from nasdsl.ir.cost import outputs_zero
    from nasdsl.passes.specialise import Specialise

    space = nasdsl.load("nasbench201", N=1)
    paths = [d.path for d in space.decisions]
    zero = 0
    # Whether an edge carries anything is all that matters: 2^6 patterns, each with its multiplicity.
    for pattern in product((False, True), repeat=6):
        choices = {p: "nor_conv_3x3" if on else "none" for p, on in zip(paths, pattern, strict=True)}
        if outputs_zero(Specialise(choices)(space.checked.module)):
            zero += 4 ** sum(pattern)
    assert zero == 341
    arch = space.parse("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|none~2|")
    assert space.stats(arch).zero_output
