"""Statistics of a few seeds: intervals, paired tests, ranks, spreads.

Takes numbers, returns numbers; distributions, ranks and permutation tests are scipy's. Invariant: a test
counts all arrangements where there are few and a fixed sample where there are many, the observed one
always among them, so a p is never 0; what one seed cannot tell is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import attrs
import numpy
from scipy import stats

EXACT = 16
"""Differences up to which all sign patterns are counted; beyond, a fixed sample of them is drawn."""
DRAWN = 20_000


@attrs.frozen
class Summary:
    """A few figures of one kind.

    Attributes:
        deviation: of the sample (n - 1); None for one figure.
        low, high: the 95 % interval of the mean by Student's t; None for one figure.
    """

    count: int
    mean: float
    deviation: float | None
    low: float | None
    high: float | None


def summary(values: Sequence[float], level: float = 0.95) -> Summary:
    """Mean, sample deviation and the interval of the mean. Raises ValueError without values."""
    if not values:
        raise ValueError("no values")
    centre = mean(values)
    if len(values) == 1:
        return Summary(1, centre, None, None, None)
    deviation = stdev(values)
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1)) * deviation / len(values) ** 0.5
    return Summary(len(values), centre, deviation, centre - half, centre + half)


def variances_differ(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Two-sided p of the F test that two variances are equal; it assumes normal figures.

    Returns:
        None with fewer than two figures on a side, or where one side does not vary.
    """
    if min(len(first), len(second)) < 2:
        return None
    above, below = stdev(first) ** 2, stdev(second) ** 2
    if above == 0 or below == 0:
        return None
    beyond = float(stats.f.sf(above / below, len(first) - 1, len(second) - 1))
    return min(1.0, 2 * min(beyond, 1 - beyond))


@attrs.frozen
class Paired:
    """A comparison over the seeds that two configurations have in common.

    Attributes:
        mean: of first - second.
        p: two-sided, of the exact sign-flip test.
        least: the smallest p that this many pairs can give, whatever they are.
        exact: whether all sign patterns were counted.
    """

    count: int
    mean: float
    p: float
    least: float
    exact: bool


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Paired | None:
    """Compares figures by seed; None without a common seed."""
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    return sign_flips([first[s] - second[s] for s in seeds])


def sign_flips(differences: Sequence[float]) -> Paired:
    """The sign-flip permutation test of paired differences: how many patterns are as far from 0."""
    count, exact = len(differences), len(differences) <= EXACT
    least = 2.0 ** (1 - count) if exact else 1 / (DRAWN + 1)
    if count == 1:  # either sign is as far
        return Paired(1, differences[0], 1.0, 1.0, exact=True)
    scale = sum(map(abs, differences)) or 1.0

    def distance(flipped: Any, axis: int) -> Any:
        return numpy.round(abs(flipped.sum(axis)) / scale, 9)  # rounding hides no tie

    p = _permuted((differences,), distance, numpy.inf if exact else DRAWN)
    return Paired(count, mean(differences), p, least, exact)


def _permuted(samples: Sequence[Sequence[float]], statistic: Any, resamples: float) -> float:
    """The share of arrangements within pairs, or of signs, whose statistic is no smaller than the observed one."""
    found = stats.permutation_test(
        samples,
        statistic,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        alternative="greater",
        rng=numpy.random.default_rng(0),
    )
    return float(found.pvalue)


def ranks_by_seed(by_name: Mapping[str, Mapping[int, float]]) -> tuple[Any, list[int]]:
    """Ranks from 1 for the lowest figure within every seed that all have, (seeds, names); and those seeds.

    Equal figures share the mean of their ranks.
    """
    seeds = sorted(set.intersection(*(set(v) for v in by_name.values()))) if by_name else []
    rows = [[by_name[name][seed] for name in by_name] for seed in seeds]
    return stats.rankdata(rows, axis=1) if rows else numpy.zeros((0, len(by_name))), seeds


def mean_ranks(by_name: Mapping[str, Mapping[int, float]]) -> tuple[dict[str, float], list[int]]:
    """Friedman's mean ranks: 1 is the lowest figure, over the seeds that all have; and those seeds."""
    rows, seeds = ranks_by_seed(by_name)
    return (dict(zip(by_name, rows.mean(0).tolist(), strict=True)) if seeds else {}), seeds


def friedman(by_name: Mapping[str, Mapping[int, float]]) -> float | None:
    """The p of Friedman's test that no configuration differs: ranks are shuffled within every seed.

    Its statistic, the sum of squares of the sums of ranks, grows as they lie apart. Counted over shuffles,
    because with a few seeds the distribution that `scipy.stats.friedmanchisquare` assumes is far off.

    Returns:
        None with fewer than two configurations or two common seeds.
    """
    rows, seeds = ranks_by_seed(by_name)
    if len(by_name) < 2 or len(seeds) < 2:
        return None

    def apart(*columns: Any, axis: int) -> Any:
        return sum(column.sum(axis) ** 2 for column in columns)

    return _permuted(list(rows.T), apart, DRAWN)


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """The rank correlation of two columns, equal values sharing their ranks; NaN for a constant one."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)
