"""The decisions of a space, flat and ordered.

Takes nothing, returns plain data. Invariant: an event refers to a decision that
stands earlier in the table, so one pass from front to back settles which
decisions are active.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Literal, Union

import attrs

from nasdsl.diagnostics import Span

Choice = Union[str, tuple[str, ...]]


@attrs.frozen
class Event:
    """`decision` took `option`; for a choice of inputs, `option` is among the chosen."""

    decision: str
    option: str


@attrs.frozen
class Decision:
    """One place of the file where an architecture chooses.

    Attributes:
        path: readable and stable, `normal.n[2].inputs`.
        kind: `op` takes one option name, `inputs` a tuple of `low..high` of them in declared order.
        when: None if always active; else active when at least one of the events happened.
    """

    path: str
    kind: Literal["op", "inputs"]
    options: tuple[str, ...]
    low: int = 1
    high: int = 1
    when: tuple[Event, ...] | None = None
    span: Span | None = attrs.field(default=None, eq=False, repr=False)

    def taken(self, choice: Choice) -> tuple[Event, ...]:
        """The events that a value of this decision makes happen."""
        names = (choice,) if isinstance(choice, str) else choice
        return tuple(Event(self.path, name) for name in names)


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
            if decision.when is None or any(e in happened for e in decision.when):
                found.append(decision)
                if decision.path in choices:
                    happened.update(decision.taken(choices[decision.path]))
        return tuple(found)
