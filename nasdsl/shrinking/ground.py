"""A space as shrinking walks over it: rows of integers, what they cost, who is near whom.

Takes a space (perhaps a part of one already), returns rows (N, decisions) as `nasdsl.subspace.codes` has
them. Invariant: every row that is handed out is within the limits and the part; draws depend on the
generator alone; nothing lists more than `MAX_LISTED` rows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from nasdsl.cases import Choice
from nasdsl.errors import UserError
from nasdsl.subspace.codes import ABSENT, Codes
from nasdsl.subspace.value import MAX_LISTED, Balls, Members, Restriction, Subspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nasdsl.api import Space
    from nasdsl.identity.costs import PathCosts
    from nasdsl.subspace.codes import Rows

MOST_COUNTED = 20_000
"""Architectures up to which the bins of costs are those of all."""
DRAWN = 5_000
"""Draws that stand for more of them: a quantile is off by less than a hundredth of the space."""
TRIES = 400
"""Draws a wanted architecture before a bin counts as empty."""


class RowCosts:
    """One measure of many architectures at once."""

    def __init__(self, codes: Codes, costs: PathCosts) -> None:
        import numpy as np

        self._codes, self._costs = codes, costs
        self._tables: list[tuple[list[tuple[int, NDArray[np.int64]]], NDArray[np.int64]]] = []
        self._offset = 0
        if not costs.additive:
            return
        column = {d.path: i for i, d in enumerate(codes.table.decisions)}
        self._offset, lookups = costs.lookups
        for strides, numbers in lookups:
            # -1, a decision that is not made, reads the last entry, which leads nowhere.
            steps = [
                (column[path], np.array([*(places[v] for v in codes.values[column[path]]), 0], np.int64))
                for path, places in strides
            ]
            self._tables.append((steps, np.array(numbers, np.int64)))

    def of(self, rows: Rows) -> NDArray[np.int64]:
        """The measure of each row (N,)."""
        import numpy as np

        if not self._costs.additive:
            return np.array([self._costs.at(self._codes.choices(row)) for row in rows], np.int64)
        total = np.full(len(rows), self._offset, np.int64)
        for steps, numbers in self._tables:
            index = np.zeros(len(rows), np.int64)
            for column, places in steps:
                index += places[rows[:, column]]
            total += numbers[index]
        return total


class Ground:
    """A space, its bins of costs, its neighbourhoods.

    Attributes:
        size: the number of architectures, `low` and `high` of its tally.
        edges: the costs that part the bins: quantiles over all architectures, or over 5,000 draws.
    """

    def __init__(self, space: Space, cost: str = "macs", bins: int = 5) -> None:
        import numpy as np

        self.space = space
        self.codes = Codes(space.checked.table)
        self.cost = cost
        self.costs = RowCosts(self.codes, space.costs(cost))
        self.tally = space.tally()
        if self.tally.draw is None or self.tally.high == 0:
            raise UserError.plain(
                "NAS310",
                f"no architecture of `{space.name}` can be drawn ({self.tally.how})",
                help="loosen a limit; `nasdsl plan` tells which binds",
            )
        self._limits = [
            (limit, RowCosts(self.codes, space.costs(limit.measure, limit.table)))
            for limit in space.checked.limits
        ]
        sample = self.every if self.every is not None else self.draws(random.Random(0), DRAWN)
        self.reference = sample
        """All architectures, or as many draws as stand for them: what bins are quantiles of."""
        self._keys: dict[bytes, str] = {}
        self.bins = bins
        self.edges = np.quantile(self.costs.of(sample), [i / bins for i in range(1, bins)])

    @cached_property
    def every(self) -> Rows | None:
        """All architectures, where they are few enough to be looked at one by one."""
        return self.listed() if self.tally.high <= MOST_COUNTED else None

    def listed(self) -> Rows | None:
        """All architectures, up to `MAX_LISTED`."""
        whole = self.space.subspace or Restriction(self.space.checked, {})
        return self.kept(whole.rows()) if whole.explicit else None

    # --- what rows are ---------------------------------------------------------

    def bin(self, rows: Rows) -> NDArray[np.int64]:
        """The bin of each row, 0 to `bins - 1`: (N,)."""
        import numpy as np

        return np.searchsorted(self.edges, self.costs.of(rows), side="right").astype(np.int64)

    def key(self, row: Rows) -> str:
        """The network that a row is: equal for rows that are the same by construction."""
        text = row.tobytes()
        if text not in self._keys:
            self._keys[text] = self.space.population.fingerprint(self.codes.choices(row))
        return self._keys[text]

    def choices(self, row: Rows) -> dict[str, Choice]:
        """What a row stands for."""
        return self.codes.choices(row)

    def kept(self, rows: Rows) -> Rows:
        """Those within the limits and the part."""
        for limit, costs in self._limits:
            rows = rows[limit.holds(costs.of(rows))]  # type: ignore[arg-type]
        part = self.space.subspace
        return rows if part is None or len(rows) == 0 else rows[part.contains_rows(rows)]

    # --- draws -------------------------------------------------------------------

    def draws(self, rng: random.Random, count: int, among: Subspace | None = None) -> Rows:
        """`count` rows, uniform over the space or over a sub-space of it, with repetition."""
        if isinstance(among, Members):
            rows = among.rows()
            return rows[[rng.randrange(len(rows)) for _ in range(count)]]
        draw = self._drawing(among)
        return self.codes.rows([draw(rng) for _ in range(count)])

    def stream(self, rng: random.Random, among: Subspace | None) -> Iterator[Rows]:
        """Rows of a sub-space, or of the space, one by one: each once where they are listed, else with repetition."""
        rows = among.rows() if isinstance(among, Members) else self.every if among is None else None
        if rows is not None:
            order = list(range(len(rows)))
            rng.shuffle(order)
            yield from (rows[i] for i in order)
            return
        draw = self._drawing(among)
        while True:
            yield self.codes.row(draw(rng))

    def _drawing(self, among: Subspace | None) -> Callable[[random.Random], dict[str, Choice]]:
        tally = self.tally if among is None else self.space.within(among).tally()
        if tally.draw is None:
            raise UserError.plain("NAS310", f"nothing can be drawn ({tally.how})", help="loosen a limit")
        return tally.draw

    # --- neighbourhoods ------------------------------------------------------------

    def near(self, seeds: Rows, radius: int) -> Balls:
        """Everything within some edits of a seed; the limits of the space are not looked at."""
        return Balls(self.space.checked, self.codes.unique(seeds), radius)

    def listed_of(self, near: Balls, before: Subspace | None = None) -> Rows | None:
        """Its rows within the limits, the part and the set before; None where they are too many to be listed."""
        if sum(near.sizes) > MAX_LISTED:
            return None
        rows = self.kept(near.rows())
        return rows if before is None or len(rows) == 0 else rows[before.contains_rows(rows)]

    def members(self, rows: Rows) -> Members:
        """A sub-space of rows."""
        return Members(self.space.checked, self.codes.unique(rows))


__all__ = ["ABSENT", "Ground", "RowCosts"]
