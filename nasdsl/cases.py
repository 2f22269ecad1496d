"""Values that depend on decisions: finite functions, as tables.

Takes plain values and tables over decisions, returns the same. Invariant: a
`Cases` is canonical: it depends on every one of its axes, which stand in the
order of their paths; two that are equal as functions are equal as objects. A
function that depends on nothing is a plain value, never a `Cases`.

This is how shapes are proved for a whole space at once: every size is a table
over the few decisions that it depends on, and two sizes agree exactly where
their tables agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from itertools import product
from math import prod
from typing import Any, TypeVar, Union

import attrs

Scalar = Union[int, float, bool]
Choice = Union[str, tuple[str, ...]]
Assignment = Mapping[str, Choice]
"""Values of decisions, by path."""

LARGEST_TABLE = 50_000
"""Combinations that one value may depend on; beyond that nobody waits for the proof."""


class TooManyCasesError(Exception):
    """A value depends on too many combinations. `decisions` are the paths that it depends on."""

    def __init__(self, decisions: tuple[str, ...]) -> None:
        super().__init__(", ".join(decisions))
        self.decisions = decisions


@attrs.frozen
class Axis:
    """A decision that a value depends on, with everything it may be."""

    decision: str
    values: tuple[Choice, ...]


@attrs.frozen(cache_hash=True)
class Cases:
    """A value for every combination of its axes, the last axis fastest."""

    axes: tuple[Axis, ...]
    table: tuple[Scalar, ...]

    @property
    def decisions(self) -> tuple[str, ...]:
        """The paths of the decisions that this depends on."""
        return tuple(a.decision for a in self.axes)

    @property
    def name(self) -> str:
        """A short stable name for text forms."""
        return f"${sha256(repr(self).encode()).hexdigest()[:8]}"

    def at(self, choices: Assignment) -> Scalar:
        """The value under an assignment; a decision that is not made counts as its first option.

        What an absent decision belongs to is absent too, so nothing reads the value then.
        """
        index = 0
        for axis in self.axes:
            chosen = choices.get(axis.decision, axis.values[0])
            index = index * len(axis.values) + axis.values.index(chosen)
        return self.table[index]

    def items(self) -> Iterator[tuple[dict[str, Choice], Scalar]]:
        """Every assignment of the axes with its value."""
        return zip(assignments(self.axes), self.table, strict=True)


Value = Union[Scalar, Cases]


def decided(axis: Axis, numbers: tuple[Scalar, ...]) -> Value:
    """The value that a decision gives: `numbers[i]` when its i-th option is taken."""
    return tabulate((axis,), lambda choices: numbers[axis.values.index(choices[axis.decision])])


def assignments(axes: tuple[Axis, ...]) -> Iterator[dict[str, Choice]]:
    """Every combination of the axes, the last axis fastest."""
    paths = [a.decision for a in axes]
    return (dict(zip(paths, combination, strict=True)) for combination in product(*(a.values for a in axes)))


def axes_of(*values: object) -> tuple[Axis, ...]:
    """The axes of all values together, in canonical order. Raises TooManyCasesError."""
    found = {a.decision: a for v in values if isinstance(v, Cases) for a in v.axes}
    axes = tuple(found[path] for path in sorted(found))
    if prod(len(a.values) for a in axes) > LARGEST_TABLE:
        raise TooManyCasesError(tuple(found))
    return axes


def at(value: Any, choices: Assignment) -> Any:
    """A value under an assignment."""
    return value.at(choices) if isinstance(value, Cases) else value


def tabulate(axes: tuple[Axis, ...], function: Callable[[dict[str, Choice]], Scalar]) -> Value:
    """The function of the assignments of `axes`, in canonical form."""
    return _canonical(axes, [function(choices) for choices in assignments(axes)])


def lift(function: Callable[..., Scalar], *values: Value) -> Value:
    """`function` of values, for every combination of what they depend on. Raises TooManyCasesError."""
    axes = axes_of(*values)
    if not axes:
        return function(*values)
    if len(axes) == 1:
        columns = [v.table if isinstance(v, Cases) else (v,) * len(axes[0].values) for v in values]
        return _canonical(axes, [function(*row) for row in zip(*columns, strict=True)])
    return tabulate(axes, lambda choices: function(*(at(v, choices) for v in values)))


def where(condition: Value, yes: Value, no: Value) -> Value:
    """`yes` where the condition holds, else `no`."""
    return lift(lambda c, y, n: y if c else n, condition, yes, no)


def both(left: Value, right: Value) -> Value:
    """Where both conditions hold."""
    return lift(lambda a, b: bool(a and b), left, right)


def counterexample(assumed: Value, claim: Value) -> dict[str, Choice] | None:
    """An assignment where `assumed` holds and `claim` does not; None when the claim is proved."""
    if claim is True or assumed is False:
        return None
    axes = axes_of(assumed, claim)
    for choices in assignments(axes):
        if at(assumed, choices) and not at(claim, choices):
            return choices
    return None


def equal(left: Value, right: Value) -> Value:
    """Where two values are equal."""
    return lift(lambda a, b: a == b, left, right)


T = TypeVar("T")


class _Wanted(Exception):  # not an error: a question
    def __init__(self, axis: Axis) -> None:
        self.axis = axis


def explore(
    function: Callable[[Callable[[Any], Any]], T], assumed: Value = True
) -> list[tuple[dict[str, Choice], T]]:
    """Runs `function(settle)` for every combination of what it asks about, and of nothing else.

    `settle(value)` gives the value under the present assignment. A decision is split
    on only when a value that depends on it is asked for, so a rule that looks at one
    of ten sizes is tried for the cases of that size alone. Assignments under which
    `assumed` cannot hold are left out.
    """
    found: list[tuple[dict[str, Choice], T]] = []
    waiting: list[dict[str, Choice]] = [{}]
    while waiting:
        choices = waiting.pop()
        if not possible(assumed, choices):
            continue

        def settle(value: Any, choices: dict[str, Choice] = choices) -> Any:
            if not isinstance(value, Cases):
                return value
            for axis in value.axes:
                if axis.decision not in choices:
                    raise _Wanted(axis)
            return value.at(choices)

        try:
            found.append((choices, function(settle)))
        except _Wanted as question:
            axis = question.axis
            waiting.extend({**choices, axis.decision: v} for v in reversed(axis.values))
        if len(found) + len(waiting) > LARGEST_TABLE:
            raise TooManyCasesError(tuple(choices))
    return found


def possible(assumed: Value, choices: Mapping[str, Choice]) -> bool:
    """Whether something can hold once some decisions are made."""
    if not isinstance(assumed, Cases):
        return bool(assumed)
    free = tuple(a for a in assumed.axes if a.decision not in choices)
    if not free:
        return bool(assumed.at(choices))
    return any(assumed.at({**choices, **rest}) for rest in assignments(free))


def _canonical(axes: tuple[Axis, ...], table: list[Scalar]) -> Value:
    """Without the axes that the table does not depend on."""
    kept = list(axes)
    after = 1
    for position in range(len(kept) - 1, -1, -1):
        length = len(kept[position].values)
        block = after * length
        first = [table[i + j] for i in range(0, len(table), block) for j in range(after)]
        same = all(
            table[i + k * after + j] == first[(i // block) * after + j]
            for i in range(0, len(table), block)
            for k in range(1, length)
            for j in range(after)
        )
        if same:
            table = first
            del kept[position]
        else:
            after = block
    return Cases(tuple(kept), tuple(table)) if kept else table[0]
