"""Laws of Pi: it is the Euclidean projection onto discrete architectures, and it respects the mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nasdsl.runtime.projection import project
from nasdsl.runtime.rows import Group, Row


def cell(
    fans: Sequence[int], entries: int, keep: int | None, none: int | None = None, optional: bool = False
) -> tuple[list[Group], nn.Parameter]:
    """Nodes with these numbers of in-edges, whose variables are one matrix."""
    alpha = nn.Parameter(torch.zeros(sum(fans), entries, dtype=torch.float64))
    names = tuple(f"o{k}" for k in range(entries))
    groups, start = [], 0
    for node, fan in enumerate(fans):
        rows = tuple(Row(f"n[{node}].op[{i}]", alpha, i, names, none) for i in range(start, start + fan))
        groups.append(Group(f"n[{node}]", "cell", rows, keep, optional))
        start += fan
    return groups, alpha


def darts(none: int | None = 0) -> tuple[list[Group], nn.Parameter]:
    """14 edges, 8 operations with `none` or 7 without it; every node keeps two."""
    return cell((2, 3, 4, 5), 7 if none is None else 8, 2, none)


def of(groups: list[Group], alpha: nn.Parameter, weights: Tensor, alive: Tensor | None = None) -> Tensor:
    return project(groups, {alpha: weights}, None if alive is None else {alpha: alive})[alpha]


def architectures(
    fan: int, entries: int, keep: int | None, none: int | None, optional: bool
) -> Iterator[Tensor]:
    """Every discrete matrix of one node, from the definition: which rows, and one entry in each."""
    most = fan if keep is None else min(keep, fan)
    options = [k for k in range(entries) if k != none]
    for size in range(1, most + 1) if optional else (most,):
        for rows in combinations(range(fan), size):
            for chosen in product(options, repeat=size):
                matrix = torch.zeros(fan, entries, dtype=torch.float64)
                matrix[list(rows), list(chosen)] = 1.0
                yield matrix


@st.composite
def nodes(draw: st.DrawFn) -> tuple[int, int, int | None, int | None, bool, Tensor]:
    fan, entries = draw(st.integers(1, 3)), draw(st.integers(2, 3))
    keep = draw(st.none() | st.integers(1, 3))
    none = draw(st.none() | st.integers(0, entries - 1))
    values = draw(st.lists(st.floats(-0.5, 1.5), min_size=fan * entries, max_size=fan * entries))
    weights = torch.tensor(values, dtype=torch.float64).reshape(fan, entries)
    return fan, entries, keep, none, draw(st.booleans()), weights


@given(nodes(), st.integers(0, 511))
def test_no_architecture_of_live_entries_is_nearer(
    node: tuple[int, int, int | None, int | None, bool, Tensor], bits: int
) -> None:
    fan, entries, keep, none, optional, weights = node
    alive = torch.tensor([bits >> i & 1 for i in range(fan * entries)], dtype=torch.bool).logical_not()
    alive = alive.reshape(fan, entries)
    groups, alpha = cell((fan,), entries, keep, none, optional)
    found = of(groups, alpha, weights, alive)
    candidates = alive.clone()
    if none is not None:
        candidates[:, none] = False
    # Where fewer rows live than are to be kept, an architecture keeps those that do.
    living = int(candidates.any(1).sum())
    keeps = min(fan if keep is None else keep, living)
    if optional and living and weights[candidates].max() <= 0.0:  # what weighs nothing is no edge
        keeps = 0
    allowed = [
        m
        for m in (architectures(fan, entries, keeps, none, optional) if keeps else ())
        if not (m.bool() & ~alive).any()
    ]
    if not allowed:
        assert not found.any()
        return
    assert any(torch.equal(found, m) for m in allowed)
    assert (weights - found).norm() <= min((weights - m).norm() for m in allowed) + 1e-12


@given(st.integers(0, 2**31), st.booleans(), st.booleans())
def test_it_is_idempotent(seed: int, optional: bool, masked: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    for keep in (None, 2):
        groups, alpha = cell((2, 3, 4), 5, keep, 0, optional)
        weights = torch.rand(9, 5, generator=generator, dtype=torch.float64)
        alive = torch.rand(9, 5, generator=generator) > 0.5 if masked else None
        once = of(groups, alpha, weights, alive)
        assert torch.equal(of(groups, alpha, once, alive), once)


@given(st.integers(0, 2**31))
def test_darts_has_eight_ones_two_a_node_and_no_none(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for none in (0, None):
        groups, alpha = darts(none)
        weights = torch.randn(*alpha.shape, generator=generator, dtype=torch.float64).softmax(1)
        found = of(groups, alpha, weights)
        assert int(found.sum()) == 8
        assert [int(part.sum()) for part in found.split([2, 3, 4, 5])] == [2, 2, 2, 2]
        assert int(found.sum(1).max()) == 1
        assert none is None or not found[:, none].any()


@given(st.integers(0, 2**31))
def test_nas_bench_201_has_six_ones_at_the_largest_entries(seed: int) -> None:
    groups, alpha = cell((1, 2, 3), 5, None)
    weights = torch.randn(6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(1)
    found = of(groups, alpha, weights)
    assert int(found.sum()) == 6
    assert torch.equal(found.argmax(1), weights.argmax(1))


def test_an_option_that_does_nothing_is_an_entry_like_any_other() -> None:
    groups, alpha = cell((1,), 3, None)
    assert of(groups, alpha, torch.tensor([[0.8, 0.1, 0.1]])).tolist() == [[1.0, 0.0, 0.0]]


def test_an_optional_row_needs_more_than_half_unless_it_is_the_largest_of_its_node() -> None:
    groups, alpha = cell((1, 2, 3), 4, None, optional=True)
    assert int(of(groups, alpha, torch.full((6, 4), 0.25)).sum()) == 3
    weights = torch.zeros(6, 4)
    weights[:, 1] = torch.tensor([0.1, 0.5, 0.6, 0.51, 0.7, 0.5])
    assert of(groups, alpha, weights)[:, 1].tolist() == [1.0, 0.0, 1.0, 1.0, 1.0, 0.0]


def test_what_weighs_zero_is_an_edge_only_where_there_must_be_one() -> None:
    for optional, ones in ((True, 0), (False, 2)):
        groups, alpha = cell((3,), 4, 2, 0, optional)
        assert int(of(groups, alpha, torch.zeros(3, 4)).sum()) == ones


@pytest.mark.parametrize("optional", [False, True])
def test_ties_go_to_the_lowest_index(optional: bool) -> None:
    groups, alpha = cell((2, 3, 4, 5), 8, 2, 0, optional)
    found = of(groups, alpha, torch.ones_like(alpha))
    assert found.nonzero().tolist() == [[i, 1] for i in (0, 1, 2, 3, 5, 6, 9, 10)]


def test_pruned_entries_are_chosen_by_the_released_rule_only() -> None:
    groups, alpha = cell((2,), 3, 2)
    weights = torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.0, 0.9]])
    alive = {alpha: torch.tensor([[False, False, False], [True, False, False]])}
    assert project(groups, {alpha: weights}, alive)[alpha].tolist() == [[0, 0, 0], [1, 0, 0]]
    legacy = project(groups, {alpha: weights}, alive, legacy=True)[alpha]
    assert legacy.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert torch.equal(legacy, project(groups, {alpha: weights}, {alpha: None})[alpha])


def test_rows_of_one_node_may_lie_in_several_matrices_of_different_width() -> None:
    wide, narrow = nn.Parameter(torch.zeros(1, 4)), nn.Parameter(torch.zeros(2, 2))
    rows = (Row("a", wide, 0, tuple("wxyz"), 3), Row("b", narrow, 0, ("p", "q")))
    groups = [Group("n", "cell", rows, keep=1)]
    weights = {wide: torch.tensor([[0.1, 0.4, 0.2, 0.9]]), narrow: torch.tensor([[0.3, 0.2], [1.0, 1.0]])}
    found = project(iter(groups), weights)
    assert found[wide].tolist() == [[0.0, 1.0, 0.0, 0.0]]
    assert not found[narrow].any()


def test_it_carries_no_gradient_and_changes_no_mask() -> None:
    groups, alpha = darts()
    alive = torch.ones_like(alpha, dtype=torch.bool)
    found = project(groups, {alpha: alpha.softmax(1)}, {alpha: alive})[alpha]
    assert not found.requires_grad
    assert found.dtype == alpha.dtype
    assert alive.all()
