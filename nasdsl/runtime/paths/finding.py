"""Which path of a trained supernet is the best one.

Takes random paths, says which path to judge next, is told what it reached. Invariant: no path is judged
twice; what is asked next depends on the state alone, which a checkpoint keeps, so a search that is
continued asks what it would have asked.

- `Given`: some paths and no others (Cream: those on the board).
- `Sampled`: random paths.
- `Evolution`: mutants and children of the best so far (released SPOS search code).
- `Aging`: regularised evolution (Real et al., AAAI 2019, algorithm 1).
- `Fronts`: NSGA-II over accuracy and cost (Deb et al., 2002), its selection from DEAP.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasdsl.runtime.members import Members
from nasdsl.runtime.paths.choices import Choices, key_of
from nasdsl.runtime.paths.sampling import Draw
from nasdsl.runtime.standalone.basics import Mistake

ATTEMPTS = 200
"""Draws of a path that was not judged before; then the space counts as exhausted there."""


@dataclass(frozen=True)
class Judged:
    """A path, its accuracy (0 to 1) and its cost."""

    choices: Choices
    accuracy: float
    cost: int


class Finder(ABC):
    """Asks for paths, one at a time, and is told what they reached.

    Attributes:
        budget: how many paths it may ask for.
        judged: all that it was told, in order.
    """

    def __init__(self, draw: Draw, budget: int) -> None:
        self.draw, self.budget = draw, budget
        self.judged: list[Judged] = []
        self._queue: list[Choices] = []
        self._seen: set[Any] = set()

    @abstractmethod
    def propose(self) -> list[Choices]:
        """The next paths to judge; none where there are no more."""

    def ask(self) -> Choices | None:
        """The path to judge now; None at the end. The same until `tell`."""
        if len(self.judged) >= self.budget:
            return None
        if not self._queue:
            self._queue = self.propose()
        return self._queue[0] if self._queue else None

    def tell(self, accuracy: float) -> None:
        """What the path reached that was asked for."""
        path = self._queue.pop(0)
        self.judged.append(Judged(path, accuracy, self.draw.cost(path)))

    def best(self) -> Judged:
        """The most accurate path, of equals the cheapest. Raises Mistake where none was judged."""
        if not self.judged:
            raise Mistake("no path was judged: none is within the limits of the space")
        return max(self.judged, key=lambda j: (j.accuracy, -j.cost))

    def front(self) -> list[Judged]:
        """What no other path is as cheap as and more accurate than, or cheaper and as accurate; by cost."""
        found: list[Judged] = []
        for item in sorted(self.judged, key=lambda j: (j.cost, -j.accuracy)):
            if not found or item.accuracy > found[-1].accuracy:
                found.append(item)
        return found

    def fresh(self, make: Any) -> Choices | None:
        """A path within the limits that was never asked for; None where `make` finds none.

        Inside a sub-space, where what `make` makes may always be outside, a member takes its place.
        """
        if self.exhausted:
            return None
        found = self._tried(make)
        return found if found is not None or self.draw.inside is None else self._member(self.draw.inside)

    def _tried(self, make: Any) -> Choices | None:
        for _ in range(ATTEMPTS):
            path: Choices = make()
            key = key_of(path)
            if key not in self._seen and self.draw.allowed(path):
                self._seen.add(key)
                return path
        return None

    def _member(self, inside: Members) -> Choices | None:
        """A member that was never asked for, drawn, or one of those that are left where they are few."""
        found = self._tried(self.draw.one)
        if found is not None or inside.few is None:
            return found
        left = [p for p in inside.all() if key_of(p) not in self._seen]
        path = self.draw.random.choice(left)
        self._seen.add(key_of(path))
        return path

    @property
    def exhausted(self) -> bool:
        """Whether every member of the sub-space was asked for; never without one."""
        inside = self.draw.inside
        few = None if inside is None else inside.few
        return few is not None and len(self._seen) >= few

    def several(self, count: int, make: Any) -> list[Choices]:
        """Up to `count` of them."""
        found = (self.fresh(make) for _ in range(count))
        return [p for p in found if p is not None]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "judged": [(j.choices, j.accuracy, j.cost) for j in self.judged],
            "queue": [dict(p) for p in self._queue],
            "draw": self.draw.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.judged = [Judged(*item) for item in state["judged"]]
        self._queue = [dict(p) for p in state["queue"]]
        self._seen = {key_of(p) for p in (*(j.choices for j in self.judged), *self._queue)}
        self.draw.load_state_dict(state["draw"])


class Given(Finder):
    """The paths that it is given, those within the limits."""

    def __init__(self, draw: Draw, paths: Sequence[Choices]) -> None:
        super().__init__(draw, len(paths))
        self.paths = [dict(p) for p in paths]

    def propose(self) -> list[Choices]:
        """All of them, once."""
        unseen = [p for p in self.paths if key_of(p) not in self._seen and self.draw.allowed(p)]
        found = {key_of(p): p for p in unseen}
        self._seen |= set(found)
        return list(found.values())


class Sampled(Finder):
    """Random paths, each alike."""

    def propose(self) -> list[Choices]:
        """One more."""
        return self.several(1, self.draw.one)


class Evolution(Finder):
    """Generations of mutants, children and random paths.

    Attributes:
        population: paths a generation.
        parents: how many of the best so far have offspring.
        mutation: probability that a decision of a mutant is drawn anew.
    """

    def __init__(self, draw: Draw, budget: int, population: int, parents: int, mutation: float) -> None:
        super().__init__(draw, budget)
        self.population, self.parents, self.mutation = population, parents, mutation

    def propose(self) -> list[Choices]:
        """The next generation."""
        if not self.judged:
            return self.several(self.population, self.draw.one)
        chosen = self.chosen()
        random = self.draw.random
        half = self.population // 2
        found = self.several(half, lambda: self.draw.mutant(random.choice(chosen), self.mutation))
        found += self.several(half, lambda: self.draw.child(random.choice(chosen), random.choice(chosen)))
        return found + self.several(self.population - len(found), self.draw.one)

    def chosen(self) -> list[Choices]:
        """Who has offspring: the most accurate so far."""
        ranked = sorted(self.judged, key=lambda j: (-j.accuracy, j.cost))
        return [j.choices for j in ranked[: self.parents]]


class Aging(Evolution):
    """One mutant at a time, of the best of a random few among the youngest `population` paths."""

    def propose(self) -> list[Choices]:
        """The first generation at once, then one child."""
        if len(self.judged) < self.population:
            return self.several(self.population - len(self.judged), self.draw.one)
        alive = self.judged[-self.population :]
        random = self.draw.random
        few = random.sample(alive, min(self.parents, len(alive)))
        parent = max(few, key=lambda j: (j.accuracy, -j.cost))
        found = self.several(1, lambda: self.draw.neighbour(parent.choices))
        return found or self.several(1, self.draw.one)


class Fronts(Evolution):
    """`Evolution` whose parents are those that NSGA-II selects for accuracy and cost."""

    def chosen(self) -> list[Choices]:
        """The first fronts, of the last one the least crowded, from all that was judged."""
        try:
            from deap import base, tools
        except ImportError:
            raise Mistake("search=nsga2 needs the package deap: pip install deap") from None

        class Fitness(base.Fitness):  # type: ignore[misc]
            weights = (1.0, -1.0)

        class Individual:
            def __init__(self, judged: Judged) -> None:
                self.judged = judged
                self.fitness = Fitness((judged.accuracy, float(judged.cost)))

        picked = tools.selNSGA2([Individual(j) for j in self.judged], min(self.population, len(self.judged)))
        return [p.judged.choices for p in picked]


def make_finder(settings: Mapping[str, Any], draw: Draw, board: Sequence[Choices]) -> Finder:
    """The finder that the settings name; `board` are the paths of Cream's board, if there is one."""
    kind, budget = settings["search"], settings["evaluations"]
    if kind == "board":
        return Given(draw, board)
    if kind == "random":
        return Sampled(draw, budget)
    rest = (budget, settings["population"], settings["parents"], settings["mutation"])
    return {"evolution": Evolution, "aging": Aging, "nsga2": Fronts}[kind](draw, *rest)


__all__ = ["Aging", "Evolution", "Finder", "Fronts", "Given", "Judged", "Sampled", "make_finder"]
