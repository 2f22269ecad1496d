"""Parameters of a space at which its architectures cost what is wanted, found step by step.

Takes what the smallest and the largest architecture cost at given parameters, and which parameters may
move how far; returns the parameters with every step and its reason. Invariant: only the cost rules are
asked; the same question has the same answer; a budget that no setting meets is an error.

The order of steps is that of `search_for_layer` in the code of Cream (Peng et al., NeurIPS 2020), which
settles depths and resolution before the search. Departures: the costs are exact ones of whole networks,
where that code adds up a table of the searched blocks, and the resolution shrinks by what the smaller
network costs, where that code enlarges the budget by 7/6, then 7/5 and so on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from nasdsl.diagnostics import did_you_mean
from nasdsl.errors import UserError
from nasdsl.space.measures import costs_words

MAX_STEPS = 10_000
"""Of one range: each is a space that is checked anew."""

Bounds = tuple[int, int]
"""What the smallest and the largest architecture cost."""

_RANGE = re.compile(
    r"([A-Za-z_]\w*) (?: \[ (\d+) (?: \.\. (\d+) )? \] )? = (\d+) \.\. (\d+) (?: step (\d+) )?".replace(
        " ", r"\s*"
    )
)
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([kMG]?)")
_SCALE = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


@attrs.frozen
class Range:
    """How far a parameter may move: `resolution = 64..224 step 32`, `depths[3..5] = 1..4`.

    Attributes:
        name: of the parameter.
        first: the first element of a list that is meant, from 1; None for a parameter that is a number.
        last: the last one.
        low: the least value.
        high: the greatest value.
        step: between one value and the next.
    """

    name: str
    first: int | None
    last: int | None
    low: int
    high: int
    step: int = 1

    @classmethod
    def of(cls, text: str) -> Range:
        """Reads a range as it is written. Raises ValueError."""
        found = _RANGE.fullmatch(text.strip())
        if found is None:
            raise ValueError(
                f"`{text}` is no range of a parameter: write `layers=2..20`, `depths[3..5]=1..4` or "
                "`resolution=64..224 step 32`"
            )
        name = found[1]
        first, last, low, high, step = (None if g is None else int(g) for g in found.groups()[1:])
        last = first if last is None else last
        if first is not None and last is not None and not 1 <= first <= last:
            raise ValueError(f"`{text}`: elements are numbered from 1, the first before the last")
        if low is None or high is None or low > high or step == 0:
            raise ValueError(f"`{text}` is empty: write the least value first, and a step of 1 or more")
        return cls(name, first, last, low, high, 1 if step is None else step)

    @property
    def steps(self) -> int:
        """How many steps lead through it, of all elements together."""
        return (self.high - self.low) // self.step * len(self.places)

    @property
    def places(self) -> tuple[Place, ...]:
        """What moves, one after the other."""
        if self.first is None or self.last is None:
            return (Place(self.name, None),)
        return tuple(Place(self.name, i) for i in range(self.first, self.last + 1))


@attrs.frozen
class Place:
    """A parameter that is a number, or one element of a parameter that is a list."""

    name: str
    element: int | None

    def __str__(self) -> str:
        return self.name if self.element is None else f"{self.name}[{self.element}]"

    def read(self, values: Mapping[str, Any]) -> int:
        value = values[self.name]
        found: int = value if self.element is None else value[self.element - 1]
        return found

    def put(self, values: Mapping[str, Any], number: int) -> dict[str, Any]:
        """The values with this one changed."""
        if self.element is None:
            return {**values, self.name: number}
        elements = list(values[self.name])
        elements[self.element - 1] = number
        return {**values, self.name: elements}


@attrs.frozen
class Step:
    """One step, taken or refused.

    Attributes:
        verb: `start`, `shrink`, `grow` or `stop`.
        change: what it sets, as `depths[3]=2`; for `start` everything that may move.
        low: what the smallest architecture costs there.
        high: what the largest architecture costs there.
        reason: why it was taken, or why not.
    """

    verb: str
    change: str
    low: int
    high: int
    reason: str


@attrs.frozen
class Fit:
    """Where the steps ended.

    Attributes:
        measure: what was measured.
        between: the budget.
        params: every parameter that is not as the file has it, or may have moved.
        low: what the smallest architecture costs there.
        high: what the largest architecture costs there.
        steps: how it was found.
    """

    measure: str
    between: tuple[float, float]
    params: Mapping[str, object]
    low: int
    high: int
    steps: tuple[Step, ...]

    @property
    def arguments(self) -> str:
        """The parameters as the command line takes them."""
        return " ".join(f"--param {name}={text(value)}" for name, value in self.params.items())


def text(value: object) -> str:
    """A value as `--param` takes it."""
    return json.dumps(value, separators=(",", ":"))


def amounts(words: str) -> tuple[float, float]:
    """Reads `250M..300M`, or `..300M` for no lower end. Raises ValueError."""
    low, dots, high = words.partition("..")
    ends = [_AMOUNT.fullmatch(w) for w in (low.strip() or "0", high.strip())]
    if not dots or None in ends:
        raise ValueError(f"`{words}` is no budget: write 250M..300M, or ..300M (k, M and G are thousands)")
    first, second = (float(e[1]) * _SCALE[e[2]] for e in ends if e is not None)
    if first > second:
        raise ValueError(f"`{words}` is empty: the lower end comes first")
    return first, second


def fit(
    bounds: Callable[[Mapping[str, object]], Bounds],
    known: Mapping[str, Any],
    given: Mapping[str, Any],
    between: tuple[float, float],
    grow: Sequence[str | Range],
    shrink: Sequence[str | Range],
    measure: str,
) -> Fit:
    """Settles the parameters (see `nasdsl.fit`).

    All that grows starts at its least value, all that shrinks at its greatest. While the smallest
    architecture is beyond the budget, what shrinks does, one step after the other. Then what grows does,
    in order and each to its end, as long as the largest architecture is within the budget, or still below
    it; the first step that leads beyond ends it.

    Args:
        bounds: the cost of the smallest and the largest architecture at given parameters.
        known: every parameter of the space with its value.
        given: those that were set.
        between: the budget.
        grow: in the order of growth; a parameter may come twice, then it starts at the lower beginning.
        shrink: likewise.
        measure: what `bounds` measures, for messages.

    Raises:
        UserError: NAS109, NAS305, NAS502.
    """
    low_end, high_end = between
    growing, shrinking = _ranges(grow), _ranges(shrink)
    _check(growing, shrinking, known, given)
    values = {**given}
    for each in (*growing, *shrinking):
        values.setdefault(each.name, known[each.name])
    for each in reversed(growing):
        for place in each.places:
            least = min(g.low for g in growing if place in g.places)
            values = place.put(values, least)
    for each in shrinking:
        for place in each.places:
            values = place.put(values, max(s.high for s in shrinking if place in s.places))
    low, high = bounds(values)
    start = " ".join(f"{name}={text(values[name])}" for name in values)
    steps = [Step("start", start, low, high, "the least of what grows, the most of what shrinks")]

    for place, number in _moves(shrinking, values, -1):
        if low <= high_end:
            break
        values = place.put(values, number)
        was, (low, high) = low, bounds(values)
        reason = f"the smallest, {was:,}, is above {high_end:,.0f}"
        steps.append(Step("shrink", f"{place}={number}", low, high, reason))
    if low > high_end:
        raise _unmet(
            f"even the smallest architecture {costs_words(measure, low)}, above {high_end:,.0f}",
            values,
            shrinking,
        )

    for place, number in _moves(growing, values, +1):
        larger = place.put(values, number)
        next_low, next_high = bounds(larger)
        if next_high > high_end and high >= low_end:
            reason = f"the largest would be above {high_end:,.0f}"
            steps.append(Step("stop", f"{place}={number}", next_low, next_high, reason))
            break
        if next_high <= high_end:
            reason = f"the largest is within {high_end:,.0f}"
        else:
            reason = f"the largest, {high:,}, was below {low_end:,.0f}; now it is above {high_end:,.0f}"
        values, low, high = larger, next_low, next_high
        steps.append(Step("grow", f"{place}={number}", low, high, reason))
    if high < low_end:
        raise _unmet(
            f"even the largest architecture {costs_words(measure, high)}, below {low_end:,.0f}",
            values,
            growing,
        )
    return Fit(measure, between, values, low, high, tuple(steps))


def _ranges(ranges: Sequence[str | Range]) -> tuple[Range, ...]:
    try:
        return tuple(Range.of(r) if isinstance(r, str) else r for r in ranges)
    except ValueError as error:
        raise UserError.plain("NAS502", str(error)) from None


def _check(
    growing: Sequence[Range], shrinking: Sequence[Range], known: Mapping[str, Any], given: Mapping[str, Any]
) -> None:
    """Raises UserError for what is no parameter that may move."""
    if not growing and not shrinking:
        raise UserError.plain(
            "NAS502",
            "no parameter is named that may grow or shrink",
            help=f"the space has {', '.join(f'{k}={text(v)}' for k, v in known.items()) or 'none'}",
        )
    for each in (*growing, *shrinking):
        if each.name not in known:
            raise UserError.plain(
                "NAS109", f"the space has no parameter `{each.name}`{did_you_mean(each.name, known)}"
            )
        value = known[each.name]
        if each.first is None and isinstance(value, list):
            raise UserError.plain(
                "NAS109",
                f"parameter `{each.name}` is a list: name elements, such as {each.name}[1..{len(value)}]",
            )
        if each.first is not None and not isinstance(value, list):
            raise UserError.plain("NAS109", f"parameter `{each.name}` is not a list: it has no elements")
        if each.last is not None and each.last > len(value):
            raise UserError.plain(
                "NAS109", f"parameter `{each.name}` has {len(value)} elements, no `{each.name}[{each.last}]`"
            )
        if each.first is None and each.name in given:
            raise UserError.plain(
                "NAS109", f"parameter `{each.name}` is set to {text(given[each.name])} and may not move"
            )
        if each.steps > MAX_STEPS:
            wider = each.step * -(-each.steps // MAX_STEPS)
            raise UserError.plain(
                "NAS502",
                f"the range of `{each.name}` has {each.steps:,} steps, more than {MAX_STEPS:,}",
                help=f"narrow it, or write a wider step: `{each.low}..{each.high} step {wider}`",
            )
    both = {p for g in growing for p in g.places} & {p for s in shrinking for p in s.places}
    if both:
        raise UserError.plain("NAS502", f"`{min(map(str, both))}` may either grow or shrink")


def _moves(ranges: Sequence[Range], values: Mapping[str, Any], sign: int) -> Iterator[tuple[Place, int]]:
    """Each next value of each parameter in turn, from where the ranges before left it."""
    at: dict[Place, int] = {}
    for each in ranges:
        for place in each.places:
            number = at.get(place, place.read(values)) + sign * each.step
            # Where the range before ended short of this one, this one is entered at its near end.
            number = max(number, each.low) if sign > 0 else min(number, each.high)
            while each.low <= number <= each.high:
                yield place, number
                at[place] = number
                number += sign * each.step


def _unmet(message: str, values: Mapping[str, object], moved: Sequence[Range]) -> UserError:
    where = ", ".join(f"{name}={text(value)}" for name, value in values.items())
    names = ", ".join(dict.fromkeys(r.name for r in moved))
    cure = f"widen the budget, or the range of {names}" if names else "widen the budget"
    return UserError.plain("NAS305", f"{message}, at {where}", help=cure)
