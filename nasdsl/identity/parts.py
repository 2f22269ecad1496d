"""Parts of a space, as populations see them, and how their size is estimated.

Takes a part, returns a `Tally`. Invariant: what is estimated is never called exact: its bounds differ, and
`how` says that they are an estimate; with probability 0.95 they enclose the size.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Mapping, Sequence
from math import ceil, floor, sqrt
from typing import Protocol

from nasdsl.cases import Choice
from nasdsl.errors import UserError
from nasdsl.identity.distinct import Tally

DRAWS = 2_000
"""Draws that an estimate looks at."""
TRIES = 20_000
"""Draws in a row that may be refused."""

Choices = dict[str, Choice]


class Part(Protocol):
    """Some of the encodings of a table."""

    def contains(self, choices: Mapping[str, Choice], /) -> bool:
        """Whether an encoding belongs to it."""

    def tally(self) -> Tally:
        """How many there are, and a way to draw one."""

    @property
    def listed(self) -> int | None:
        """How many there are, where they are few enough to be listed; else None."""

    def member(self, index: int, /) -> Choices:
        """One of those that are listed."""


def kept(part: Part, among: Tally, holds: Callable[[Choices], bool], most: int) -> Tally:
    """The members of a part for which something holds.

    Args:
        among: everything for which it holds.
        most: members that are looked at one by one.
    """
    if part.listed is not None and part.listed <= most:
        return _looked_at(part, part.listed, holds)
    if among.draw is not None and among.high < part.tally().high:
        return estimated(among, part.contains)
    return estimated(part.tally(), holds)


def _looked_at(part: Part, number: int, holds: Callable[[Choices], bool]) -> Tally:
    found = array("q", (i for i in range(number) if holds(part.member(i))))
    draw = (lambda rng: part.member(found[rng.randrange(len(found))])) if found else None
    return Tally(len(found), len(found), "by enumeration", draw)


def estimated(whole: Tally, holds: Callable[[Choices], bool]) -> Tally:
    """How many of what can be drawn something holds for, by how many draws it holds for."""
    if whole.draw is None or whole.high == 0:
        return Tally(0, whole.high, whole.how)
    rng, draw = random.Random(0), whole.draw
    low, high = interval([float(holds(draw(rng))) for _ in range(DRAWS)])
    return between(whole, low, high, f"estimated from {DRAWS:,} draws, 95 % interval", rejecting(draw, holds))


def between(
    whole: Tally, low: float, high: float, how: str, draw: Callable[[random.Random], Choices] | None
) -> Tally:
    """A share of a whole, in integers; its bounds differ even where the draws do not."""
    most = min(whole.high, ceil(_times(whole.high, high)))
    least = min(floor(_times(whole.low, low)), most - 1)
    return Tally(max(0, least), most, how, draw)


def _times(number: int, share: float) -> float | int:
    """A share of an integer of any length."""
    scale = 10**15
    return number * round(share * scale) // scale if number > 10**12 else number * share


def interval(weights: Sequence[float]) -> tuple[float, float]:
    """Between what the mean of weights from 0 to 1 lies, with probability 0.95 and more."""
    number = len(weights)
    mean = sum(weights) / number
    variance = sum((w - mean) ** 2 for w in weights) / max(1, number - 1)
    # Three in `number` is what an event that was not seen once may still have.
    slack = 1.96 * sqrt(variance / number) + 3 / number
    return max(0.0, mean - slack), min(1.0, mean + slack)


def rejecting(
    draw: Callable[[random.Random], Choices], holds: Callable[[Choices], bool]
) -> Callable[[random.Random], Choices]:
    """Draws until something holds. Raises UserError (NAS310) after `TRIES`."""

    def tried(rng: random.Random) -> Choices:
        for _ in range(TRIES):
            choices = draw(rng)
            if holds(choices):
                return choices
        raise UserError.plain(
            "NAS310",
            f"no architecture of the sub-space was found in {TRIES:,} tries",
            help="loosen a limit, or take a sub-space of fewer parts",
        )

    return tried
