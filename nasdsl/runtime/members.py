"""A part of a space, as searches see it.

Takes nothing, returns a protocol that the compiled program fills, and words. Invariant: no torch, and nothing of the
compiler: choices are plain mappings, in the decisions of the space.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, Union

Choices = dict[str, Union[str, tuple[str, ...]]]

EXTREMES = 1_000
"""Members that are looked at for the largest and the smallest, where they cannot all be listed."""


class Members(Protocol):
    """The architectures that a search may end in: those of a sub-space that the limits of the space allow."""

    @property
    def listed(self) -> int | None:
        """How many members there are at most, where `all` can list them; else None."""

    @property
    def few(self) -> int | None:
        """How many members there are, where they are few enough to be looked at again and again; else None."""

    def all(self) -> Iterator[Choices]:
        """Every member, in one order; only where they are listed."""

    def draw(self, rng: random.Random, /) -> Choices:
        """One of them, each alike. Raises ValueError where that cannot be done."""

    def allows(self, choices: Mapping[str, Any], /) -> bool:
        """Whether choices are one of them."""

    def seeds(self) -> Sequence[Choices]:
        """Members that the sub-space was made round; none for most kinds."""

    def edits(self, left: Mapping[str, Any], right: Mapping[str, Any], /) -> int:
        """In how many edits two architectures differ."""


def looked_at(inside: Members, seed: int) -> Iterator[Choices]:
    """Among what the largest and the smallest member are looked for: all that are listed, else some drawn."""
    if inside.listed is not None:
        return inside.all()
    # A generator of its own: what a step draws does not depend on whether somebody asked.
    rng = random.Random(seed)
    return (inside.draw(rng) for _ in range(EXTREMES))


def ended(edits: int, looked: int) -> str:
    """What a search that learns variables ended in, in words.

    Args:
        edits: between what the variables derive and the member that was taken.
        looked: members that were compared; 0 where what is derived is one.
    """
    if not looked:
        return "what the variables derive is in the sub-space"
    return (
        f"what the variables derive is not in the sub-space: the member whose options weigh most, of "
        f"{looked:,} compared, is {edits} edit{'' if edits == 1 else 's'} away"
    )


__all__ = ["Choices", "Members", "ended", "looked_at"]
