"""What a set of architectures is worth: how good, how different from each other, how much smaller.

Takes rows of a ground and, where the truth is known, true figures of which higher is better; returns
numbers. Invariant: what cannot be told is None; nothing is drawn at random but where it says so.

All definitions are RECONSTRUCTIONS: the paper has a "shrink index" and does not print its formula.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from nasdsl.shrinking.ground import Ground
from nasdsl.subspace.codes import ABSENT, Codes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nasdsl.subspace.codes import Rows

MOST_PAIRED = 2_000
"""Members that are compared each with each; of more, so many are drawn."""
MOST_POCKETED = 6_000
"""Members among which pockets are found by comparing each with each, where they cannot be found by columns."""


@attrs.frozen
class Diversity:
    """How different the members of a set are.

    Attributes:
        distance: mean number of edits between two members, over the number of decisions.
        entropy: of the values of a decision, over the logarithm of their number, mean over decisions.
        pockets: sets of members that edits lead between without leaving the set; None for too many members.
        coverage: part of the bins of cost that have a member.
    """

    distance: float
    entropy: float
    pockets: int | None
    coverage: float


@attrs.frozen
class Index:
    """How far a space was shrunk and what was gained.

    Attributes:
        gain: the rise of the mean, of the most that it could rise: to the best of the larger set.
        reduction: 1 - ln|S'| / ln|S|.
        index: their product, the shrink index.
    """

    gain: float | None
    reduction: float

    @property
    def index(self) -> float | None:
        return None if self.gain is None else self.gain * self.reduction


@attrs.frozen
class Worth:
    """What a set is truly worth.

    Attributes:
        mean: over its members.
        bin_mean: over the bins of cost, each alike; a bin without a member counts as all of the space there.
        bins: how many bins have a member.
        best: of its members.
        regret: how far that is from the best of the space.
    """

    mean: float
    bin_mean: float
    bins: int
    best: float
    regret: float


def diversity(ground: Ground, rows: Rows, radius: int = 1, seed: int = 0) -> Diversity:
    """How different rows (N, decisions) are; pairs are all, or those of 2,000 rows drawn."""
    import numpy as np

    few = rows
    if len(rows) > MOST_PAIRED:
        few = rows[sorted(random.Random(seed).sample(range(len(rows)), MOST_PAIRED))]
    decisions = max(1, rows.shape[1])
    pairs = len(few) * (len(few) - 1)
    total = sum(int(ground.codes.edits(few, row).sum()) for row in few)
    entropies = []
    for column, values in enumerate(ground.codes.values):
        if len(values) > 1:
            made = rows[:, column][rows[:, column] != ABSENT]
            share = np.bincount(made, minlength=len(values)) / max(1, len(made))
            share = share[share > 0]
            entropies.append(float(-(share * np.log(share)).sum()) / math.log(len(values)))
    kept = len(set(ground.bin(rows).tolist()))
    return Diversity(
        total / pairs / decisions if pairs else 0.0,
        float(np.mean(entropies)) if entropies else 0.0,
        pockets(ground.codes, rows, radius),
        kept / ground.bins,
    )


def pockets(codes: Codes, rows: Rows, radius: int = 1) -> int | None:
    """How many sets of rows edits lead between without leaving them: connected components under edits <= radius."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if len(rows) == 0:
        return 0
    plain = all(d.when is None and d.kind != "inputs" for d in codes.table.decisions)
    if plain and radius == 1:
        # Rows that agree in all columns but one are neighbours: those of one group are chained.
        pairs = []
        for column in range(rows.shape[1]):
            rest = np.delete(rows, column, axis=1)
            order = np.lexsort(rest.T) if rest.shape[1] else np.arange(len(rows))
            same = (rest[order][1:] == rest[order][:-1]).all(1)
            pairs.append(np.stack([order[1:][same], order[:-1][same]]))
    elif len(rows) <= MOST_POCKETED:
        pairs = []
        for index, row in enumerate(rows):
            near = index + 1 + np.flatnonzero(codes.edits(rows[index + 1 :], row) <= radius)
            pairs.append(np.stack([np.full(len(near), index), near]))
    else:
        return None
    left, right = np.concatenate(pairs, axis=1) if pairs else np.empty((2, 0), np.int64)
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(len(rows), len(rows)))
    return int(connected_components(graph, directed=False)[0])


def shrink_index(size: int, whole: int, mean: float, whole_mean: float, best: float) -> Index:
    """The shrink index of a set of `size` among `whole`, and its factors.

    Args:
        mean, whole_mean: mean figures of the set and of the whole.
        best: the best figure of the whole; where no mean could rise, there is no gain to tell.
    """
    reduction = 1.0 - math.log(max(1, size)) / math.log(whole) if whole > 1 else 0.0
    gain = (mean - whole_mean) / (best - whole_mean) if best > whole_mean else None
    return Index(gain, reduction)


class Truth:
    """True figures of a space's architectures, looked up for whole sets.

    Attributes:
        mean, best: over all that is known.
    """

    def __init__(self, ground: Ground, rows: Rows, figures: Sequence[float]) -> None:
        import numpy as np

        order = np.lexsort(rows.T[::-1])
        self.rows, self.figures = rows[order], np.asarray(figures, np.float64)[order]
        self.ground = ground
        bins = ground.bin(self.rows)
        self._by_bin = [
            float(self.figures[bins == b].mean()) if (bins == b).any() else None for b in range(ground.bins)
        ]
        self.mean, self.best = float(self.figures.mean()), float(self.figures.max())
        self._place = {row.tobytes(): i for i, row in enumerate(self.rows)}

    def of(self, rows: Rows) -> NDArray[np.float64]:
        """The figures (N,) of rows; not a number where it is not known."""
        import numpy as np

        places = (self._place.get(row.tobytes()) for row in np.ascontiguousarray(rows))
        return np.array([np.nan if p is None else self.figures[p] for p in places], np.float64)

    def worth(self, rows: Rows) -> Worth | None:
        """What a set is worth, by its members that are known; None where none is."""
        import numpy as np

        figures = self.of(rows)
        known = ~np.isnan(figures)
        if not known.any():
            return None
        figures, bins = figures[known], self.ground.bin(rows[known])
        parts: list[float] = []
        for number, whole in enumerate(self._by_bin):
            inside = figures[bins == number]
            mean = float(inside.mean()) if len(inside) else whole
            if mean is not None:
                parts.append(mean)
        best = float(figures.max())
        count = len(set(bins.tolist()))
        return Worth(float(figures.mean()), float(np.mean(parts)), count, best, self.best - best)


__all__ = ["Diversity", "Index", "Truth", "Worth", "diversity", "pockets", "shrink_index"]
