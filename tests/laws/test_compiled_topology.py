"""The compiled supernet's topology is the mathematics of `runtime.topology`."""

from __future__ import annotations

import pytest
import torch

import nasdsl
from nasdsl.passes import relax
from nasdsl.runtime import topology
from tests.laws.common import batch, float64, small


@pytest.mark.parametrize(("count", "low", "high"), [(2, 2, 2), (5, 2, 2), (4, 1, 4), (3, 0, 2)])
def test_compiler_and_runtime_list_subsets_in_one_order(count: int, low: int, high: int) -> None:
    assert list(relax.subsets(count, low, high)) == topology.subsets(count, low, high)


def test_pick_two_has_the_published_number_of_logits() -> None:
    """20 logits a cell type (DOTS code); marginals sum to two; uniform logits give 2 / n."""
    net = small("darts").compile("toponas").supernet()
    for owner in ("normal", "reduce"):
        nodes = [n for n in net.topology() if n.owner == owner]
        assert [len(n.logits) for n in nodes] == [1, 3, 6, 10]
        for node in nodes:
            m = topology.marginals(node.probabilities(1.0), node.incidence)
            assert torch.allclose(m, torch.full_like(m, 2 / len(node.sources)))


def test_the_only_pair_of_the_first_node_has_no_gradient() -> None:
    space = small("darts")
    with float64():
        net = space.compile("toponas").supernet()
        net(batch(space)).square().sum().backward()
        first = net.topology()[0]
        assert first.logits.grad is not None
        assert first.logits.grad.abs().max() == 0
        assert all(n.logits.grad.abs().max() > 0 for n in net.topology()[1:4])


def test_nasbench201_has_eleven_topology_logits() -> None:
    net = small("nasbench201").compile("toponas").supernet()
    assert [len(n.logits) for n in net.topology()] == [1, 3, 7]


def test_derivation_follows_the_combination_and_not_the_marginals() -> None:
    """Two distributions with the same marginals; the best pair is what counts."""
    net = small("darts").compile("toponas").supernet()
    node = next(n for n in net.topology() if len(n.sources) == 4)
    with torch.no_grad():
        node.logits.fill_(-5.0)
        node.logits[0] = 1.0  # the pair of the first two sources
        node.logits[5] = 1.1  # the pair of the last two, just ahead
    assert net.derive()[f"{node.owner}.{node.name}.inputs"] == node.sources[2:]


@pytest.mark.parametrize("seed", range(6))
def test_what_is_derived_has_no_decisions_of_a_cell_that_nobody_picked(seed: int) -> None:
    """Where `none` was lifted into a choice of inputs, and the node of it does not exist."""
    program = nasdsl.load("hierarchical", C=4, N=1).compile("toponas")
    net = program.supernet(seed=seed)
    with torch.no_grad():
        for parameter in net.architecture_parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(seed))
    found = program.architecture(net.derive())  # which refuses a decision that does not exist
    # A node without inputs has no point; what was derived always has one.
    net.set_architecture(found)
    assert net.derive() == dict(found.choices)
