"""Laws of explicit topology: distributions, marginals, invalidity, the passive-aggressive rule."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nasdsl.runtime.topology import (
    NodeTopology,
    Regulariser,
    balanced_logits,
    incidence,
    marginals,
    passive_aggressive_step,
    penalty,
    scores,
    subsets,
    temperature_at,
    unread,
)

VARIANTS = ("v1", "v2", "v3")


def cell(low: int, high: int | None, seed: int | None = 0, spread: float = 1.0) -> list[NodeTopology]:
    """The four nodes of a DARTS cell, low..high inputs each; uniform logits when `seed` is None."""
    generator = torch.Generator().manual_seed(seed or 0)
    nodes = []
    for j in range(2, 6):
        rows = incidence(j, low, high or j).double()
        logits = torch.randn(len(rows), generator=generator, dtype=torch.float64) * spread
        nodes.append(
            NodeTopology(
                name=f"n{j}",
                owner="normal",
                logits=nn.Parameter(torch.zeros_like(logits) if seed is None else logits),
                incidence=rows,
                sources=tuple(["x", "y", "n2", "n3", "n4"][:j]),
            )
        )
    return nodes


sizes = st.tuples(st.integers(1, 6), st.integers(0, 6), st.integers(0, 6)).filter(
    lambda s: s[1] <= s[2] <= s[0]
)
logit_lists = st.lists(st.floats(-6, 6), min_size=64, max_size=64)


def some(count: int, low: int, high: int, values: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = incidence(count, low, high).double()
    return torch.tensor(
        [values[i % 64] + 0.01 * (i // 64) for i in range(len(rows))], dtype=torch.float64
    ), rows


@given(sizes, logit_lists, st.floats(0.05, 20))
def test_the_marginals_of_a_distribution_sum_to_its_mean_size(
    size: tuple[int, int, int], values: list[float], temperature: float
) -> None:
    logits, rows = some(*size, values)
    p = torch.softmax(logits / temperature, -1)
    m = marginals(p, rows)
    assert math.isclose(float(p.sum()), 1.0, abs_tol=1e-12)
    assert bool((m >= 0).all())
    assert bool((m <= 1 + 1e-12).all())
    torch.testing.assert_close(m.sum(), (p * rows.sum(1)).sum())
    if size[1] == size[2]:
        torch.testing.assert_close(m.sum(), torch.tensor(float(size[1]), dtype=torch.float64))


@given(sizes, logit_lists, st.floats(-50, 50))
def test_a_constant_on_all_logits_changes_nothing(
    size: tuple[int, int, int], values: list[float], constant: float
) -> None:
    logits, rows = some(*size, values)
    first, second = (marginals(torch.softmax(x, -1), rows) for x in (logits, logits + constant))
    torch.testing.assert_close(first, second)


@given(sizes, logit_lists, st.randoms(use_true_random=False))
def test_permuting_the_inputs_permutes_the_marginals(
    size: tuple[int, int, int], values: list[float], random: object
) -> None:
    logits, rows = some(*size, values)
    order = list(range(size[0]))
    random.shuffle(order)  # type: ignore[attr-defined]
    combinations = subsets(*size)
    # The combination c of the renamed inputs is the combination order(c) of the old ones.
    renamed = [combinations.index(tuple(sorted(order[i] for i in c))) for c in combinations]
    p = torch.softmax(logits, -1)
    torch.testing.assert_close(marginals(p[renamed], rows), marginals(p, rows)[order])


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
def test_the_distribution_is_the_softmax_at_a_temperature(temperature: float) -> None:
    node = cell(2, 2, seed=2)[2]
    weights = [math.exp(b / temperature) for b in node.logits.tolist()]
    assert node.probabilities(temperature).tolist() == pytest.approx([w / sum(weights) for w in weights])


def test_the_order_of_subsets_is_by_size_then_lexicographic() -> None:
    found = subsets(3, 0, 3)
    assert found == [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    assert incidence(3, 0, 3).tolist()[5] == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_the_number_of_logits_is_the_number_of_subsets(n: int) -> None:
    assert len(subsets(n, 2, 2)) == math.comb(n, 2)
    assert len(subsets(n, 1, n)) == 2**n - 1


def test_a_node_with_one_combination_always_takes_it_and_learns_nothing() -> None:
    node = cell(2, 2, seed=3)[0]
    m = marginals(node.probabilities(1.0), node.incidence)
    (m * torch.tensor([2.0, -3.0], dtype=torch.float64)).sum().backward()
    assert m.tolist() == [1.0, 1.0]
    assert node.logits.grad is not None
    assert node.logits.grad.tolist() == [0.0]


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_marginals_of_uniform_logits(n: int) -> None:
    pick = incidence(n, 2, 2)
    every = incidence(n, 1, n)
    torch.testing.assert_close(
        marginals(torch.full((len(pick),), 1 / len(pick)), pick), torch.full((n,), 2 / n)
    )
    expected = torch.full((n,), 2 ** (n - 1) / (2**n - 1))
    torch.testing.assert_close(marginals(torch.full((len(every),), 1 / len(every)), every), expected)


@pytest.mark.parametrize(("low", "high"), [(2, 2), (1, None), (0, 2)])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_the_probability_of_being_read_by_nobody_is_that_of_the_joint_distribution(
    low: int, high: int | None, temperature: float
) -> None:
    nodes = cell(low, high, seed=5)
    expected = dict.fromkeys([("normal", n.name) for n in nodes[:-1]], 0.0)
    for rows in product(*(range(len(n.logits)) for n in nodes)):
        chance = math.prod(n.probabilities(temperature)[r].item() for n, r in zip(nodes, rows, strict=True))
        read = {
            source
            for node, row in zip(nodes, rows, strict=True)
            for source, taken in zip(node.sources, node.incidence[row].tolist(), strict=True)
            if taken
        }
        for key in expected:
            expected[key] += chance * (key[1] not in read)
    found = {key: u.item() for key, u in unread(nodes, temperature).items()}
    assert found == pytest.approx(expected)


def test_uniform_pairs_leave_nodes_unread_in_18_54_and_108_of_180_cells() -> None:
    found = [u.item() for u in unread(cell(2, 2, seed=None), 1.0).values()]
    assert found == pytest.approx([18 / 180, 54 / 180, 108 / 180])


def test_nodes_of_two_cells_do_not_read_each_other() -> None:
    normal = cell(2, 2, seed=1)
    reduce = [
        NodeTopology(n.name, "reduce", nn.Parameter(n.logits.detach() * 2), n.incidence, n.sources)
        for n in cell(2, 2, seed=2)
    ]
    together = {k: u.item() for k, u in unread([*normal, *reduce], 1.0).items()}
    apart = {k: u.item() for part in (normal, reduce) for k, u in unread(part, 1.0).items()}
    assert together == apart
    assert len(together) == 6


def consumed(low: int, full: bool) -> tuple[int, int, int]:
    """All topologies of a cell; those that read nodes 2-4; those that read both inputs as well."""
    choices = [subsets(j, low, j if full else low) for j in range(2, 6)]
    reads = [set().union(*rows) for rows in product(*choices)]
    inner = [r for r in reads if {2, 3, 4} <= r]
    return len(reads), len(inner), sum({0, 1} <= r for r in inner)


def test_the_topologies_of_a_cell() -> None:
    assert consumed(2, full=False)[:2] == (180, 38)
    assert consumed(1, full=True) == (9765, 3468, 3224)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("low", [0, 1])
def test_scores_are_probabilities(variant: str, low: int) -> None:
    q = scores(cell(low, None, seed=7, spread=4.0), variant, 0.5)
    assert q.numel() >= 3
    assert bool((q > -1e-12).all())
    assert bool((q < 1 + 1e-12).all())


def test_the_inconsistent_score_tells_fed_and_read_apart() -> None:
    """Of one reader that takes node `a` or not: a is inconsistent when exactly one of the two holds."""

    def pair(fed: float, read: float) -> list[NodeTopology]:
        def node(name: str, source: str, chance: float) -> NodeTopology:
            logits = torch.tensor([math.log(1 - chance), math.log(chance)], dtype=torch.float64)
            return NodeTopology(name, "", nn.Parameter(logits), incidence(1, 0, 1).double(), (source,))

        return [node("a", "x", fed), node("b", "a", read)]

    for fed, read in [(0.9, 0.9), (0.2, 0.7), (0.6, 0.1)]:
        expected = fed * (1 - read) + (1 - fed) * read
        assert scores(pair(fed, read), "v2", 1.0).tolist() == pytest.approx([expected])
        assert scores(pair(fed, read), "v1", 1.0).tolist() == pytest.approx([1 - read])


@pytest.mark.parametrize("variant", VARIANTS)
def test_passive_where_everything_is_tolerated(variant: str) -> None:
    nodes = cell(1, None, seed=4)
    delta = scores(nodes, variant, 1.0).max().item()
    before = [n.logits.detach().clone() for n in nodes]
    loss = penalty(nodes, variant, delta, 1.0)
    gradients = torch.autograd.grad(
        loss, [n.logits for n in nodes], allow_unused=True, materialize_grads=True
    )
    assert loss.item() == 0.0
    assert all(bool((g == 0).all()) for g in gradients)
    assert passive_aggressive_step(nodes, variant, delta, 1.0, 1.0) == 0.0
    assert all(torch.equal(a, n.logits) for a, n in zip(before, nodes, strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_aggressive_where_something_is_not(variant: str) -> None:
    nodes = cell(0, None, seed=6)
    before = penalty(nodes, variant, 0.1, 1.0).item()
    assert 0.0 < passive_aggressive_step(nodes, variant, 0.1, 1e-3, 1.0) <= 1e-3
    assert penalty(nodes, variant, 0.1, 1.0).item() < before


def test_the_step_of_pa_i_has_the_length_of_its_formula() -> None:
    for most in (0.01, 1e9):
        nodes = cell(2, 2, seed=8)
        loss = penalty(nodes, "v1", 0.05, 1.0)
        logits = [n.logits for n in nodes]
        gradients = torch.autograd.grad(loss, logits, materialize_grads=True, allow_unused=True)
        expected = min(most, loss.item() / sum(float((g * g).sum()) for g in gradients))
        before = [x.detach().clone() for x in logits]
        assert passive_aggressive_step(nodes, "v1", 0.05, most, 1.0) == pytest.approx(expected)
        for old, new, g in zip(before, logits, gradients, strict=True):
            torch.testing.assert_close(new.detach(), old - expected * g)


def test_marginals_do_not_determine_the_distribution() -> None:
    rows = incidence(4, 2, 2)
    two = torch.tensor([0.5 if c in ((0, 1), (2, 3)) else 0.0 for c in subsets(4, 2, 2)])
    six = torch.full((6,), 1 / 6)
    torch.testing.assert_close(marginals(two, rows), marginals(six, rows))


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_uniform_logits_favour_large_sets_and_balanced_ones_no_size(n: int) -> None:
    rows = incidence(n, 1, n).double()
    size = rows.sum(1)
    uniform, balanced = (
        torch.softmax(x, -1) for x in (torch.zeros(len(rows)).double(), balanced_logits(rows))
    )
    assert float((uniform * size).sum()) == pytest.approx(n * 2 ** (n - 1) / (2**n - 1))
    assert [float(balanced[size == k].sum()) for k in range(1, n + 1)] == pytest.approx([1 / n] * n)


def test_temperature_goes_from_start_to_end() -> None:
    for schedule in ("linear", "exponential"):
        path = [temperature_at(schedule, 10, 0.02, e, 20) for e in range(20)]
        assert (path[0], path[-1]) == pytest.approx((10, 0.02))
        assert path == sorted(path, reverse=True)
    assert temperature_at("exponential", 10, 0.02, 7, 20) == pytest.approx(10 * (0.02 / 10) ** (7 / 19))
    assert temperature_at("linear", 10, 0.02, 7, 20) == pytest.approx(10 + (0.02 - 10) * 7 / 19)
    assert temperature_at("constant", 3, 0.02, 7, 20) == 3
    assert temperature_at("linear", 3, 1, 0, 1) == 3


def regulariser(**changes: object) -> Regulariser:
    settings: dict[str, object] = {
        "regulariser": "v1",
        "regulariser_form": "loss",
        "regulariser_delta": 0.1,
        "regulariser_weight": 2.0,
        "regulariser_ramp_epochs": 4,
        "pa_aggressiveness": 1.0,
    }
    return Regulariser.from_settings(settings | changes)


def test_the_two_forms_exclude_each_other_and_off_is_neither() -> None:
    nodes = cell(2, 2, seed=9)
    loss_form, pa_form, off = (
        regulariser(),
        regulariser(regulariser_form="pa"),
        regulariser(regulariser="off"),
    )
    loss = loss_form.loss(nodes, 1.0)
    assert loss is not None
    assert loss.item() == pytest.approx(2.0 * penalty(nodes, "v1", 0.1, 1.0).item())
    assert loss_form.step(nodes, 1.0) == 0.0
    assert pa_form.loss(nodes, 1.0) is None
    assert off.loss(nodes, 1.0) is None
    assert off.step(nodes, 1.0) == 0.0
    assert pa_form.step(nodes, 1.0) > 0.0


def test_the_ramp_is_linear_and_ends_at_one() -> None:
    made = regulariser()
    strengths = []
    for epoch in range(6):
        made.set_epoch(epoch)
        strengths.append(made.strength)
    assert strengths == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    without = regulariser(regulariser_ramp_epochs=0)
    without.set_epoch(0)
    assert without.strength == 1.0


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_nodes_there_is_nothing_to_regularise(variant: str) -> None:
    assert penalty([], variant, 0.1, 1.0).item() == 0.0
    assert passive_aggressive_step([], variant, 0.1, 1.0, 1.0) == 0.0
