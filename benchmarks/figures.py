"""Statistics of a few seeds: intervals, paired tests, ranks, spreads.

Takes numbers, returns numbers; no distribution is drawn from where an exact value can be had. Invariant:
a p-value counts the observed arrangement, so it is never 0; what one seed cannot tell is None.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from itertools import product
from statistics import mean, stdev

import attrs

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
    half = student_quantile(0.5 + level / 2, len(values) - 1) * deviation / math.sqrt(len(values))
    return Summary(len(values), centre, deviation, centre - half, centre + half)


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - incomplete_beta(b, a, 1.0 - x)
    scale = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    tiny = 1e-300
    c, d = 1.0, 1.0 / _apart(1.0 - (a + b) * x / (a + 1), tiny)
    found = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / _apart(1.0 + term * d, tiny)
            c = _apart(1.0 + term / c, tiny)
            found *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return scale * found / a


def _apart(value: float, least: float) -> float:
    return value if abs(value) > least else least


def student_below(t: float, freedom: float) -> float:
    """P(T <= t) of Student's t."""
    square = t * t
    if square < freedom:  # both forms are the same; each is exact where it is used
        body = math.copysign(0.5 * incomplete_beta(0.5, freedom / 2, square / (freedom + square)), t)
        return 0.5 + body
    tail = 0.5 * incomplete_beta(freedom / 2, 0.5, freedom / (freedom + square))
    return 1.0 - tail if t > 0 else tail


def student_quantile(p: float, freedom: float) -> float:
    """The t with P(T <= t) = p, by bisection."""
    if not 0 < p < 1:
        raise ValueError(f"a quantile is asked at 0 < p < 1, not {p}")
    low, high = -1.0, 1.0
    while student_below(low, freedom) > p:
        low *= 2
    while student_below(high, freedom) < p:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if student_below(middle, freedom) < p else (low, middle)
    return (low + high) / 2


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
    a, b = len(first) - 1, len(second) - 1
    beyond = incomplete_beta(b / 2, a / 2, b / (b + a * above / below))
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
    count = len(differences)
    observed = abs(sum(differences))
    slack = 1e-9 * max(1e-300, sum(map(abs, differences)))
    if count <= EXACT:
        patterns = product((1, -1), repeat=count)
        far = sum(_flipped(p, differences) >= observed - slack for p in patterns)
        return Paired(count, mean(differences), far / 2**count, 2.0 ** (1 - count), exact=True)
    rng = random.Random(0)
    drawn = ([rng.choice((1, -1)) for _ in differences] for _ in range(DRAWN))
    far = sum(_flipped(p, differences) >= observed - slack for p in drawn)
    p = (far + 1) / (DRAWN + 1)
    return Paired(count, mean(differences), p, 1 / (DRAWN + 1), exact=False)


def _flipped(pattern: Sequence[int], differences: Sequence[float]) -> float:
    return abs(sum(s * d for s, d in zip(pattern, differences, strict=True)))


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1 for the lowest; equal values share the mean of theirs."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for place in order[start : end + 1]:
            found[place] = (start + end) / 2 + 1
        start = end + 1
    return found


def mean_ranks(by_name: Mapping[str, Mapping[int, float]]) -> tuple[dict[str, float], list[int]]:
    """Friedman's mean ranks: 1 is the lowest figure, over the seeds that all have; and those seeds."""
    if not by_name:
        return {}, []
    seeds = sorted(set.intersection(*(set(v) for v in by_name.values())))
    if not seeds:
        return {}, []
    rows = [ranks([by_name[name][seed] for name in by_name]) for seed in seeds]
    return {name: mean(row[i] for row in rows) for i, name in enumerate(by_name)}, seeds


def friedman(by_name: Mapping[str, Mapping[int, float]]) -> float | None:
    """The p of Friedman's test that no configuration differs: ranks are shuffled within every seed.

    Returns:
        From a fixed sample of shuffles; None with fewer than two configurations or two common seeds.
    """
    _, seeds = mean_ranks(by_name)
    if len(by_name) < 2 or len(seeds) < 2:
        return None
    rows = [ranks([by_name[name][seed] for name in by_name]) for seed in seeds]
    observed = _apart_ranks(rows)
    rng = random.Random(0)
    shuffled = ([rng.sample(row, len(row)) for row in rows] for _ in range(DRAWN))
    far = sum(_apart_ranks(made) >= observed - 1e-9 * observed for made in shuffled)
    return (far + 1) / (DRAWN + 1)


def _apart_ranks(rows: Sequence[Sequence[float]]) -> float:
    """The sum of squares of the sums of ranks, which grows as they lie apart."""
    return sum(sum(column) ** 2 for column in zip(*rows, strict=True))


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """The rank correlation of two columns, equal values sharing their ranks."""
    a, b = ranks(first), ranks(second)
    middle = (len(a) + 1) / 2
    up = sum((x - middle) * (y - middle) for x, y in zip(a, b, strict=True))
    down = math.sqrt(sum((x - middle) ** 2 for x in a) * sum((y - middle) ** 2 for y in b))
    return up / down if down else math.nan
