"""Encodings with a price that is no more than some number: counted exactly, drawn uniformly, listed.

Takes the codes of a table, the values that each decision may take and what each costs; returns integers and
rows. Invariant: exact integers throughout; every draw of one price has the same probability; nothing
recurses, so a table may be as long as it likes.

As in `nasdsl.identity.encodings`, all that matters of the decisions made so far is which awaited events have
happened. A state's numbers are a tuple: in how many ways the rest can be made at a price of exactly 0, 1, 2...
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from nasdsl.space.decisions import Event
from nasdsl.subspace.codes import ABSENT, Codes

if TYPE_CHECKING:
    import numpy as np

    from nasdsl.subspace.codes import Rows

State = frozenset[Event]
Prices = Sequence[tuple[int, int]]
"""The values that a decision may take, by index, each with its price."""
Move = tuple[int, int, State]
"""A value's index (-1: the decision is not made), its price, and the state after it."""


class Walks:
    """All encodings whose prices add up to `most` at most."""

    def __init__(self, codes: Codes, prices: Sequence[Prices], most: int = 0) -> None:
        self.codes = codes
        self.most = most
        self._moves: list[dict[State, list[Move]]] = []
        self._reached: list[dict[State, int]] = [{frozenset(): 0}]
        last = _awaited(codes)
        for index, allowed in enumerate(prices):
            self._step(index, allowed, last)
        self._ways = self._counted()

    def _step(self, index: int, allowed: Prices, last: dict[Event, int]) -> None:
        """The moves of one decision from every state that is reached, and the states after it."""
        decision = self.codes.table.decisions[index]
        values = self.codes.values[index]
        happen = {
            code: frozenset(e for e in decision.taken(values[code]) if last.get(e, -1) > index)
            for code, _ in allowed
        }
        moves: dict[State, list[Move]] = {}
        after: dict[State, int] = {}
        for state, least in self._reached[index].items():
            kept = frozenset(e for e in state if last[e] > index)
            if decision.active(state):
                moves[state] = [(code, price, kept | happen[code]) for code, price in allowed]
            else:
                moves[state] = [(ABSENT, 0, kept)]
            moves[state] = [m for m in moves[state] if least + m[1] <= self.most]
            for _, price, then in moves[state]:
                after[then] = min(after.get(then, self.most), least + price)
        self._moves.append(moves)
        self._reached.append(after)

    def _counted(self) -> list[dict[State, tuple[int, ...]]]:
        """The numbers of every state, from the last decision to the first."""
        ways = [dict.fromkeys(self._reached[-1], (1,) + (0,) * self.most)]
        for moves in reversed(self._moves):
            here: dict[State, tuple[int, ...]] = {}
            for state, found in moves.items():
                grouped: dict[tuple[int, State], int] = {}
                for _, price, then in found:
                    grouped[price, then] = grouped.get((price, then), 0) + 1
                total = [0] * (self.most + 1)
                for (price, then), number in grouped.items():
                    for at in range(price, self.most + 1):
                        total[at] += number * ways[-1][then][at - price]
                here[state] = tuple(total)
            ways.append(here)
        return ways[::-1]

    @property
    def by_price(self) -> tuple[int, ...]:
        """How many encodings have a price of exactly 0, 1, 2... up to `most`."""
        return self._ways[0][frozenset()]

    @cached_property
    def count(self) -> int:
        """How many there are."""
        return sum(self.by_price)

    def sample(self, rng: random.Random, price: int | None = None) -> Rows:
        """One row (decisions,), uniform over those of one price, or over all. Raises ValueError where there is none."""
        import numpy as np

        left = self._price(rng) if price is None else price
        if not 0 <= left <= self.most or not self.by_price[left]:
            raise ValueError(f"no encoding has a price of {price}")
        state: State = frozenset()
        row = np.empty(len(self._moves), np.int16)
        for index, moves in enumerate(self._moves):
            ticket = rng.randrange(self._ways[index][state][left])
            for code, cost, then in moves[state]:
                number = self._ways[index + 1][then][left - cost] if cost <= left else 0
                if ticket < number:
                    row[index] = code
                    state, left = then, left - cost
                    break
                ticket -= number
        return row

    def _price(self, rng: random.Random) -> int:
        if not self.count:
            raise ValueError("there is no encoding")
        ticket = rng.randrange(self.count)
        for price, number in enumerate(self.by_price):
            if ticket < number:
                return price
            ticket -= number
        raise AssertionError("the numbers add up to the bound of the ticket")

    def rows(self) -> Rows:
        """Every encoding (N, decisions), sorted: look at `count` first."""
        import numpy as np

        rows = np.empty((1, 0), np.int16)
        spent = np.zeros(1, np.int64)
        states: dict[State, int] = {frozenset(): 0}
        where = np.zeros(1, np.int64)
        for index, moves in enumerate(self._moves):
            taken: list[tuple[np.ndarray, int, int, int]] = []
            after: dict[State, int] = {}
            for state, number in states.items():
                here = np.flatnonzero(where == number)
                for code, price, then in moves[state]:
                    if self._hopeless(index + 1, then):
                        continue
                    chosen = here[spent[here] + price <= self.most] if price else here
                    taken.append((chosen, code, price, after.setdefault(then, len(after))))
            if not taken:
                return np.empty((0, len(self._moves)), np.int16)
            sizes = [len(t[0]) for t in taken]
            origin = np.concatenate([t[0] for t in taken])
            codes = np.repeat(np.array([t[1] for t in taken], np.int16), sizes)
            spent = spent[origin] + np.repeat([t[2] for t in taken], sizes)
            where = np.repeat([t[3] for t in taken], sizes)
            rows = np.concatenate([rows[origin], codes[:, None]], axis=1)
            states = after
        return self.codes.unique(rows)

    def _hopeless(self, index: int, state: State) -> bool:
        return not any(self._ways[index][state])

    def reached(self) -> tuple[tuple[int, ...], ...]:
        """For each decision the indices of the values that some encoding here takes, in order."""
        found = []
        for index, moves in enumerate(self._moves):
            codes: set[int] = set()
            for state, steps in moves.items():
                spent = self._reached[index][state]
                for code, price, then in steps:
                    ways = self._ways[index + 1][then]
                    least = next((at for at, number in enumerate(ways) if number), self.most + 1)
                    if code != ABSENT and spent + price + least <= self.most:
                        codes.add(code)
            found.append(tuple(sorted(codes)))
        return tuple(found)


def _awaited(codes: Codes) -> dict[Event, int]:
    """The last decision that waits for each event."""
    found: dict[Event, int] = {}
    for index, decision in enumerate(codes.table.decisions):
        for guard in decision.when or ():
            found.update(dict.fromkeys(guard, index))
    return found
