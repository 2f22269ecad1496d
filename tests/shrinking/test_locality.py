"""Correlations by edits against closed forms, brute force and published figures."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import nasdsl
from nasdsl.cases import Choice
from nasdsl.errors import UserError
from nasdsl.shrinking.ground import Ground
from nasdsl.shrinking.locality import (
    autocorrelation,
    can_be_exact,
    correlation_length,
    drawn_shells,
    exact_shells,
    locality,
    radius_of,
    walk,
)
from nasdsl.subspace.files import restriction
from tests.shrinking.common import (
    Landscape,
    additive,
    cells,
    constant,
    figures,
    ground,
    independent,
    scores_of,
    space,
)


@pytest.fixture(scope="module")
def published() -> Ground:
    return Ground(cells())


def tabled(at: Ground, score: Landscape) -> Landscape:
    """The same landscape, each architecture asked once."""
    assert at.every is not None
    known = dict(zip((r.tobytes() for r in at.every), figures(at, score), strict=True))
    return lambda choices: float(known[at.codes.row(choices).tobytes()])


@pytest.mark.parametrize("seed", range(3))
def test_shells_of_an_additive_landscape_are_a_line(seed: int, published: Ground) -> None:
    for at, positions, options in ((published, 6, 5), (ground("row"), 5, 4)):
        found = exact_shells(at, scores_of(additive(seed)), positions)
        for edits, value in enumerate(found, 1):
            assert value == pytest.approx(1 - edits * options / (positions * (options - 1)), abs=1e-11)


def test_walks_over_an_additive_landscape_decay_by_its_first_shell(published: Ground) -> None:
    score = tabled(published, additive(1))
    found = locality(published, scores_of(score), walks=16, steps=500, lags=3, pairs=10, distances=1, seed=2)
    for lag, expected in enumerate((0.7917, 0.6267, 0.4962)):
        mean, deviation = found.autocorrelation[lag], found.deviation[lag]
        assert mean is not None
        assert deviation is not None
        assert expected == pytest.approx((1 - 5 / 24) ** (lag + 1), abs=1e-4)
        # Four standard errors, and the bias of a series with itself: about -(1 + r) / (1 - r) / steps.
        assert abs(mean - expected) < 4 * deviation / math.sqrt(16) + 0.03
    first = found.autocorrelation[0]
    assert first is not None
    assert found.length == correlation_length(first) == pytest.approx(-1 / math.log(first))
    assert found.length == pytest.approx(4.28, abs=0.9)


def test_nothing_is_near_where_scores_are_independent(published: Ground) -> None:
    score = tabled(published, independent(3))
    found = locality(published, scores_of(score), walks=8, steps=500, lags=3, exact=True)
    assert (found.radius, found.pairs) == (0, None)
    first, spread = found.autocorrelation[0], found.deviation[0]
    assert first is not None
    assert spread is not None
    assert abs(first) < 4 * spread / math.sqrt(8) + 0.01
    # 187,500 pairs at one edit, each figure in 24 of them.
    assert found.shells[0] is not None
    assert abs(found.shells[0]) < 4 / math.sqrt(187_500)


def test_a_constant_has_no_correlation() -> None:
    for exact in (True, False):
        found = locality(ground("row"), scores_of(constant), walks=2, steps=30, lags=4, pairs=20, exact=exact)
        assert set(found.autocorrelation) == set(found.deviation) == set(found.shells) == {None}
        assert (found.length, found.radius) == (None, 0)


def uneven(seed: int) -> Landscape:
    def score(choices: Mapping[str, Choice]) -> float:
        return additive(seed)(choices) + 2 * independent(seed)(choices)

    return score


def test_exact_shells_are_those_of_all_pairs() -> None:
    for seed in range(3):
        at = ground("row")
        rows, y = at.every, figures(at, uneven(seed))
        assert rows is not None
        apart = (rows[:, None, :] != rows[None, :, :]).sum(2)
        found = exact_shells(at, scores_of(uneven(seed)), 5)
        for edits, value in enumerate(found, 1):
            left, right = np.nonzero(apart == edits)
            assert value == pytest.approx(np.corrcoef(y[left], y[right])[0, 1], abs=1e-10)


def test_drawn_shells_are_near_the_exact_ones() -> None:
    at, score = ground("row"), uneven(1)
    exact = exact_shells(at, scores_of(score), 3)
    drawn = drawn_shells(at, scores_of(score), 600, 3, random.Random(0))
    for one, two in zip(drawn, exact, strict=True):
        assert one is not None
        assert two is not None
        # Fisher's interval, both ways round counted once.
        assert abs(math.atanh(one) - math.atanh(two)) < 4 / math.sqrt(597)


@pytest.mark.parametrize("name", ["row", "limited", "three in one", "depths", "chosen inputs"])
def test_every_step_of_a_walk_is_one_edit_within_the_limits(name: str) -> None:
    at = ground(name)
    rows = walk(at, 60, random.Random(1))
    assert len(rows) == 60
    steps = [at.choices(r) for r in rows]
    edits = at.space.population.edits
    assert all(edits(a, b) == 1 for a, b in pairwise(steps))
    assert all(at.space.allows(c) for c in steps)
    assert len({r.tobytes() for r in rows}) > 5
    assert walk(at, 60, random.Random(1)).tolist() == rows.tolist()


def test_a_walk_takes_every_edit_alike() -> None:
    at = ground("pair")
    rows = walk(at, 6_000, random.Random(0))
    seen: dict[bytes, list[bytes]] = {}
    for a, b in pairwise(rows):
        seen.setdefault(a.tobytes(), []).append(b.tobytes())
    chi2 = 0.0
    for after in seen.values():
        assert len(set(after)) == 6
        chi2 += sum((after.count(b) - len(after) / 6) ** 2 / (len(after) / 6) for b in set(after))
    assert abs(chi2 - 16 * 5) < 4 * math.sqrt(2 * 16 * 5)


def test_a_part_is_walked_inside_itself_and_its_pairs_are_drawn() -> None:
    whole = space("row")
    part = restriction(whole.checked, {d.path: ["k1", "k5"] for d in whole.decisions})
    at = Ground(whole.within(part))
    assert part.contains_rows(walk(at, 40, random.Random(0))).all()
    assert not can_be_exact(at)
    found = drawn_shells(at, scores_of(additive(0)), 200, 2, random.Random(0))
    for edits, value in enumerate(found, 1):
        # Two options at five positions.
        assert value == pytest.approx(1 - edits * 2 / 5, abs=0.2)


def test_what_can_be_exact() -> None:
    names = ("row", "pair", "limited", "depths", "chosen inputs")
    assert [name for name in names if can_be_exact(ground(name))] == ["row", "pair"]
    with pytest.raises(ValueError, match="free decisions"):
        exact_shells(ground("limited"), scores_of(constant), 1)


def test_where_no_neighbour_is_within_the_limits_it_is_said() -> None:
    whole = space("row")
    corners = whole.members([whole.architecture({d.path: k for d in whole.decisions}) for k in ("k1", "k3")])
    with pytest.raises(UserError, match="no neighbour 1 edits away") as found:
        walk(Ground(whole.within(corners)), 3, random.Random(0))
    assert found.value.diagnostics[0].code == "NAS310"


def test_lags_are_those_of_the_series() -> None:
    y = np.random.default_rng(0).normal(size=40).cumsum()
    found = autocorrelation(y.tolist(), 5)
    assert found == pytest.approx([np.corrcoef(y[:-k], y[k:])[0, 1] for k in range(1, 6)])
    assert len(autocorrelation(y[:5].tolist(), 36)) == 3


@pytest.mark.parametrize(
    ("shells", "radius"),
    [
        ((0.9, 0.5, 0.49), 2),
        ((0.4, 0.9), 0),
        ((None, 0.9), 0),
        ((0.9, None, 0.9), 1),
        ((0.6, 0.6), 2),
        ((), 0),
    ],
)
def test_the_radius_ends_where_likeness_does(shells: tuple[float | None, ...], radius: int) -> None:
    assert radius_of(shells) == radius


def test_the_correlation_length_is_that_of_an_exponential() -> None:
    for length in (0.5, 1.0, 7.0):
        assert correlation_length(math.exp(-1 / length)) == pytest.approx(length)
    assert correlation_length(0.0) == correlation_length(-0.3) == 0.0
    assert correlation_length(1.0) is None


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("cifar10_test_acc_200ep", (0.560, 0.286, 0.122)),
        ("oneshot_supernet_acc", (0.595, 0.343, 0.174)),
        ("fewshot_supernet_acc", (0.608, 0.363, 0.194)),
    ],
)
def test_figures_of_nasbench201(
    column: str, expected: tuple[float, ...], published: Ground, shared: Path
) -> None:
    path = shared / "data" / "nasbench201.csv.gz"
    if not path.exists():
        pytest.skip("the table of NAS-Bench-201 is absent")
    table = np.genfromtxt(path, delimiter=",", names=True, dtype=None, encoding="utf-8")
    parse = nasdsl.load("nasbench201", C=4, N=1, resolution=8).parse
    known = {
        published.codes.row(parse(str(text)).choices).tobytes(): float(value)
        for text, value in zip(table["arch"], table[column], strict=True)
    }
    found = exact_shells(published, scores_of(lambda c: known[published.codes.row(c).tobytes()]), 3)
    assert found == pytest.approx(expected, abs=1e-3)
    assert radius_of(found) == 1
