"""All encodings within some edits of one.

Takes the codes of a table, a centre and a radius; returns integers and rows. Invariant: a member is what
`Population.edits` says; counts are exact, draws uniform; the limits of the space play no part.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from nasdsl.cases import Choice
from nasdsl.space.decisions import DecisionTable
from nasdsl.subspace.codes import ABSENT, Codes
from nasdsl.subspace.walks import Prices, Walks

if TYPE_CHECKING:
    from nasdsl.subspace.codes import Rows


class Ball:
    """The encodings of a table that are at most `radius` edits from `centre`."""

    def __init__(
        self, table: DecisionTable | Codes, centre: Mapping[str, Choice] | Rows, radius: int
    ) -> None:
        self.codes = table if isinstance(table, Codes) else Codes(table)
        self.centre = self.codes.row(centre) if isinstance(centre, Mapping) else centre
        self.radius = radius

    @cached_property
    def walks(self) -> Walks:
        """The encodings with what their edits cost."""
        prices = [self._prices(column, int(code)) for column, code in enumerate(self.centre)]
        # More edits than the dearest value of every decision are not to be had.
        furthest = sum(max((price for _, price in p), default=0) for p in prices)
        return Walks(self.codes, prices, min(self.radius, furthest))

    def _prices(self, column: int, code: int) -> Prices:
        number = len(self.codes.values[column])
        inputs = self.codes.members[column]
        if code == ABSENT:
            return [(i, 0) for i in range(number)]
        if inputs is None:
            return [(i, int(i != code)) for i in range(number)]
        mine = inputs[code]
        common, sizes = inputs @ mine, inputs.sum(1)
        return [(i, int(max(sizes[i], mine.sum()) - common[i])) for i in range(number)]

    def count(self) -> int:
        """How many there are."""
        return self.walks.count

    def count_at(self, distance: int) -> int:
        """How many are exactly so many edits away, within the radius."""
        ways = self.walks.by_price
        return ways[distance] if 0 <= distance < len(ways) else 0

    def sample(self, rng: random.Random, distance: int | None = None) -> dict[str, Choice]:
        """One of them, or of those at one distance, each with the same probability. Raises ValueError for none."""
        return self.codes.choices(self.walks.sample(rng, distance))

    def all(self) -> Iterator[dict[str, Choice]]:
        """Every one of them."""
        return map(self.codes.choices, self.walks.rows())

    def __contains__(self, choices: Mapping[str, Choice]) -> bool:
        row = self.codes.row(choices)[None]
        return bool(self.codes.edits(row, self.centre)[0] <= self.radius)
