"""Rank correlation of a score with what it should predict.

Takes two columns, returns Kendall's tau-b (scipy's): over all pairs, inside the top quarter, with a
bootstrap interval. Invariant: what cannot be told (a constant column, fewer than two rows) is None,
never a number; the same columns give the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

RESAMPLES = 1_000
LEVEL = 0.95


@attrs.frozen
class Agreement:
    """How a score ranks.

    Attributes:
        tau: Kendall's tau-b over all rows.
        low, high: its 95 % interval, percentiles of resampled rows.
        top: tau-b among the quarter of the rows that are truly best, ties at its end included.
        top_low, top_high: the interval of that, resampled within the quarter.
        top_count: rows in that quarter.
    """

    tau: float | None
    low: float | None
    high: float | None
    top: float | None
    top_low: float | None
    top_high: float | None
    top_count: int


def agreement(score: Sequence[float], truth: Sequence[float]) -> Agreement:
    """How `score` ranks what `truth` says; of both, higher is better."""
    best = top_quarter(truth)
    inside = [score[i] for i in best], [truth[i] for i in best]
    low, high = interval(score, truth)
    top_low, top_high = interval(*inside)
    return Agreement(tau(score, truth), low, high, tau(*inside), top_low, top_high, len(best))


def tau(score: Sequence[float], truth: Sequence[float]) -> float | None:
    """Kendall's tau-b; None where a column is constant or too short."""
    from scipy import stats

    if len(set(score)) < 2 or len(set(truth)) < 2:
        return None
    return float(stats.kendalltau(score, truth).statistic)


def top_quarter(truth: Sequence[float]) -> list[int]:
    """The rows of the best quarter, rounded up, and all that equal its last."""
    if not truth:
        return []
    least = sorted(truth, reverse=True)[math.ceil(len(truth) / 4) - 1]
    return [i for i, value in enumerate(truth) if value >= least]


def interval(score: Sequence[float], truth: Sequence[float]) -> tuple[float | None, float | None]:
    """The middle 95 % of tau over rows drawn with replacement; resamples without a tau play no part."""
    import numpy

    if tau(score, truth) is None or len(score) < 3:
        return None, None
    random = numpy.random.default_rng(0)
    found = []
    for rows in random.integers(len(score), size=(RESAMPLES, len(score))):
        value = tau([score[i] for i in rows], [truth[i] for i in rows])
        if value is not None:
            found.append(value)
    low, high = numpy.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return low, high


__all__ = ["Agreement", "agreement", "interval", "tau", "top_quarter"]
