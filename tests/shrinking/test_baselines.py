"""The sets that a shrinking is compared with: their sizes, what they looked at, and the slow way to them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from nasdsl.cases import Choice
from nasdsl.shrinking import baselines
from nasdsl.shrinking.baselines import (
    Scores,
    evolution,
    operational_pruning,
    random_subset,
    top_predicted,
    top_random,
)
from nasdsl.shrinking.ground import Ground
from tests.shrinking.common import Landscape, Rows, additive, figures, ground, scores_of

Way = Callable[[Ground, Scores, int, int, int], Rows]
SCORED: dict[str, Way] = {
    "operational pruning": operational_pruning,
    "evolution": evolution,
    "top random": top_random,
    "top predicted": top_predicted,
}
WAYS: dict[str, Way] = {**SCORED, "random": lambda at, _, size, __, seed: random_subset(at, size, seed)}


class Counted:
    """Scores, and how many were looked at."""

    def __init__(self, score: Landscape) -> None:
        self._score, self.count = score, 0

    def __call__(self, many: Sequence[Mapping[str, Choice]]) -> list[float]:
        self.count += len(many)
        return [self._score(c) for c in many]


@pytest.mark.parametrize("name", ["row", "limited", "three in one", "chosen inputs"])
@pytest.mark.parametrize("way", WAYS)
def test_a_set_is_of_the_space_and_no_larger_than_asked(way: str, name: str) -> None:
    at = ground(name)
    for size, evaluations in ((5, 20), (20, 30), (10_000, 25)):
        score = Counted(additive(1))
        rows = WAYS[way](at, score, size, evaluations, 3)
        assert score.count <= evaluations
        assert len(at.codes.unique(rows)) == len(rows) <= size
        assert at.every is not None
        assert at.codes.contained(rows, at.codes.unique(at.every)).all()
        if way in ("random", "top predicted"):
            assert len(rows) == min(size, len(at.every))
        if way in ("top random", "evolution") and size <= evaluations:
            assert len(rows) == size
        again = WAYS[way](at, Counted(additive(1)), size, evaluations, 3)
        assert again.tolist() == rows.tolist()


@pytest.mark.parametrize("way", WAYS)
def test_the_seed_decides(way: str) -> None:
    first, second = (
        WAYS[way](ground("row"), scores_of(additive(1)), 30, 40, seed).tolist() for seed in (0, 1)
    )
    assert first != second


def test_pruning_takes_the_worst_value_away_again_and_again() -> None:
    at, score = ground("three in one"), additive(2)
    assert at.every is not None
    y = dict(zip((r.tobytes() for r in at.every), figures(at, score), strict=True))
    for size in (60, 30, 10, 1):
        # As many evaluations as there are architectures: every mean is that of all that is left.
        members = [at.choices(r) for r in at.every]
        while len(members) > size:
            means = {}
            for decision in at.space.decisions:
                made = {m[decision.path] for m in members if decision.path in m}
                for value in made if len(made) > 1 else ():
                    those = [m for m in members if m.get(decision.path) == value]
                    means[decision.path, value] = np.mean([y[at.codes.row(m).tobytes()] for m in those])
            if not means:
                break
            path, value = min(means, key=lambda k: means[k])
            members = [m for m in members if m.get(path) != value]
        rows = operational_pruning(at, scores_of(score), size, len(at.every), 0)
        assert sorted(map(str, map(at.choices, rows))) == sorted(map(str, members))


def test_a_value_that_was_never_drawn_goes_first() -> None:
    at = ground("row")
    rows = operational_pruning(at, scores_of(additive(0)), 100, 1, 0)
    assert 0 < len(rows) <= 100


def test_the_best_of_random_are_the_best_of_those_looked_at() -> None:
    at = ground("row")
    seen: dict[bytes, float] = {}

    def score(many: Sequence[Mapping[str, Choice]]) -> list[float]:
        found = [additive(4)(c) for c in many]
        seen.update(zip((at.codes.row(c).tobytes() for c in many), found, strict=True))
        return found

    rows = top_random(at, score, 12, 200, 5)
    assert [seen[r.tobytes()] for r in rows] == sorted(seen.values(), reverse=True)[:12]
    assert len(seen) == 200


def test_predictions_find_the_best_of_an_additive_landscape() -> None:
    at = ground("row")
    for seed in range(4):
        y = figures(at, additive(seed))
        rows = top_predicted(at, scores_of(additive(seed)), 10, 150, seed)
        assert at.every is not None
        best = at.every[int(y.argmax())]
        assert best.tolist() in rows.tolist()


def test_evolution_finds_better_ones_than_chance() -> None:
    at = ground("row")
    best = [
        (
            additive(s)(at.choices(evolution(at, scores_of(additive(s)), 1, 150, s)[0])),
            figures(at, additive(s)).max(),
        )
        for s in range(4)
    ]
    assert sum(found == pytest.approx(most) for found, most in best) >= 3


def test_what_is_too_large_to_be_listed_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_PREDICTED", 500)
    at = ground("long row")
    for name, way in WAYS.items():
        score = Counted(additive(1))
        rows = way(at, score, 20, 60, 0)
        assert score.count <= 60
        assert 0 < len(rows) <= 20, name
    chosen = np.mean([additive(1)(at.choices(r)) for r in top_predicted(at, score, 20, 60, 0)])
    drawn = [additive(1)(at.choices(r)) for r in at.draws(random.Random(0), 200)]
    assert chosen > np.mean(drawn) + np.std(drawn)
