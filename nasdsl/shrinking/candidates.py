"""What a round grows from its seeds: their neighbours, and which of them are worth keeping.

Takes a ground, the scores so far, the set before, seeds and the bars of the bins; returns the next set.
Invariant: the next set is a part of the one before and holds its seeds; no more rows are held at once than one
list may have (`MAX_LISTED`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from nasdsl.scoring.regression import Regression
from nasdsl.shrinking.ground import Ground
from nasdsl.subspace.value import MAX_LISTED, Balls, Subspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nasdsl.subspace.codes import Rows

MOST_LOOKED_AT = 50_000_000
"""Neighbours of all seeds together that the regression is asked about, ball by ball."""
MOST_KEPT = 100_000
"""Of these, how many are kept: the best expected."""


@attrs.frozen
class Scale:
    """How good a row is expected to be, above the worst seed of its bin.

    Attributes:
        model: fitted on all scores so far.
        bars: for each bin the score of its last seed; infinite where it has none.
        seeds: sorted (`Codes.unique`); they are kept whatever is expected of them.
        least: how many rows are kept at least, the best of those that fall short.
    """

    ground: Ground
    model: Regression
    bars: NDArray[np.float64]
    seeds: Rows
    least: int

    def lead(self, rows: Rows) -> NDArray[np.float64]:
        """By how much each row is expected to pass its bar (N,)."""
        import numpy as np

        found = self.model.predict(rows) - self.bars[self.ground.bin(rows)]
        found[self.ground.codes.contained(rows, self.seeds)] = np.inf
        return found

    def kept(self, rows: Rows) -> Rows:
        """Those that pass, and of the others the best where fewer than `least` do; sorted where `rows` are."""
        import numpy as np

        lead = self.lead(rows)
        good = lead >= 0
        if good.sum() < self.least:
            good[np.argsort(-lead, kind="stable")[: self.least]] = True
        return rows[good]

    def best(self, rows: Rows, count: int) -> Rows:
        """The `count` that are expected to pass by most, in their order."""
        import numpy as np

        return rows[np.sort(np.argsort(-self.lead(rows), kind="stable")[:count])]


def candidates(
    ground: Ground, near: Balls, before: Subspace | None, scale: Scale | None, least: int
) -> tuple[Subspace, int | None]:
    """The next set, and how many neighbours it was chosen from; None where they were not told apart.

    Args:
        near: the balls of the seeds.
        before: the set so far; None: the space.
        scale: leaves out what is expected to be worse; None: nothing is.
    """
    rows = ground.listed_of(near, before)
    if rows is not None:
        if scale is None or len(rows) <= least:
            return ground.members(rows), len(rows)
        return ground.members(scale.kept(rows)), len(rows)
    if scale is not None and max(near.sizes) <= MAX_LISTED and sum(near.sizes) <= MOST_LOOKED_AT:
        return ground.members(_ball_by_ball(ground, near, before, scale)), None
    part = before or ground.space.subspace
    return (near if part is None else near & part), None


def _ball_by_ball(ground: Ground, near: Balls, before: Subspace | None, scale: Scale) -> Rows:
    """What `Scale.kept` keeps of all balls, without a list of all their members."""
    import numpy as np

    found: Rows = scale.seeds
    for seed in near.seeds:
        rows = ground.listed_of(ground.near(seed[None], near.radius), before)
        if rows is not None:
            found = ground.codes.unique(np.concatenate([found, scale.best(scale.kept(rows), MOST_KEPT)]))
            found = scale.best(found, MOST_KEPT)
    return scale.kept(found)


__all__ = ["Scale", "candidates"]
