"""Sets of the same size that other ways come to with as many evaluations: what a shrinking is compared with.

Takes a ground, a way to score and numbers; returns rows. Invariant: none looks at more scores than it is
given; the same seed gives the same rows.

- `random_subset`: any members.
- `operational_pruning`: the value whose architectures score worst goes, for every architecture, again and
  again (the marginal means of ABS, Hu et al. 2020; what LISSNAS argues against).
- `evolution`: regularised evolution (Real et al. 2019), the best that it met.
- `top_random`: the best of as many random ones.
- `top_predicted`: the best of all under the regression that shrinking uses, fitted on random ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from nasdsl.cases import Choice
from nasdsl.scoring.regression import Regression
from nasdsl.shrinking.ground import Ground
from nasdsl.shrinking.rounds import finite
from nasdsl.subspace.codes import ABSENT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nasdsl.subspace.codes import Rows

Scores = Callable[[Sequence[Mapping[str, Choice]]], Sequence[float]]
"""The scores of architectures, in their order."""
MOST_PREDICTED = 100_000
"""Architectures that a prediction is made for, where all are too many."""


def random_subset(ground: Ground, size: int, seed: int) -> Rows:
    """`size` different rows."""
    return _different(ground, size, random.Random(f"subset/{seed}"))


def operational_pruning(ground: Ground, score: Scores, size: int, evaluations: int, seed: int) -> Rows:
    """What is left when values were taken away until `size` rows are left, or fewer.

    Where no architectures can be listed, from as many draws.
    """
    import numpy as np

    sample = _different(ground, evaluations, random.Random(f"pruning/{seed}"))
    scores = _scored(ground, score, sample)
    rows = _listed(ground, seed)
    while len(rows) > size:
        worst: tuple[float, int, int] | None = None
        for column in range(rows.shape[1]):
            left = [int(v) for v in np.unique(rows[:, column]) if v != ABSENT]
            for value in left if len(left) > 1 else ():
                mine = scores[sample[:, column] == value]
                mean = float(mine.mean()) if len(mine) else -np.inf
                if worst is None or mean < worst[0]:
                    worst = mean, column, value
        if worst is None:
            break
        _, column, value = worst
        stays = sample[:, column] != value
        sample, scores = sample[stays], scores[stays]
        rows = rows[rows[:, column] != value]
    return rows


def evolution(
    ground: Ground,
    score: Scores,
    size: int,
    evaluations: int,
    seed: int,
    population: int = 50,
    tournament: int = 10,
) -> Rows:
    """The `size` best that regularised evolution met in as many evaluations."""
    from nasdsl.codegen.decisions import path_data
    from nasdsl.runtime.paths.finding import Aging
    from nasdsl.runtime.paths.sampling import Draw

    space = ground.space
    costs = space.costs(ground.cost)
    draw = Draw(path_data(space.checked.table), seed, costs.at, space.allows, space.draw_choices)
    finder = Aging(draw, evaluations, population, tournament, 0.0)
    while (path := finder.ask()) is not None:
        finder.tell(float(score([path])[0]))
    met = ground.codes.rows([j.choices for j in finder.judged])
    return _best(met, [j.accuracy for j in finder.judged], size)


def top_random(ground: Ground, score: Scores, size: int, evaluations: int, seed: int) -> Rows:
    """The `size` best of as many random ones."""
    sample = _different(ground, evaluations, random.Random(f"top/{seed}"))
    return _best(sample, _scored(ground, score, sample).tolist(), size)


def top_predicted(ground: Ground, score: Scores, size: int, evaluations: int, seed: int) -> Rows:
    """The `size` that a regression on as many random ones expects to be the best of all."""
    sample = _different(ground, evaluations, random.Random(f"predicted/{seed}"))
    model = Regression(ground.codes)
    model.fit(sample, _scored(ground, score, sample).tolist())
    rows = _listed(ground, seed)
    return _best(rows, model.predict(rows).tolist(), size)


def _listed(ground: Ground, seed: int) -> Rows:
    rows = ground.listed()
    if rows is not None:
        return rows
    return ground.codes.unique(ground.draws(random.Random(f"listed/{seed}"), MOST_PREDICTED))


def _different(ground: Ground, count: int, rng: random.Random) -> Rows:
    """`count` different rows, or all there are."""
    import numpy as np

    rows = ground.every
    if rows is not None:
        return rows[rng.sample(range(len(rows)), min(count, len(rows)))]
    found: dict[bytes, Rows] = {}
    for _ in range(100):
        for row in ground.draws(rng, count):
            found.setdefault(row.tobytes(), row)
        if len(found) >= count:
            break
    return np.array(list(found.values())[:count])


def _scored(ground: Ground, score: Scores, rows: Rows) -> NDArray[np.float64]:
    import numpy

    return finite(numpy.array(score([ground.choices(r) for r in rows]), numpy.float64))


def _best(rows: Rows, scores: Sequence[float], size: int) -> Rows:
    import numpy

    return rows[numpy.argsort(-finite(numpy.array(scores)), kind="stable")[:size]]


__all__ = ["evolution", "operational_pruning", "random_subset", "top_predicted", "top_random"]
