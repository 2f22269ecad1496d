"""Statistics of seeds against closed forms and against counting: that what scipy is asked is what is meant."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product
from statistics import mean, stdev

import pytest
from figures import (
    DRAWN,
    EXACT,
    friedman,
    mean_ranks,
    paired,
    sign_flips,
    spearman,
    summary,
    variances_differ,
)
from hypothesis import given
from hypothesis import strategies as st

WHOLE = st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=7)

CLOSED = {2: math.tan(math.pi * 0.475), 3: 0.95 * math.sqrt(2 / (4 * 0.975 * 0.025))}
"""Student's t at 0.975 for as many figures, where it has a closed form."""


@given(data=st.data())
@pytest.mark.parametrize("count", CLOSED)
def test_the_interval_has_its_closed_form(count: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.floats(-100, 100), min_size=count, max_size=count))
    found = summary(values)
    assert found.mean == mean(values)
    half = CLOSED[count] * stdev(values) / math.sqrt(count)
    assert (found.low, found.high) == pytest.approx(
        (found.mean - half, found.mean + half), rel=1e-7, abs=1e-7
    )


@pytest.mark.parametrize(("count", "printed"), [(3, 4.303), (4, 3.182), (10, 2.262), (31, 2.042)])
def test_intervals_that_tables_print(count: int, printed: float) -> None:
    found = summary([float(i) for i in range(count)])
    assert found.deviation is not None
    assert found.high is not None
    assert (found.high - found.mean) * math.sqrt(count) / found.deviation == pytest.approx(printed, abs=5e-4)


def test_one_figure_has_no_deviation() -> None:
    assert (summary([3.0]).deviation, summary([3.0]).low) == (None, None)
    with pytest.raises(ValueError, match="no values"):
        summary([])


@given(differences=WHOLE)
def test_sign_flips_against_counting(differences: list[float]) -> None:
    count = len(differences)
    observed = abs(sum(map(Fraction, differences)))
    patterns = list(product((1, -1), repeat=count))
    far = sum(
        abs(sum(s * Fraction(d) for s, d in zip(p, differences, strict=True))) >= observed for p in patterns
    )
    found = sign_flips(differences)
    assert (found.p, found.exact, found.count) == (far / 2**count, True, count)
    assert found.least <= found.p <= 1
    assert sign_flips([-d for d in differences]).p == found.p


@given(count=st.integers(1, 10))
def test_the_smallest_p_is_met_when_all_agree(count: int) -> None:
    found = sign_flips([float(1 + i) for i in range(count)])
    assert found.p == found.least == 2 / 2**count


def test_three_seeds_cannot_be_significant() -> None:
    assert sign_flips([40.0, 40.0, 40.0]).p == 0.25


def test_rounding_does_not_hide_a_tie() -> None:
    """0.1 + 0.2 - 0.3 is not 0 in floating point; the pattern of the same size still counts."""
    assert sign_flips([0.1, 0.2, -0.3]).p == 1.0


def test_many_differences_are_drawn() -> None:
    found = sign_flips([1.0] * (EXACT + 1))
    assert not found.exact
    assert found.p == pytest.approx(0.0, abs=1e-3)
    assert found.p >= found.least == 1 / (DRAWN + 1)


def test_pairs_are_common_seeds() -> None:
    found = paired({0: 5.0, 1: 7.0, 4: 100.0}, {0: 4.0, 1: 5.0, 2: 9.0})
    assert found is not None
    assert (found.count, found.mean) == (2, 1.5)
    assert paired({0: 1.0}, {1: 1.0}) is None


@given(spread=st.floats(0.1, 30))
def test_variances_of_three_and_three(spread: float) -> None:
    """With two and two degrees of freedom P(F > r) is 1 / (1 + r)."""
    ratio = spread**2
    found = variances_differ([-spread, 0.0, spread], [-1.0, 0.0, 1.0])
    assert found == pytest.approx(2 * min(1, ratio) / (1 + ratio))


def test_variances_that_cannot_be_compared() -> None:
    assert variances_differ([1.0], [1.0, 2.0]) is None
    assert variances_differ([1.0, 1.0], [1.0, 2.0]) is None


@given(seeds=st.lists(st.permutations([1.0, 2.0, 3.0]), min_size=1, max_size=5))
def test_mean_ranks_share_what_there_is(seeds: list[list[float]]) -> None:
    by_name = {n: {s: row[i] for s, row in enumerate(seeds)} for i, n in enumerate("abc")}
    found, common = mean_ranks(by_name)
    assert sum(found.values()) == pytest.approx(6)
    assert common == list(range(len(seeds)))
    assert found["a"] == pytest.approx(mean(row[0] for row in seeds))


def test_equal_figures_share_their_ranks() -> None:
    assert mean_ranks({"a": {0: 1.0}, "b": {0: 2.0}, "c": {0: 1.0}})[0] == {"a": 1.5, "b": 3.0, "c": 1.5}


def test_mean_ranks_are_over_common_seeds() -> None:
    found, common = mean_ranks({"a": {0: 1.0, 1: 9.0}, "b": {1: 3.0}})
    assert (found, common) == ({"a": 2.0, "b": 1.0}, [1])
    assert mean_ranks({"a": {0: 1.0}, "b": {1: 1.0}}) == ({}, [])
    assert mean_ranks({}) == ({}, [])


def test_friedman_against_all_shuffles() -> None:
    """Three configurations and three seeds: 216 arrangements, of which 6 agree in every seed."""
    agreed = {n: dict.fromkeys(range(3), float(i)) for i, n in enumerate("abc")}
    assert friedman(agreed) == pytest.approx(6 / 216, abs=0.004)
    mixed = {n: {s: float((i + s) % 3) for s in range(3)} for i, n in enumerate("abc")}
    assert friedman(mixed) == 1.0
    assert friedman({"a": {0: 1.0, 1: 2.0}}) is None
    assert friedman({"a": {0: 1.0}, "b": {0: 2.0}}) is None


@given(order=st.permutations(list(range(8))))
def test_spearman_without_ties(order: list[int]) -> None:
    n, distance = 8, sum((i - o) ** 2 for i, o in enumerate(order))
    assert spearman(range(n), order) == pytest.approx(1 - 6 * distance / (n * (n * n - 1)))


def test_a_constant_column_has_no_correlation() -> None:
    assert math.isnan(spearman([1.0, 1.0], [1.0, 2.0]))
