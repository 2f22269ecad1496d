"""Counts are exact and samples uniform."""

from __future__ import annotations

import random
from collections import Counter
from itertools import product

import pytest

import nasdsl
from nasdsl.diagnostics import Source
from nasdsl.identity.encodings import Encodings
from nasdsl.space.checked import check_source
from nasdsl.space.decisions import DecisionTable

NESTED = """
space nested {
  input image(3, 8, 8)
  op block(k) = relu >> choose { conv(k, 4), conv(1, 4) >> bn }
  cell inner(x) { n[1..2] = sum of all from (x, earlier) via choose { none, id, conv(3, 4) }  return n[2] }
  cell outer(x) {
    m[1..2] = sum of choose 1.. from (x, earlier) via choose { inner, a: block(3), b: block(5) }
    return concat(m)
  }
  network { stem: conv(3, 4)  body: outer  tail: conv(1, 4)  own: repeat 2 { independent inner }
            head: global_pool >> linear(10) }
}
"""


def brute_force(table: DecisionTable) -> list[tuple[tuple[str, object], ...]]:
    """Every encoding, by trying every value of every decision."""
    found = set()
    for combination in product(*(d.values for d in table.decisions)):
        choices = {d.path: v for d, v in zip(table.decisions, combination, strict=True)}
        kept = {}
        for decision in table.active(choices):
            kept[decision.path] = choices[decision.path]
        found.add(tuple(sorted(kept.items())))
    return sorted(found)


def nested(text: str = NESTED) -> DecisionTable:
    space, diagnostics = check_source(Source("nested.nas", text))
    assert space is not None, diagnostics.items
    return space.table


def test_published_counts() -> None:
    darts = nasdsl.load("darts")
    assert darts.count() == 1_076_746_950_455_072_400 == 1_037_664_180**2
    assert darts.count(cell="normal") == darts.count(cell="reduce") == 1_037_664_180
    assert nasdsl.load("nasbench201").count() == 15_625


def test_count_does_not_depend_on_depth() -> None:
    assert nasdsl.load("darts", layers=20, C=36).count() == nasdsl.load("darts", layers=3).count() ** 1


def test_count_equals_brute_force_with_nested_and_shared_decisions() -> None:
    small = (
        NESTED.replace("own: repeat 2 { independent inner }", "own: inner")
        .replace("n[1..2]", "n[1..1]")
        .replace("n[2]", "n[1]")
    )
    table = nested(small)
    assert Encodings(table).count() == len(brute_force(table))


def test_an_option_that_is_not_taken_has_no_decisions() -> None:
    table = nested()
    inner = [d for d in table.decisions if d.path.startswith("inner.")]
    assert inner
    assert all(d.when is not None for d in inner)
    own = [d.path for d in table.decisions if d.path.startswith("own[")]
    assert own[0] == "own[1].inner.n[1].op[x]"


@pytest.mark.parametrize("seed", [0, 1])
def test_sampling_is_uniform(seed: int) -> None:
    """Chi-square against full enumeration; the bound is the 99.99 % quantile, normal approximation."""
    small = (
        NESTED.replace("own: repeat 2 { independent inner }", "")
        .replace("n[1..2]", "n[1..1]")
        .replace("n[2]", "n[1]")
    )
    table = nested(small)
    every = brute_force(table)
    encodings, rng = Encodings(table), random.Random(seed)
    draws = 20 * len(every)
    seen = Counter(tuple(sorted(encodings.sample(rng).items())) for _ in range(draws))
    assert set(seen) <= set(every)
    expected = draws / len(every)
    chi2 = sum((seen[e] - expected) ** 2 / expected for e in every)
    degrees = len(every) - 1
    assert abs(chi2 - degrees) < 4 * (2 * degrees) ** 0.5


def test_same_seed_same_samples() -> None:
    space = nasdsl.load("darts")
    assert space.sample(5, seed=1) == space.sample(5, seed=1) != space.sample(5, seed=2)
