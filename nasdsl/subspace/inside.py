"""What a search inside a sub-space is told of it, and what its files say.

Takes a checked space, a sub-space of it and the table of what is searched; returns members as plain choices and
words. Invariant: a member is in the sub-space and within the limits of the space; the words name the relaxation.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import attrs

from nasdsl.cases import Choice
from nasdsl.errors import UserError
from nasdsl.identity.distinct import Tally
from nasdsl.identity.encodings import Encodings
from nasdsl.identity.population import Population
from nasdsl.space.checked import CheckedSpace
from nasdsl.space.decisions import DecisionTable
from nasdsl.subspace.value import Balls, Both, Subspace

FEW = 20_000
"""Members that a search looks at again and again."""


@attrs.frozen(slots=False)
class Inside:
    """The members of a sub-space that the limits of the space allow.

    Attributes:
        space: the whole space.
        table: the decisions that are left to search (`restricted_table`).
    """

    space: CheckedSpace
    sub: Subspace
    table: DecisionTable

    @cached_property
    def population(self) -> Population:
        return Population(self.space, self.sub)

    @property
    def tally(self) -> Tally:
        """How many there are."""
        return self.population.tally

    @cached_property
    def product(self) -> int:
        """How many architectures the options that are left have."""
        return Encodings(self.table).count()

    @property
    def is_product(self) -> bool:
        """Whether every combination of the options that are left is in the sub-space."""
        found = self.sub.tally()
        return found.exact and found.low == self.product

    @property
    def listed(self) -> int | None:
        """How many members there are at most, where `all` can list them; else None."""
        return self.sub.listed

    @cached_property
    def few(self) -> int | None:
        """How many members there are, where they are few enough to be looked at again and again; else None."""
        few = self.sub.listed is not None and self.sub.listed <= FEW
        return sum(1 for _ in self.all()) if few else None

    def all(self) -> Iterator[dict[str, Choice]]:
        """Every member, sorted. Raises UserError (NAS310) where they cannot be listed."""
        found = map(self.sub.member, range(len(self.sub.rows())))
        return filter(self.population.meets, found) if self.space.limits else found

    def draw(self, rng: random.Random) -> dict[str, Choice]:
        """One of them, each alike. Raises ValueError where that cannot be done."""
        found = self.tally
        if found.draw is None or found.high == 0:
            raise ValueError(f"no member of the sub-space can be drawn ({found.how})")
        return dict(found.draw(rng))

    def allows(self, choices: Mapping[str, Any]) -> bool:
        """Whether choices are one of them."""
        return self.population.meets(choices)

    def seeds(self) -> tuple[dict[str, Choice], ...]:
        """Members that the sub-space was made round; none for most kinds."""
        parts = self.sub.parts if isinstance(self.sub, Both) else (self.sub,)
        rows = (row for part in parts if isinstance(part, Balls) for row in part.seeds)
        return tuple(c for c in map(self.sub.codes.choices, rows) if self.allows(c))

    def edits(self, left: Mapping[str, Any], right: Mapping[str, Any]) -> int:
        """In how many edits two architectures differ."""
        return self.population.edits(left, right)

    def words(self, paths: bool) -> str:
        """Which relaxation a search inside is, in one sentence.

        Args:
            paths: whether single paths are drawn, instead of variables learned.
        """
        inside = counted(self.tally)
        if paths:
            whole = counted(Population(self.space).tally)
            return f"inside a sub-space of {inside} of {whole} architectures: only its members are drawn"
        return (
            f"inside a sub-space of {inside} architectures, relaxed to the product of its options: "
            f"{self.product:,} architectures, of which {inside} are in it"
        )

    def fits(self, settings: Mapping[str, object]) -> None:
        """Refuses what has no meaning inside.

        Raises:
            UserError: NAS404 for no member within the limits, NAS505 for a sampler that leaves the sub-space.
        """
        if self.tally.high == 0:
            raise UserError.plain(
                "NAS404",
                "no member of the sub-space is within the limits of the space",
                help="widen the sub-space, or the limits",
            )
        if settings.get("sampler") == "fair" and not self.is_product:
            raise UserError.plain(
                "NAS505",
                "sampler=fair does not go with this sub-space: it trains every combination of the "
                f"{self.product:,} that its options have, and {counted(self.sub.tally())} of them are in it",
                help="set sampler=uniform; or restrict decisions, each by itself (`Space.restriction`)",
            )


def counted(tally: Tally) -> str:
    """A number of architectures; bounds where it is not exact."""
    return f"{tally.low:,}" if tally.exact else f"{tally.low:,} to {tally.high:,}"


__all__ = ["FEW", "Inside", "counted"]
