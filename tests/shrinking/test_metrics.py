"""Metrics of sets against definitions written out, and networkx."""

from __future__ import annotations

import math
import random
from itertools import combinations

import networkx as nx
import numpy as np
import pytest

from nasdsl.shrinking import metrics
from nasdsl.shrinking.ground import Ground
from nasdsl.shrinking.metrics import Truth, diversity, pockets, shrink_index
from tests.shrinking.common import Rows, additive, cells, figures, ground

NAMES = ("row", "three in one", "depths", "chosen inputs")


def some(at: Ground, count: int, seed: int) -> Rows:
    assert at.every is not None
    return at.every[sorted(random.Random(seed).sample(range(len(at.every)), count))]


def slow_pockets(at: Ground, rows: Rows, radius: int) -> int:
    edits = at.space.population.edits
    members = [at.choices(r) for r in rows]
    graph = nx.Graph()
    graph.add_nodes_from(range(len(members)))
    for i, j in combinations(range(len(members)), 2):
        if edits(members[i], members[j]) <= radius:
            graph.add_edge(i, j)
    return int(nx.number_connected_components(graph))


@pytest.mark.parametrize("radius", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_pockets_are_connected_components(name: str, radius: int) -> None:
    at = ground(name)
    found = set()
    for seed, count in enumerate((1, 2, 5, 10, 20, 40)):
        rows = some(at, count, seed)
        found.add(pockets(at.codes, rows, radius))
        assert pockets(at.codes, rows, radius) == slow_pockets(at, rows, radius)
    assert pockets(at.codes, at.every[:0], radius) == 0  # type: ignore[index]
    assert len(found) > 1


def test_pockets_by_columns_are_those_by_pairs() -> None:
    at = Ground(cells())
    for seed, count in enumerate((50, 400, 1500)):
        rows = some(at, count, seed)
        graph = nx.Graph()
        graph.add_nodes_from(range(count))
        for i, row in enumerate(rows):
            near = np.flatnonzero((rows != row).sum(1) == 1)
            graph.add_edges_from((i, int(j)) for j in near)
        assert pockets(at.codes, rows) == nx.number_connected_components(graph)
    assert pockets(at.codes, at.every) == 1  # type: ignore[arg-type]


def test_pockets_of_too_many_members_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST_POCKETED", 20)
    assert pockets(ground("row").codes, some(ground("row"), 21, 0), 2) is None
    assert pockets(ground("row").codes, some(ground("row"), 20, 0), 2) is not None
    assert pockets(ground("row").codes, some(ground("row"), 21, 0), 1) is not None
    assert pockets(ground("depths").codes, some(ground("depths"), 21, 0)) is None


@pytest.mark.parametrize("name", NAMES)
def test_diversity_is_its_definition(name: str) -> None:
    at = ground(name)
    for count in (2, 9, 30):
        rows = some(at, count, count)
        members = [at.choices(r) for r in rows]
        apart = [at.space.population.edits(a, b) for a in members for b in members if a != b]
        found = diversity(at, rows)
        decisions = at.space.decisions
        assert found.distance == pytest.approx(sum(apart) / len(apart) / len(decisions))
        entropies = []
        for decision in decisions:
            if len(decision.values) > 1:
                made = [m[decision.path] for m in members if decision.path in m]
                shares = [made.count(v) / len(made) for v in set(made)]
                entropies.append(-sum(s * math.log(s) for s in shares) / math.log(len(decision.values)))
        assert found.entropy == pytest.approx(sum(entropies) / len(entropies))
        assert found.pockets == slow_pockets(at, rows, 1)
        assert found.coverage == len({int(b) for b in at.bin(rows)}) / at.bins


def test_a_whole_space_of_free_decisions_is_as_diverse_as_can_be() -> None:
    at = ground("row")
    assert at.every is not None
    found = diversity(at, at.every)
    assert found.entropy == pytest.approx(1)
    # Two different members differ in 3/4 of the decisions, but for being different.
    assert found.distance == pytest.approx(0.75 * 1024 / 1023)
    assert (found.pockets, found.coverage) == (1, 1)
    alone = diversity(at, at.every[:1])
    assert (alone.distance, alone.entropy, alone.pockets, alone.coverage) == (0, 0, 1, 1 / at.bins)


def test_many_members_are_compared_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    at = ground("row")
    assert at.every is not None
    exact = diversity(at, at.every)
    monkeypatch.setattr(metrics, "MOST_PAIRED", 200)
    drawn = diversity(at, at.every, seed=1)
    assert drawn == diversity(at, at.every, seed=1)
    assert drawn.distance != diversity(at, at.every, seed=2).distance
    assert drawn.distance == pytest.approx(exact.distance, abs=0.03)
    assert (drawn.entropy, drawn.pockets) == (exact.entropy, exact.pockets)


def test_the_shrink_index_by_hand() -> None:
    found = shrink_index(10, 1000, mean=80, whole_mean=70, best=90)
    assert found.gain == pytest.approx(0.5)
    assert found.reduction == pytest.approx(2 / 3)
    assert found.index == pytest.approx(1 / 3)
    assert shrink_index(1000, 1000, 70, 70, 90).index == 0
    assert shrink_index(1, 1000, 90, 70, 90).index == 1
    worse = shrink_index(10, 1000, 60, 70, 90)
    assert worse.index is not None
    assert worse.index < 0
    flat = shrink_index(10, 1000, 70, 70, 70)
    assert (flat.gain, flat.index) == (None, None)
    assert shrink_index(1, 1, 70, 60, 90).reduction == 0


def test_worth_by_hand() -> None:
    at = ground("row")
    y = figures(at, additive(0))
    assert at.every is not None
    bins = at.bin(at.every)
    shuffled = np.random.default_rng(0).permutation(len(y))
    truth = Truth(at, at.every[shuffled], y[shuffled].tolist())
    assert truth.mean == pytest.approx(y.mean())
    assert truth.best == y.max()
    np.testing.assert_array_equal(truth.of(at.every), y)
    chosen = np.concatenate([np.flatnonzero(bins == 0)[:3], np.flatnonzero(bins == 3)[:5]])
    found = truth.worth(at.every[chosen])
    assert found is not None
    by_bin = [y[bins == b].mean() for b in range(at.bins)]
    by_bin[0], by_bin[3] = y[chosen[:3]].mean(), y[chosen[3:]].mean()
    assert found.bin_mean == pytest.approx(np.mean(by_bin))
    assert found.mean == pytest.approx(y[chosen].mean())
    assert (found.bins, found.best) == (2, y[chosen].max())
    assert found.regret == pytest.approx(y.max() - y[chosen].max())
    whole = truth.worth(at.every)
    assert whole is not None
    assert (whole.regret, whole.bins) == (0, at.bins)


def test_what_is_not_known_is_left_out() -> None:
    at = ground("row")
    y = figures(at, additive(0))
    assert at.every is not None
    bins = at.bin(at.every)
    half = np.flatnonzero((np.arange(len(y)) % 2 == 0) & (bins != 4))
    truth = Truth(at, at.every[half], y[half].tolist())
    assert np.isnan(truth.of(at.every)).sum() == len(y) - len(half)
    found, same = truth.worth(at.every), truth.worth(at.every[half])
    assert found == same
    assert found is not None
    # No figure of the last bin is known: it has no mean.
    assert found.bin_mean == pytest.approx(np.mean([y[half][bins[half] == b].mean() for b in range(4)]))
    assert truth.worth(at.every[bins == 4]) is None
    assert truth.worth(at.every[:0]) is None
