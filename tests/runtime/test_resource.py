"""The penalty on resources: exact at an architecture, linear under the logarithm, and what it pulls towards."""

from __future__ import annotations

import math

import pytest
import torch

from nasdsl.ir.cost import module_count
from nasdsl.runtime.activation import mean_weights
from nasdsl.runtime.rows import parameters_of
from nasdsl.runtime.search.regularise import resource
from tests.laws.common import float64, small


def penalty(net) -> torch.Tensor:  # type: ignore[no-untyped-def]
    groups = net.groups()
    weights = {p: mean_weights(net.ACTIVATION, p, net.pruned().get(p)) for p in parameters_of(groups)}
    return resource(groups, weights)


@pytest.mark.parametrize("method", ["darts", "drnas", "snas", "cbo"])
def test_at_an_architecture_it_counts_the_operations_of_the_cells(method: str) -> None:
    """Against the cost rules of the network itself, what no architecture changes taken off."""
    space = small("nasbench201")
    with float64():
        program = space.compile(method)
        net = program.supernet()
        fixed = space.stats(space.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")).macs
        for arch in space.sample(8, seed=1):
            net.set_architecture(arch)
            wanted = math.log(1.0 + (space.stats(arch).macs - fixed) / 1e6)
            assert penalty(net).item() == pytest.approx(wanted, abs=1e-9)


def test_it_is_the_cost_of_the_expectation() -> None:
    space = small("nasbench201")
    with float64():
        net = space.compile("darts").supernet(seed=3)
        with torch.no_grad():
            for variable in net.architecture_parameters():
                variable.normal_()
        rows = [row for group in net.groups() for row in group.rows]
        share = [torch.softmax(row.parameter[row.index], 0).tolist() for row in rows]
        total = sum(
            p * m for s, row in zip(share, rows, strict=True) for p, m in zip(s, row.macs, strict=True)
        )
        assert penalty(net).item() == pytest.approx(math.log(1 + total / 1e6), rel=1e-12)


def test_descending_it_makes_architectures_cheap() -> None:
    space = small("darts")
    net = space.compile("darts").supernet(seed=0)
    optimizer = torch.optim.Adam(net.architecture_parameters(), 0.1)
    before = space.stats(space.compile("darts").architecture(net.derive())).macs
    for _ in range(60):
        optimizer.zero_grad()
        penalty(net).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    after = space.stats(space.compile("darts").architecture(net.derive())).macs
    assert after < before
    chosen = {v for v in net.derive().values() if isinstance(v, str)}
    assert not any("conv" in operation for operation in chosen)


def test_costs_are_of_all_cells_that_share_a_decision() -> None:
    """Fifteen cells, three widths: the largest architecture by the rows is the largest by the network."""
    space = small("nasbench201")
    program = space.compile("darts")
    rows = [row for group in program.supernet().groups() for row in group.rows]
    whole = module_count(
        program.compilation.search_form(
            space.parse(
                "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
            )
        )
    ).macs
    fixed = space.stats(space.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")).macs
    assert sum(max(row.macs) for row in rows) == whole - fixed
