"""Small spaces, landscapes over them, and a shrinking that is told all of a landscape: what these tests share."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

import nasdsl
from nasdsl.cases import Choice
from nasdsl.shrinking import Rules, Shrinking
from nasdsl.shrinking.ground import Ground
from nasdsl.subspace.value import Subspace
from tests.subspace.common import TEXTS as CONDITIONAL
from tests.subspace.common import check

Rows = NDArray[np.int16]
Landscape = Callable[[Mapping[str, Choice]], float]


def row_of(count: int, limit: str = "") -> str:
    """`count` decisions of four kernels: no two encodings are one network."""
    kernels = ", ".join(f"k{k}: conv({k})" for k in (1, 3, 5, 7))
    return (
        f"space row {{ input image(1, 8) {limit}\n  network {{ stem: conv(3, 2)  "
        f"body: repeat {count} {{ choose {{ {kernels} }} }}\n  head: global_pool >> linear(10) }} }}\n"
    )


TEXTS = {
    **{k: CONDITIONAL[k] for k in ("nested options", "three in one", "depths", "chosen inputs")},
    "row": row_of(5),
    "limited": row_of(5, "limit macs <= 17k"),
    "row of six": row_of(6),
    "long row": row_of(12),
    "pair": row_of(2),
}


@cache
def space(name: str) -> nasdsl.Space:
    return nasdsl.Space(check(TEXTS[name]))


@cache
def cells() -> nasdsl.Space:
    """NAS-Bench-201 of a few channels: some of its encodings are one network."""
    return nasdsl.load("nasbench201", C=4, N=1, resolution=8)


@cache
def ground(name: str) -> Ground:
    return Ground(space(name))


def additive(seed: int = 0) -> Landscape:
    """A number for each value of each decision, summed."""

    @cache
    def worth(path: str, value: Choice) -> float:
        return random.Random(f"{seed}/{path}/{value}").gauss(0, 1)

    def score(choices: Mapping[str, Choice]) -> float:
        return sum(worth(path, value) for path, value in choices.items())

    return score


def independent(seed: int = 0) -> Landscape:
    """A number for each architecture, which says nothing of any other."""
    return lambda choices: random.Random(f"{seed}/{sorted(choices.items())}").random()


def constant(choices: Mapping[str, Choice]) -> float:
    return 0.25


def drive(shrinking: Shrinking, score: Landscape) -> Shrinking:
    """Tells everything that is asked."""
    while asked := shrinking.ask():
        shrinking.tell([score(choices) for choices in asked])
    return shrinking


def shrink(of: nasdsl.Space, score: Landscape, rules: Rules, seed: int = 0) -> Shrinking:
    return drive(Shrinking(of, rules, seed), score)


def scores_of(score: Landscape) -> Callable[[Sequence[Mapping[str, Choice]]], list[float]]:
    return lambda many: [score(choices) for choices in many]


def left(shrinking: Shrinking) -> Subspace | None:
    assert shrinking.result is not None
    return shrinking.result.subspace


def figures(of: Ground, score: Landscape) -> NDArray[np.float64]:
    """The scores of all architectures, as `of.every` lists them."""
    assert of.every is not None
    return np.array([score(of.choices(row)) for row in of.every])


def seeds_of(shrinking: Shrinking, inside: Subspace | None, told: int) -> Rows:
    """The best of every bin among the first scored, the slow way."""
    result, at = shrinking.result, shrinking.ground
    assert result is not None
    groups: dict[int, list[tuple[float, int]]] = {}
    rows = at.codes.rows([s.choices for s in result.scored[:told]])
    for number, (row, scored) in enumerate(zip(rows, result.scored, strict=False)):
        if inside is None or inside.contains(scored.choices):
            groups.setdefault(int(at.bin(row[None])[0]), []).append((-scored.score, number))
    chosen: list[int] = []
    for group in groups.values():
        best = sorted(group)[: math.ceil(shrinking.rules.top * len(group))]
        chosen += [number for _, number in best]
    found: Rows = rows[chosen]
    return found
