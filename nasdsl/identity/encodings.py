"""Encodings: counted exactly and sampled uniformly, without enumeration.

Takes a decision table, returns integers and choices. Invariant: exact integer
arithmetic throughout; sampling draws each encoding with the same probability.

The table is ordered so that the events that activate a decision lie before it.
Going through it from front to back, all that matters of the past is which of the
events that later decisions wait for have happened; the number of completions is
memoised on that set, so the work grows with the number of such sets (a few for
a cell), not with the number of encodings.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import lru_cache

import attrs

from nasdsl.space.decisions import Choice, Decision, DecisionTable, Event

Happened = frozenset[Event]


class Encodings:
    """The encodings of a table."""

    def __init__(self, table: DecisionTable) -> None:
        self._decisions = table.decisions
        awaited: dict[Event, int] = {}
        for index, decision in enumerate(self._decisions):
            for guard in decision.when or ():
                awaited.update(dict.fromkeys(guard, index))
        self._last = awaited
        self._count = lru_cache(maxsize=None)(self._completions)

    def count(self) -> int:
        """How many there are."""
        # Decisions are counted back to front so that the recursion stays shallow.
        for index in range(len(self._decisions) - 1, -1, -1):
            if index % 50 == 0:
                self._count(index, frozenset())
        return self._count(0, frozenset())

    def sample(self, rng: random.Random) -> dict[str, Choice]:
        """One encoding, each with the same probability."""
        happened: Happened = frozenset()
        choices: dict[str, Choice] = {}
        for index, decision in enumerate(self._decisions):
            if not decision.active(happened):
                happened = self._kept(index + 1, happened)
                continue
            ticket = rng.randrange(self._count(index, happened))
            for choice in decision.values:
                after = self._after(index, decision, choice, happened)
                number = self._count(index + 1, after)
                if ticket < number:
                    choices[decision.path] = choice
                    happened = after
                    break
                ticket -= number
        return choices

    def all(self) -> Iterator[dict[str, Choice]]:
        """Every encoding, in table order."""
        return self._every(0, frozenset(), {})

    def _every(self, index: int, happened: Happened, made: dict[str, Choice]) -> Iterator[dict[str, Choice]]:
        if index == len(self._decisions):
            yield dict(made)
            return
        decision = self._decisions[index]
        if not decision.active(happened):
            yield from self._every(index + 1, self._kept(index + 1, happened), made)
            return
        for choice in decision.values:
            made[decision.path] = choice
            yield from self._every(index + 1, self._after(index, decision, choice, happened), made)
        del made[decision.path]

    def _completions(self, index: int, happened: Happened) -> int:
        """In how many ways the decisions from `index` on can be made."""
        if index == len(self._decisions):
            return 1
        decision = self._decisions[index]
        if not decision.active(happened):
            return self._count(index + 1, self._kept(index + 1, happened))
        groups: dict[Happened, int] = {}
        for choice in decision.values:
            after = self._after(index, decision, choice, happened)
            groups[after] = groups.get(after, 0) + 1
        return sum(number * self._count(index + 1, after) for after, number in groups.items())

    def _after(self, index: int, decision: Decision, choice: Choice, happened: Happened) -> Happened:
        return self._kept(index + 1, happened | set(decision.taken(choice)))

    def _kept(self, index: int, happened: Happened) -> Happened:
        """The events that a decision from `index` on still waits for."""
        return frozenset(e for e in happened if self._last.get(e, -1) >= index)


def restrict(table: DecisionTable, cell: str) -> DecisionTable:
    """The decisions of one owner alone, as if it were used."""
    prefix = f"{cell}."
    kept = [d for d in table.decisions if d.path.startswith(prefix)]
    own = {d.path for d in kept}
    return DecisionTable(tuple(_inside(d, own) for d in kept))


def _inside(decision: Decision, own: set[str]) -> Decision:
    if decision.when is None:
        return decision
    local = tuple(tuple(e for e in guard if e.decision in own) for guard in decision.when)
    return attrs.evolve(decision, when=None if () in local else local)
