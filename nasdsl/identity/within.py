"""Costs between two bounds: how many encodings have them, and uniform draws of those.

Takes a cost tree, returns integers, bounds and encodings. Invariant: `count` is exact
or refuses; `bounds` encloses the exact number; `Sampler` draws each encoding within the
bounds with the same probability, because what it proposes too much is rejected by its
exact cost.

Exact counting meets in the middle: the histograms of two halves are sorted, and pairs
whose sum fits are counted by bisection. Where there are too many different costs, they
are rounded to a few thousand steps: down, which lets a few too many in (an upper bound,
and what the sampler proposes from), and up, which gives a lower bound.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from math import ceil, floor, prod
from typing import TYPE_CHECKING, Any

from nasdsl.cases import Choice
from nasdsl.identity.costs import MAX_SUMS, All, Either, Histogram, Leaf, Tree
from nasdsl.space.presence import NotAdditiveError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STEPS = 4096
TRIES = 2_000
"""Proposals in a row that may be rejected before the steps are made finer."""


def number(tree: Tree) -> int:
    """The number of encodings of a tree."""
    if isinstance(tree, Leaf):
        return len(tree.costs)
    if isinstance(tree, All):
        return prod(number(p) for p in tree.parts)
    return sum(number(t) for _, t in tree.cases)


def count(tree: Tree, low: float, high: float) -> int:
    """The number of encodings that cost between `low` and `high`, ends included.

    Raises:
        NotAdditiveError: when there are too many different costs.
    """
    if tree.low > high or tree.high < low:
        return 0
    if low <= tree.low and tree.high <= high:
        return number(tree)
    if isinstance(tree, Leaf):
        return sum(low <= c <= high for _, c in tree.costs)
    if isinstance(tree, Either):
        return sum(count(t, low, high) for _, t in tree.cases)
    # Ends beyond the tree's own, infinite ones included, are brought to it.
    return _pairs(tree, max(low, tree.low) - tree.offset, min(high, tree.high) - tree.offset)


def _pairs(tree: All, low: float, high: float) -> int:
    import numpy as np

    exact: Any = np.int64 if number(tree) < 2**62 else object
    left = right = (np.zeros(1, np.int64), np.ones(1, exact))
    parts = [_sorted(p.histogram, exact) for p in tree.parts]
    first, last = 0, len(parts) - 1
    while first <= last:
        if len(left[0]) <= len(right[0]):
            left = _added(left, parts[first])
            first += 1
        else:
            right = _added(right, parts[last])
            last -= 1
    sums = np.concatenate(([0], np.cumsum(right[1])))
    upto = np.searchsorted(right[0], floor(high) - left[0], side="right")
    below = np.searchsorted(right[0], ceil(low) - left[0], side="left")
    return int((left[1] * (sums[upto] - sums[below])).sum())


Sorted = tuple["NDArray[np.int64]", "NDArray[Any]"]


def _sorted(histogram: Histogram, exact: Any) -> Sorted:
    import numpy as np

    keys = sorted(histogram)
    return np.array(keys, np.int64), np.array([histogram[k] for k in keys], exact)


def _added(left: Sorted, right: Sorted) -> Sorted:
    """The sorted histogram of sums."""
    import numpy as np

    if len(left[0]) * len(right[0]) > 8 * MAX_SUMS:
        raise NotAdditiveError("too many different costs")
    keys = (left[0][:, None] + right[0][None, :]).ravel()
    counts = (left[1][:, None] * right[1][None, :]).ravel()
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    if len(starts) > MAX_SUMS:
        raise NotAdditiveError("too many different costs")
    return keys[starts], np.add.reduceat(counts, starts)


# --- rounded -----------------------------------------------------------------


class Rounded:
    """Histograms of a tree in steps above its least cost.

    The rounded cost of an encoding is the sum of its parts' costs above their least, each rounded
    to a step by itself; so it is off by less than a step for each of `roundings`.
    """

    def __init__(self, tree: Tree, step: float, size: int, up: bool = False) -> None:
        self.tree, self.step, self.size, self.up = tree, step, size, up
        self._known: dict[int, NDArray[np.float64]] = {}
        self._partial: dict[int, list[NDArray[np.float64]]] = {}

    def at(self, above: int) -> int:
        """The step of a cost above the least."""
        return ceil(above / self.step) if self.up else floor(above / self.step)

    def histogram(self, tree: Tree) -> NDArray[np.float64]:
        """Encodings by step; costs beyond the last step are left out."""
        known = self._known.get(id(tree))
        if known is None:
            known = self._known[id(tree)] = self._made(tree)
        return known

    def _made(self, tree: Tree) -> NDArray[np.float64]:
        import numpy as np

        if isinstance(tree, All):
            return self.partial(tree)[-1]
        found = np.zeros(self.size)
        if isinstance(tree, Leaf):
            for _, cost in tree.costs:
                if (at := self.at(cost - tree.low)) < self.size:
                    found[at] += 1.0
        else:
            for _, inner in tree.cases:
                if (at := self.at(inner.low - tree.low)) < self.size:
                    found[at:] += self.histogram(inner)[: self.size - at]
        return found

    def partial(self, tree: All) -> list[NDArray[np.float64]]:
        """The histogram of no part, of the first, of the first two, and so on."""
        import numpy as np

        known = self._partial.get(id(tree))
        if known is None:
            start = np.zeros(self.size)
            start[0] = 1.0
            known = [start]
            for part in tree.parts:
                added = self.histogram(part)
                full = np.flatnonzero(added)
                if len(full) > self.size // 16:
                    total = np.convolve(known[-1], added)[: self.size]
                else:
                    total = np.zeros(self.size)
                    for at in full:
                        total[at:] += added[at] * known[-1][: self.size - at]
                known.append(total)
            self._partial[id(tree)] = known
        return known

    def draw(self, tree: Tree, at: int, rng: random.Random) -> dict[str, Choice]:
        """An encoding whose rounded cost is the step `at`, uniform over those."""
        if isinstance(tree, Leaf):
            return {tree.decision: rng.choice([v for v, c in tree.costs if self.at(c - tree.low) == at])}
        if isinstance(tree, Either):
            shifts = [at - self.at(t.low - tree.low) for _, t in tree.cases]
            odds = [
                self.histogram(t)[s] if s >= 0 else 0.0 for s, (_, t) in zip(shifts, tree.cases, strict=True)
            ]
            (index,) = rng.choices(range(len(odds)), weights=odds)
            value, inner = tree.cases[index]
            return {tree.decision: value, **self.draw(inner, shifts[index], rng)}
        choices: dict[str, Choice] = {}
        partial = self.partial(tree)
        for index in range(len(tree.parts) - 1, -1, -1):
            part = tree.parts[index]
            odds = (self.histogram(part)[: at + 1] * partial[index][at::-1]).tolist()
            (own,) = rng.choices(range(at + 1), weights=odds)
            choices.update(self.draw(part, own, rng))
            at -= own
        return choices


def roundings(tree: Tree) -> int:
    """How many costs are rounded, at most, for one encoding."""
    if isinstance(tree, Leaf):
        return 1
    if isinstance(tree, All):
        return sum(roundings(p) for p in tree.parts)
    return 1 + max(roundings(t) for t in {id(t): t for _, t in tree.cases}.values())


def _step(tree: Tree, high: float, steps: int) -> tuple[float, int]:
    """The size of a step and the number of steps up to `high`."""
    room = min(high, tree.high) - tree.low
    step = max(1.0, room / steps)
    return step, floor(room / step) + 1


def bounds(tree: Tree, low: float, high: float, steps: int = STEPS) -> tuple[int, int]:
    """A lower and an upper bound of `count`."""
    if tree.low > high or tree.high < low:
        return 0, 0
    low = max(low, tree.low)
    step, size = _step(tree, high, steps)
    down, up = Rounded(tree, step, size), Rounded(tree, step, size, up=True)
    slack = roundings(tree)
    first = max(0, floor((low - tree.low) / step) - slack)
    above = float(down.histogram(tree)[first:].sum())
    # Rounded up, a cost is at most `slack` steps too large: from there on it is surely enough.
    below = float(
        up.histogram(tree)[max(0, ceil((low - tree.low) / step) + slack if low > tree.low else 0) :].sum()
    )
    # Sums of floats: a part in a billion is far more than they can be off.
    return floor(below * (1 - 1e-9)), min(number(tree), ceil(above * (1 + 1e-9)))


class Sampler:
    """Uniform draws of encodings that cost between two bounds."""

    def __init__(self, tree: Tree, low: float, high: float) -> None:
        self.tree, self.low, self.high = tree, max(low, tree.low), high
        self.steps = STEPS // 8
        if tree.low <= high and low <= tree.high:
            self._prepare(STEPS)

    def _prepare(self, steps: int) -> None:
        self.steps = steps
        step, size = _step(self.tree, self.high, steps)
        self.rounded = Rounded(self.tree, step, size)
        first = max(0, floor((self.low - self.tree.low) / step) - roundings(self.tree))
        self.range = range(min(first, size), size)
        self.weights = self.rounded.histogram(self.tree)[self.range.start :].tolist()

    def draw(self, rng: random.Random) -> dict[str, Choice]:
        """One encoding. Raises NotAdditiveError when none is found."""
        while self.steps >= STEPS and any(self.weights):
            for _ in range(TRIES):
                (at,) = rng.choices(self.range, weights=self.weights)
                choices = self.rounded.draw(self.tree, at, rng)
                if self.low <= cost_of(self.tree, choices) <= self.high:
                    return choices
            if self.steps >= STEPS * 64:
                break
            self._prepare(self.steps * 8)
        raise NotAdditiveError("no architecture was found within the limit")


def cost_of(tree: Tree, choices: Mapping[str, Choice]) -> int:
    """The exact cost of one encoding."""
    if isinstance(tree, Leaf):
        return next(c for v, c in tree.costs if v == choices[tree.decision])
    if isinstance(tree, All):
        return tree.offset + sum(cost_of(p, choices) for p in tree.parts)
    return cost_of(next(t for v, t in tree.cases if v == choices[tree.decision]), choices)


def quantiles(tree: Tree) -> tuple[int, int, int, int]:
    """Least, median and greatest cost of an encoding, and how far off the median may be."""
    if number(tree) <= MAX_SUMS:
        return _exact_quantiles(tree)
    step, size = _step(tree, tree.high, STEPS)
    rounded = Rounded(tree, step, size)
    weights = rounded.histogram(tree)
    half, seen = float(weights.sum()) / 2, 0.0
    slack = roundings(tree) if step > 1 else 0
    for at, weight in enumerate(weights):
        seen += float(weight)
        if seen >= half:
            middle = round(tree.low + (at + slack / 2) * step)
            return tree.low, min(tree.high, middle), tree.high, ceil(step * slack / 2)
    return tree.low, tree.high, tree.high, 0


def _exact_quantiles(tree: Tree) -> tuple[int, int, int, int]:
    histogram = tree.histogram
    total, seen = sum(histogram.values()), 0
    for cost in sorted(histogram):
        seen += histogram[cost]
        if 2 * seen >= total:
            return tree.low, cost, tree.high, 0
    return tree.low, tree.high, tree.high, 0
