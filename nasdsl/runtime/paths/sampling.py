"""Which paths a step trains.

Takes decisions as plain data and what a path may cost, returns paths. Invariant: what is drawn depends
on the state of the sampler alone, which a checkpoint keeps.

- `uniform`: every decision by itself, each value alike (SPOS, section 3.3).
- `bins`: first a bin of costs, then uniform paths until one falls into it (released SPOS training code).
- `fair`: as many paths as a decision has values, each value in exactly one of them (FairNAS, strict
  fairness; where decisions have different numbers of values, the least common multiple of them).
- `sandwich`: the largest path, random ones, the smallest (slimmable networks; BigNAS).

Inside a sub-space every path is one of its members, drawn exactly from the start; largest and smallest are
those of its members, or of 1,000 drawn ones where there are too many to list.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from nasdsl.runtime.members import Members, looked_at
from nasdsl.runtime.paths.choices import Choices, extreme, made, values_of
from nasdsl.runtime.standalone.basics import Mistake, stable_seed

Cost = Callable[[Mapping[str, Any]], int]
Allowed = Callable[[Choices], bool]
Exact = Callable[[random.Random], Mapping[str, Any]]

TRIES = 500
"""Uniform draws before the released SPOS code takes whatever comes."""
FEW_DRAWS = 1_000
"""Draws after which a limit counts as tight: then paths within it are drawn exactly, where that can be done."""
MOST_DRAWS = 100_000
"""Draws after which, where it cannot, a limit is said to leave nothing."""
MOST_AT_ONCE = 64
"""Paths of one fair step; more would be a batch of its own."""


class Draw:
    """Random paths within the limits of a space, and their neighbours.

    Attributes:
        cost: of a path.
        allowed: whether a path is within the limits.
        exact: draws one within the limits, each alike, however few there are; raises ValueError where it cannot.
        inside: the members of the sub-space that is searched, which says all three of them; None for the whole.
    """

    def __init__(
        self,
        decisions: Sequence[Mapping[str, Any]],
        seed: int,
        cost: Cost,
        allowed: Allowed | None = None,
        exact: Exact | None = None,
        inside: Members | None = None,
    ) -> None:
        self.decisions, self.cost, self.inside = tuple(decisions), cost, inside
        self.allowed: Allowed = allowed or (lambda path: True)
        self.exact = exact
        if inside is not None:
            self.allowed, self.exact = inside.allows, inside.draw
        # Uniform draws hit a small part too seldom to be tried.
        self._tight = inside is not None
        self._seed = seed
        self.values = {d["path"]: values_of(d) for d in self.decisions}
        self.random = random.Random(stable_seed(seed, "paths"))

    def path(self, genes: Mapping[str, Any]) -> Choices:
        """The decisions that exist under a value for every one."""
        return made(self.decisions, genes)

    def genes(self) -> Choices:
        """A value for every decision, each alike."""
        return {path: self.random.choice(values) for path, values in self.values.items()}

    def one(self) -> Choices:
        """A path within the limits. Raises Mistake where none is found."""
        found = None if self._tight else self._tried(FEW_DRAWS)
        if found is None:
            self._tight = True
            found = self._drawn() or self._tried(MOST_DRAWS)
        if found is None:
            part = "" if self.inside is None else ", inside the sub-space"
            raise Mistake(f"none of {MOST_DRAWS:,} random paths is within the limits of the space{part}")
        return found

    def _tried(self, count: int) -> Choices | None:
        for _ in range(count):
            path = self.path(self.genes())
            if self.allowed(path):
                return path
        return None

    def _drawn(self) -> Choices | None:
        try:
            return None if self.exact is None else dict(self.exact(self.random))
        except ValueError:
            self.exact = None
            return None

    def mutant(self, path: Choices, probability: float) -> Choices:
        """A path whose decisions are drawn anew, each with a probability (released SPOS search code)."""
        genes = {**self.genes(), **path}
        for name, values in self.values.items():
            if self.random.random() < probability:
                genes[name] = self.random.choice(values)
        return self.path(genes)

    def neighbour(self, path: Choices) -> Choices:
        """A path that differs in one of its decisions (regularised evolution, section 3.2)."""
        open_ = [name for name in path if len(self.values[name]) > 1]
        if not open_:
            return dict(path)
        name = self.random.choice(open_)
        other = [v for v in self.values[name] if v != path[name]]
        return self.path({**self.genes(), **path, name: self.random.choice(other)})

    def child(self, left: Choices, right: Choices) -> Choices:
        """A path each of whose decisions is that of one of two parents."""
        spare = self.genes()
        genes = {
            name: self.random.choice([p[name] for p in (left, right) if name in p] or [spare[name]])
            for name in self.values
        }
        return self.path(genes)

    def extreme(self, sign: int) -> Choices:
        """The path of the largest (1) or smallest (-1) cost that changing one decision cannot pass.

        Inside a sub-space that of its members, exactly where they are listed, else of some that are drawn.
        """
        if self.inside is None:
            return extreme(self.values, self.path, self.cost, sign)
        found = looked_at(self.inside, stable_seed(self._seed, "extremes"))
        return max(found, key=lambda path: sign * self.cost(path))

    def state_dict(self) -> dict[str, Any]:
        """The state of the generator."""
        return {"random": self.random.getstate(), "tight": self._tight}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        kind, numbers, spare = state["random"]
        self.random.setstate((kind, tuple(numbers), spare))
        self._tight = state["tight"]


class Sampler(Protocol):
    """Draws the paths of a step."""

    def next(self) -> list[Choices]: ...


class Uniform:
    """`count` paths, each drawn by itself."""

    def __init__(self, draw: Draw, count: int) -> None:
        self.draw, self.count = draw, count

    def next(self) -> list[Choices]:
        """The paths of a step."""
        return [self.draw.one() for _ in range(self.count)]


class Bins:
    """`count` paths, each from a bin of costs that is drawn first; `bins` of equal width from `low` to `high`."""

    def __init__(self, draw: Draw, count: int, low: float, high: float, bins: int) -> None:
        if not low < high:
            raise Mistake(f"sampler=bins needs bin_low < bin_high, not {low:g} and {high:g}")
        self.draw, self.count = draw, count
        self.edges = [low + (high - low) * i / bins for i in range(bins + 1)]
        self._told = False

    def next(self) -> list[Choices]:
        """The paths of a step."""
        return [self._one() for _ in range(self.count)]

    def _one(self) -> Choices:
        at = self.draw.random.randrange(len(self.edges) - 1)
        for _ in range(TRIES):
            path = self.draw.one()
            if self.edges[at] <= self.draw.cost(path) < self.edges[at + 1]:
                return path
        if not self._told:
            self._told = True
            print(
                f"sampler=bins: none of {TRIES} paths costs {self.edges[at]:,.0f} to {self.edges[at + 1]:,.0f}; "
                "any path is taken instead (bin_low and bin_high say where bins are)"
            )
        return self.draw.one()


class Fair:
    """Every value of every decision equally often in one step; limits of the space play no part."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.count = math.lcm(*(len(v) for v in draw.values.values()))
        if self.count > MOST_AT_ONCE:
            raise Mistake(
                f"sampler=fair would train {self.count} paths a step: decisions have "
                f"{', '.join(map(str, sorted({len(v) for v in draw.values.values()})))} values"
            )

    def next(self) -> list[Choices]:
        """The paths of a step."""
        columns = {}
        for name, values in self.draw.values.items():
            column = list(values) * (self.count // len(values))
            self.draw.random.shuffle(column)
            columns[name] = column
        return [self.draw.path({n: c[i] for n, c in columns.items()}) for i in range(self.count)]


class Sandwich:
    """The largest path, `count - 2` random ones, the smallest; limits hold for the random ones."""

    def __init__(self, draw: Draw, count: int) -> None:
        if count < 2:
            raise Mistake("sampler=sandwich needs two paths a step at least: the largest and the smallest")
        self.draw, self.count = draw, count
        self.largest, self.smallest = draw.extreme(1), draw.extreme(-1)

    def next(self) -> list[Choices]:
        """The paths of a step, the largest first."""
        middle = [self.draw.one() for _ in range(self.count - 2)]
        return [dict(self.largest), *middle, dict(self.smallest)]


def make_sampler(settings: Mapping[str, Any], draw: Draw) -> Sampler:
    """The sampler that the settings name. Raises Mistake for settings that do not fit the space."""
    kind, count = settings["sampler"], settings["paths"]
    if kind == "fair":
        return Fair(draw)
    if kind == "sandwich":
        return Sandwich(draw, count)
    if kind == "bins":
        return Bins(draw, count, settings["bin_low"], settings["bin_high"], settings["bins"])
    return Uniform(draw, count)


__all__ = ["Bins", "Draw", "Fair", "Sampler", "Sandwich", "Uniform", "make_sampler"]
