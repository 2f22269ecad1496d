"""The decisions of a space, flat and ordered.

Takes nothing, returns plain data. Invariant: an event refers to a decision that
stands earlier in the table, so one pass from front to back settles which
decisions are active.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import cached_property
from itertools import combinations
from types import MappingProxyType
from typing import Literal

import attrs

from nasdsl.cases import Axis, Choice
from nasdsl.diagnostics import Span


@attrs.frozen
class Event:
    """`decision` took `option`; for a choice of inputs, `option` is among the chosen."""

    decision: str
    option: str


Guard = tuple[Event, ...]
"""Events that must all have happened."""


@attrs.frozen
class Decision:
    """One place of the file where an architecture chooses.

    Attributes:
        path: readable and stable, `normal.n[2].inputs`.
        kind: `op` and `number` take one option name, `inputs` a tuple of `low..high` of them in
            declared order.
        when: None if always active; else active when all events of at least one guard happened.
        numbers: for `number`, the number that each option is.
    """

    path: str
    kind: Literal["op", "inputs", "number"]
    options: tuple[str, ...]
    low: int = 1
    high: int = 1
    when: tuple[Guard, ...] | None = None
    numbers: tuple[int | float, ...] = ()
    span: Span | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def values(self) -> tuple[Choice, ...]:
        """Everything that an architecture may say here."""
        if self.kind != "inputs":
            return self.options
        sizes = range(self.low, self.high + 1)
        return tuple(c for size in sizes for c in combinations(self.options, size))

    @property
    def axis(self) -> Axis:
        """This decision as something that sizes depend on."""
        return Axis(self.path, self.values)

    def active(self, happened: Set[Event]) -> bool:
        """Whether an architecture in which exactly these events happened makes this decision."""
        return self.when is None or any(all(e in happened for e in guard) for guard in self.when)

    def taken(self, choice: Choice) -> tuple[Event, ...]:
        """The events that a value of this decision makes happen."""
        names = (choice,) if isinstance(choice, str) else choice
        return tuple(Event(self.path, name) for name in names)


__all__ = ["Choice", "Decision", "DecisionTable", "Event", "Guard"]


@attrs.frozen(slots=False)
class DecisionTable:
    """All decisions, topologically sorted."""

    decisions: tuple[Decision, ...]

    @cached_property
    def by_path(self) -> Mapping[str, Decision]:
        return MappingProxyType({d.path: d for d in self.decisions})

    def active(self, choices: Mapping[str, Choice]) -> tuple[Decision, ...]:
        """The decisions that are active under `choices` (values of inactive ones are ignored)."""
        happened: set[Event] = set()
        found = []
        for decision in self.decisions:
            if decision.active(happened):
                found.append(decision)
                if decision.path in choices:
                    happened.update(decision.taken(choices[decision.path]))
        return tuple(found)
