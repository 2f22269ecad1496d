"""Kendall's tau-b by counting pairs, the top quarter, the interval, and what cannot be told."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasdsl.ranking.correlation import agreement, interval, tau, top_quarter

COLUMNS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12)


@given(COLUMNS)
def test_tau_b_counts_pairs(rows: list[tuple[int, int]]) -> None:
    score, truth = zip(*rows, strict=True)
    signs = [((a > c) - (a < c), (b > d) - (b < d)) for (a, b), (c, d) in combinations(rows, 2)]
    left, right = (sum(s[i] != 0 for s in signs) for i in (0, 1))
    found = tau(score, truth)
    if not left or not right:
        assert found is None
    else:
        assert found == pytest.approx(sum(a * b for a, b in signs) / (left * right) ** 0.5)


def test_the_top_quarter_has_all_that_equal_its_last() -> None:
    assert top_quarter([1, 2, 3, 4, 5, 6, 7, 8]) == [6, 7]
    assert top_quarter([1, 2, 3, 4, 5]) == [3, 4]  # rounded up
    assert top_quarter([1, 8, 7, 7, 7, 1, 1, 1]) == [1, 2, 3, 4]
    assert top_quarter([]) == []


def test_a_perfect_score_and_its_opposite() -> None:
    truth = [float(i) for i in range(20)]
    good = agreement(truth, truth)
    assert (good.tau, good.low, good.high, good.top) == pytest.approx((1.0, 1.0, 1.0, 1.0))
    assert good.top_count == 5
    assert agreement([-t for t in truth], truth).tau == pytest.approx(-1.0)


def test_the_interval_is_around_tau_and_the_same_again() -> None:
    truth = [float(i) for i in range(40)]
    score = [t + 30 * ((i * 7919) % 13) / 13 for i, t in enumerate(truth)]
    low, high = interval(score, truth)
    found = tau(score, truth)
    assert found is not None
    assert low is not None
    assert high is not None
    assert -1 <= low < found < high <= 1
    assert interval(score, truth) == (low, high)


def test_what_cannot_be_told_is_none() -> None:
    assert agreement([1, 1, 1, 1], [1, 2, 3, 4]).tau is None
    assert interval([1, 2], [1, 2]) == (None, None)
    assert agreement([], []).top_count == 0
