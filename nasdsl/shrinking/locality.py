"""Locality: how far the scores of architectures resemble those of their neighbours.

Takes a ground and a way to score; returns correlations by the number of edits. Invariant: a correlation of a
constant column is None; draws depend on the seed alone.

- Walks: y along a random walk of single edits, correlated with itself k steps later (Weinberger 1990; as
  `RWA` in NASLib's statistics: 10 walks of 1,000 steps, 36 lags). The correlation length is -1 / ln RWA(1).
- Shells: R(d), the correlation over all pairs exactly d edits apart; exact where every architecture of a
  space of free decisions has a score, over pairs drawn at random elsewhere. The locality radius is the
  largest d up to which every R is 0.5 or more: a RECONSTRUCTION of what LISSNAS exploits.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

import attrs

from nasdsl.cases import Choice
from nasdsl.errors import UserError
from nasdsl.shrinking.ground import Ground
from nasdsl.subspace.balls import Ball

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nasdsl.subspace.codes import Rows

Scores = Callable[[Sequence[Mapping[str, Choice]]], Sequence[float]]
MOST_SHELLED = 12
"""Decisions up to which shells are exact: their number of subsets is looked at."""
TRIES = 1_000
NEAR = 0.5


@attrs.frozen
class Locality:
    """What walks and shells came to.

    Attributes:
        walks, steps: how many and how long.
        autocorrelation: of lags 1, 2, ...: mean over walks, None where no walk varied.
        deviation: the standard deviation over walks, of each.
        length: the correlation length, in edits; 0 where neighbours do not resemble each other.
        shells: R(1), R(2), ...
        pairs: behind each shell; None where it is exact.
        radius: the locality radius, in edits.
    """

    walks: int
    steps: int
    autocorrelation: tuple[float | None, ...]
    deviation: tuple[float | None, ...]
    length: float | None
    shells: tuple[float | None, ...]
    pairs: int | None
    radius: int


def locality(
    ground: Ground,
    score: Scores,
    walks: int = 10,
    steps: int = 1000,
    lags: int = 36,
    pairs: int = 200,
    distances: int = 6,
    exact: bool = False,
    seed: int = 0,
) -> Locality:
    """Measures locality.

    Args:
        walks, steps, lags: of the autocorrelation.
        pairs: drawn for every distance.
        distances: edits up to which shells are measured.
        exact: shells over all pairs: every architecture is scored; only where `can_be_exact`.
    """
    furthest = _distance_limited(ground, distances)
    correlations = [
        autocorrelation(
            score([ground.choices(r) for r in walk(ground, steps, random.Random(f"{seed}/{i}"))]), lags
        )
        for i in range(walks)
    ]
    mean, deviation = _summary(correlations, lags)
    found = (
        exact_shells(ground, score, furthest)
        if exact
        else drawn_shells(ground, score, pairs, furthest, random.Random(f"shells/{seed}"))
    )
    first = mean[0] if mean else None
    length = None if first is None else correlation_length(first)
    return Locality(walks, steps, mean, deviation, length, found, None if exact else pairs, radius_of(found))


def correlation_length(first: float) -> float | None:
    """-1 / ln RWA(1): 0 where there is no correlation, None where it is complete."""
    if first <= 0:
        return 0.0
    return None if first >= 1 else -1 / math.log(first)


def radius_of(shells: Sequence[float | None]) -> int:
    """The largest number of edits up to which every correlation is 0.5 or more."""
    for number, value in enumerate(shells):
        if value is None or value < NEAR:
            return number
    return len(shells)


def walk(ground: Ground, steps: int, rng: random.Random) -> Rows:
    """`steps` rows, each one uniform edit from the one before, within the limits."""
    import numpy as np

    row = ground.draws(rng, 1)[0]
    found = [row]
    while len(found) < steps:
        row = _at_distance(ground, row, 1, rng)
        found.append(row)
    return np.array(found)


def autocorrelation(series: Sequence[float], lags: int) -> list[float | None]:
    """Pearson's correlation of a series with itself 1, 2, ... `lags` steps later."""
    import numpy as np

    y = np.asarray(series, np.float64)
    return [_correlation(y[:-k], y[k:]) for k in range(1, min(lags, len(y) - 2) + 1)]


