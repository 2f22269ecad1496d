"""The ridge regression is scikit-learn's on explicit columns, only looked up."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV

from nasdsl.scoring import regression
from nasdsl.scoring.regression import Regression
from nasdsl.shrinking.ground import Ground
from tests.shrinking.common import ground, independent


def explicit(at: Ground, rows: NDArray[np.int16], pairs: bool) -> NDArray[np.float64]:
    """A column for each value, or each input that can be chosen, and for each pair of two decisions."""
    found = []
    for row in rows:
        choices = at.choices(row)
        parts = []
        for decision in at.space.decisions:
            value = choices.get(decision.path)
            if decision.kind == "inputs":
                parts.append([float(value is not None and o in value) for o in decision.options])
            else:
                parts.append([float(value == o) for o in decision.values])
        line = [v for part in parts for v in part]
        for left, right in combinations(parts, 2) if pairs else ():
            line += [a * b for a in left for b in right]
        found.append(line)
    return np.array(found)


@pytest.mark.parametrize("pairs", [True, False], ids=["pairs", "single values"])
@pytest.mark.parametrize("name", ["row", "three in one", "chosen inputs", "depths"])
def test_a_prediction_is_that_of_scikit_learn(
    name: str, pairs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not pairs:
        monkeypatch.setattr(regression, "MOST_COLUMNS", 50)
    at = ground(name)
    every = at.every
    assert every is not None
    few = every[:: max(1, len(every) // 60)]
    scores = [independent(1)(at.choices(r)) for r in few]
    mine = Regression(at.codes)
    mine.fit(few, scores)
    theirs = RidgeCV(alphas=np.logspace(-2, 3, 11)).fit(explicit(at, few, pairs), scores)
    np.testing.assert_allclose(mine.predict(every), theirs.predict(explicit(at, every, pairs)), atol=1e-8)
    assert np.ptp(mine.predict(every)) > 0 or theirs.alpha_ == 1000


def test_fitted_again_it_forgets() -> None:
    at = ground("row")
    assert at.every is not None
    one, two = at.every[:50], at.every[50:120]
    again, fresh = Regression(at.codes), Regression(at.codes)
    again.fit(one, [independent(1)(at.choices(r)) for r in one])
    for model in (again, fresh):
        model.fit(two, [independent(2)(at.choices(r)) for r in two])
    np.testing.assert_array_equal(again.predict(at.every), fresh.predict(at.every))


def test_a_landscape_of_pairs_is_fitted_from_a_part_of_it() -> None:
    at = ground("row")
    every = at.every
    assert every is not None
    numbers = np.random.default_rng(0).normal(size=(10, 4, 4))
    y = sum(numbers[k][every[:, i], every[:, j]] for k, (i, j) in enumerate(combinations(range(5), 2)))
    order = np.random.default_rng(1).permutation(len(every))
    seen, unseen = order[:500], order[500:]
    model = Regression(at.codes)
    model.fit(every[seen], y[seen].tolist())
    assert np.corrcoef(model.predict(every[unseen]), y[unseen])[0, 1] > 0.999
    # Which single values alone cannot do: the pairs are why.
    alone = RidgeCV(alphas=np.logspace(-2, 3, 11)).fit(explicit(at, every[seen], False), y[seen])
    assert np.corrcoef(alone.predict(explicit(at, every[unseen], False)), y[unseen])[0, 1] < 0.9


def test_an_additive_landscape_with_decisions_that_come_and_go_is_ranked() -> None:
    at = ground("three in one")
    every = at.every
    assert every is not None
    weights = np.random.default_rng(2).normal(size=(every.shape[1], 5))
    y = np.array([sum(weights[i, v] for i, v in enumerate(r) if v >= 0) for r in every])
    model = Regression(at.codes)
    model.fit(every[::2], y[::2].tolist())
    assert spearmanr(model.predict(every[1::2]), y[1::2])[0] > 0.85