def drawn_shells(
    ground: Ground, score: Scores, pairs: int, distances: int, rng: random.Random
) -> tuple[float | None, ...]:
    """R(1) to R(distances), each over so many pairs drawn at random, either way round."""
    import numpy as np

    found: list[float | None] = []
    for distance in range(1, distances + 1):
        left = ground.draws(rng, pairs)
        right = np.array([_at_distance(ground, row, distance, rng) for row in left])
        a = np.asarray(score([ground.choices(r) for r in left]), np.float64)
        b = np.asarray(score([ground.choices(r) for r in right]), np.float64)
        found.append(_correlation(np.concatenate([a, b]), np.concatenate([b, a])))
    return tuple(found)


def can_be_exact(ground: Ground) -> bool:
    """Whether all pairs can be looked at: few free decisions, no limits, no part."""
    table = ground.codes.table.decisions
    free = all(d.when is None and d.kind != "inputs" for d in table)
    whole = not ground.space.checked.limits and ground.space.subspace is None
    return free and whole and len(table) <= MOST_SHELLED and ground.every is not None


def exact_shells(ground: Ground, score: Scores, distances: int) -> tuple[float | None, ...]:
    """R(1) to R(distances) over all pairs, without a look at any: sums over values that are free to change.

    For a set D of decisions, the sum of y over what differs from a exactly in D follows from the sums over
    what agrees with a outside a subset of D, by inclusion and exclusion.
    """
    import numpy as np

    rows = ground.every
    if rows is None or not can_be_exact(ground):
        raise ValueError("shells are exact only for few free decisions without limits")
    sizes = [len(v) for v in ground.codes.values]
    y = np.zeros(sizes)
    y[tuple(rows.T)] = score([ground.choices(r) for r in rows])
    y -= y.mean()
    variance = float((y**2).mean())
    if variance == 0:
        return (None,) * distances
    overlap = {
        e: float((y * y.sum(e, keepdims=True)).sum())
        for k in range(len(sizes) + 1)
        for e in _subsets(sizes, k)
    }
    found: list[float | None] = []
    for distance in range(1, distances + 1):
        total, count = 0.0, 0
        for changed in _subsets(sizes, distance):
            for k in range(distance + 1):
                total += (-1) ** (distance - k) * sum(overlap[e] for e in combinations(changed, k))
            count += y.size * math.prod(sizes[i] - 1 for i in changed)
        found.append(total / count / variance)
    return tuple(found)


def _subsets(sizes: Sequence[int], count: int) -> list[tuple[int, ...]]:
    return list(combinations(range(len(sizes)), count))


def _at_distance(ground: Ground, row: Rows, distance: int, rng: random.Random) -> Rows:
    ball = Ball(ground.codes, row, distance)
    for _ in range(TRIES):
        found: Rows = ball.walks.sample(rng, distance)
        if len(ground.kept(found[None])):
            return found
    raise UserError.plain(
        "NAS310",
        f"an architecture of `{ground.space.name}` has no neighbour {distance} edits away within the limits",
        help="loosen a limit, or look at fewer edits",
    )


def _distance_limited(ground: Ground, distances: int) -> int:
    return min(distances, sum(len(v) > 1 for v in ground.codes.values))


def _correlation(left: NDArray[np.float64], right: NDArray[np.float64]) -> float | None:
    import numpy as np

    if len(left) < 2 or left.std() == 0 or right.std() == 0:
        return None
    return float(np.corrcoef(left, right)[0, 1])


def _summary(
    correlations: Sequence[Sequence[float | None]], lags: int
) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    means: list[float | None] = []
    deviations: list[float | None] = []
    for lag in range(min(lags, min((len(c) for c in correlations), default=0))):
        values = [c[lag] for c in correlations]
        known = [v for v in values if v is not None]
        means.append(fmean(known) if known else None)
        deviations.append(pstdev(known) if known else None)
    return tuple(means), tuple(deviations)


__all__ = [
    "Locality",
    "autocorrelation",
    "can_be_exact",
    "correlation_length",
    "drawn_shells",
    "exact_shells",
    "locality",
    "radius_of",
    "walk",
]
