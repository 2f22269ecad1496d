"""Finders: no path twice, what they call best, and that a search which was stopped asks what it would have asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from itertools import product
from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasdsl.runtime.paths.choices import Choices, key_of
from nasdsl.runtime.paths.finding import Aging, Evolution, Finder, Fronts, Given, Judged, Sampled, make_finder
from nasdsl.runtime.paths.sampling import Draw
from nasdsl.runtime.standalone.basics import Mistake
from tests.runtime.paths.test_sampling import decision, draw, weight

KINDS = ("random", "evolution", "aging", "nsga2")
Landscape = Callable[[Mapping[str, Any]], float]


def finder(kind: str, made: Draw, budget: int, population: int = 6, parents: int = 3) -> Finder:
    given_ = {
        "search": kind,
        "evaluations": budget,
        "population": population,
        "parents": parents,
        "mutation": 0.2,
    }
    return make_finder(given_, made, [])


def rough(seed: int) -> Landscape:
    """Any accuracy for any path, many of them equal."""
    return lambda path: random.Random(f"{seed} {key_of(path)}").randrange(8) / 8  # type: ignore[arg-type]


def searched(found: Finder, landscape: Landscape, steps: int | None = None) -> Finder:
    while (steps is None or len(found.judged) < steps) and (path := found.ask()) is not None:
        assert found.ask() == path  # the same until it is told
        found.tell(landscape(path))
    return found


@settings(max_examples=40)
@given(st.sampled_from(KINDS), st.integers(0, 99), st.integers(1, 40), st.integers(2, 9), st.integers(1, 12))
def test_no_path_twice_and_no_more_than_the_budget(
    kind: str, seed: int, budget: int, population: int, parents: int
) -> None:
    inner = decision("inner", 3, when=((("d0", "1"),),))
    made = Draw([decision("d0", 2), inner, decision("d2", 4)], seed, weight)  # 4 + 12 paths
    found = searched(finder(kind, made, budget, population, parents), rough(seed))
    keys = [key_of(j.choices) for j in found.judged]
    assert len(set(keys)) == len(keys)
    assert len(keys) == min(budget, 16) or (len(keys) > 12 and budget > 12)  # the last ones may not be drawn
    assert all(made.path({"inner": "0", **j.choices}) == j.choices for j in found.judged)
    assert all(j.cost == weight(j.choices) for j in found.judged)


@settings(max_examples=30)
@given(st.sampled_from(KINDS), st.integers(0, 99))
def test_best_and_front_are_those_of_all_that_was_judged(kind: str, seed: int) -> None:
    landscape = rough(seed)
    found = searched(finder(kind, draw(3, 3, 3, seed=seed), 27), landscape)
    known = [(landscape(j.choices), weight(j.choices)) for j in found.judged]
    best = found.best()
    top = max(a for a, _ in known)
    assert (best.accuracy, best.cost) == (top, min(c for a, c in known if a == top))
    points = {(a, c) for a, c in known if not any((b >= a and d < c) or (b > a and d <= c) for b, d in known)}
    front = found.front()
    assert {(j.accuracy, j.cost) for j in front} == points
    assert len(front) == len(points)
    assert [j.cost for j in front] == sorted(j.cost for j in front)
    assert all(j in found.judged for j in front)


def test_a_whole_space_has_the_best_of_brute_force() -> None:
    landscape = rough(5)
    everything = [dict(zip(("d0", "d1", "d2"), v, strict=True)) for v in product("012", repeat=3)]
    wanted = max(everything, key=lambda p: (landscape(p), -weight(p)))
    found = searched(finder("random", draw(3, 3, 3), 100), landscape)
    assert len(found.judged) == 27
    assert (found.best().accuracy, found.best().cost) == (landscape(wanted), weight(wanted))


def additive(seed: int) -> Landscape:
    """Each decision has one best value, independent of the others; distances fall off."""
    best = [random.Random(seed * 31 + i).randrange(4) for i in range(6)]
    return lambda path: 1 - sum(abs(int(v) - b) for v, b in zip(path.values(), best, strict=True)) / 24


def looks(kind: str, seed: int) -> int:
    """Until the optimum of 4096 paths is found."""
    landscape = additive(seed)
    found = finder(kind, draw(4, 4, 4, 4, 4, 4, seed=seed), 4096, population=20, parents=5)
    while (path := found.ask()) is not None:
        found.tell(landscape(path))
        if landscape(path) == 1:
            break
    return len(found.judged)


def test_evolution_climbs_where_random_search_wanders() -> None:
    counts = {
        kind: median(looks(kind, seed) for seed in range(7)) for kind in ("random", "evolution", "aging")
    }
    assert counts["evolution"] < counts["random"] / 3
    assert counts["aging"] < counts["random"] / 3


@pytest.mark.parametrize("parents", [2, 5])
def test_aging_has_one_child_of_the_best_of_a_few_of_the_youngest(parents: int) -> None:
    """The oldest die, whatever they reached (algorithm 1 of Real et al.)."""
    made = draw(4, 4, 4, 4)
    found = finder("aging", made, 60, population=5, parents=parents)
    assert isinstance(found, Aging)
    chosen: list[Choices] = []
    plain = made.neighbour
    made.neighbour = lambda path: chosen.append(path) or plain(path)  # type: ignore[method-assign, func-returns-value]
    alive: list[Judged] = []
    while (path := found.ask()) is not None:
        if chosen:
            parent = next(j for j in alive if j.choices == chosen[-1])
            if parents == 5:  # all of them compete
                assert (parent.accuracy, -parent.cost) == max((j.accuracy, -j.cost) for j in alive)
            assert sum(path[n] != chosen[-1][n] for n in path) == 1
        else:
            assert len(alive) < 5
        chosen.clear()
        found.tell(rough(1)(path) if found.judged else 1.0)  # the first is the best of all, and dies
        alive = found.judged[-5:]
    assert len(found.judged) == 60


def test_a_generation_is_half_mutants_and_half_children_of_the_best_filled_up_at_random() -> None:
    """The released SPOS search: 50 a generation, 25 and 25, of the top ten."""
    made = draw(*[4] * 6)
    found = finder("evolution", made, 40, population=10, parents=3)
    assert isinstance(found, Evolution)
    kinds: list[tuple[str, Any]] = []

    def record(name: str) -> None:
        plain = getattr(made, name)
        setattr(made, name, lambda *given_: kinds.append((name, given_)) or plain(*given_))

    for name in ("one", "mutant", "child"):
        record(name)
    landscape = additive(3)
    searched(found, landscape, 10)
    assert {name for name, _ in kinds} == {"one"}
    kinds.clear()
    best = [j.choices for j in sorted(found.judged, key=lambda j: (-j.accuracy, j.cost))[:3]]
    assert found.ask() is not None
    assert len(found._queue) == 10
    for name, given_ in kinds:
        parents = given_[:1] if name == "mutant" else given_
        assert all(p in best for p in parents)
        assert name != "mutant" or given_[1] == 0.2
    assert [n for n, _ in kinds].index("child") >= 5  # five mutants come first
    assert {n for n, _ in kinds} >= {"mutant", "child"}


def test_a_mutation_probability_is_kept() -> None:
    made = draw(*[4] * 8)
    start = made.one()
    changed = sum(v != start[n] for _ in range(500) for n, v in made.mutant(start, 0.4).items())
    # Drawn anew, a decision may get its old value: 3/4 of the probability.
    assert changed / 4000 == pytest.approx(0.3, abs=0.03)
    assert made.mutant(start, 0.0) == start
    one, two = made.one(), made.one()
    assert all(v in (one[n], two[n]) for _ in range(20) for n, v in made.child(one, two).items())


def test_fronts_have_the_parents_of_nsga2() -> None:
    """DEAP's selection over accuracy up and cost down: whole fronts first, then the least crowded."""
    made = draw(6, 6, 6)
    found = finder("nsga2", made, 60, population=8)
    assert isinstance(found, Fronts)
    landscape = rough(2)
    searched(found, landscape, 30)
    chosen = found.chosen()
    assert len(chosen) == 8
    # By hand: how many fronts must be peeled off before a path is on one.
    left, levels = list(found.judged), []
    while left:
        front = [
            j
            for j in left
            if not any(
                o.accuracy >= j.accuracy and o.cost <= j.cost and (o.accuracy, o.cost) != (j.accuracy, j.cost)
                for o in left
            )
        ]
        levels.append(front)
        left = [j for j in left if j not in front]
    taken = 0
    for front in levels:
        inside = [j for j in front if j.choices in chosen]
        if taken + len(front) <= 8:
            assert len(inside) == len(front)
        else:
            assert len(inside) == 8 - taken
            # The two ends of the last front are the least crowded.
            ends = {min(j.cost for j in front), max(j.cost for j in front)}
            assert len(inside) < 2 or ends <= {j.cost for j in inside}
            break
        taken += len(front)


@settings(max_examples=60)
@given(st.sampled_from(KINDS), st.integers(0, 99), st.integers(0, 30), st.booleans(), st.booleans())
def test_a_search_continues_from_its_state(kind: str, seed: int, stop: int, asked: bool, other: bool) -> None:
    """At any point of a generation, also between a question and its answer."""
    landscape = rough(seed)

    def made(own: int) -> Finder:
        inner = decision("inner", 3, when=((("d0", "1"),),))
        return finder(kind, Draw([decision("d0", 3), inner, decision("d2", 4)], own, weight), 25)

    whole = searched(made(seed), landscape)
    first = searched(made(seed), landscape, stop)
    if asked:
        first.ask()
    again = made(seed + 1)
    if other:  # it had been used before
        searched(again, landscape, 4)
    again.load_state_dict(first.state_dict())
    assert searched(again, landscape).judged == whole.judged == searched(first, landscape).judged


def test_given_paths_are_judged_in_their_order_once() -> None:
    made = draw(2, 2)
    paths: list[Choices] = [{"d0": "1", "d1": "0"}, {"d0": "0", "d1": "0"}, {"d0": "1", "d1": "0"}]
    found = searched(Given(made, paths), weight)
    assert [j.choices for j in found.judged] == paths[:2]
    again = Given(made, paths)
    first = searched(Given(made, paths), weight, 1)
    again.load_state_dict(first.state_dict())
    assert searched(again, weight).judged == found.judged


def test_where_nothing_was_judged_there_is_no_best() -> None:
    with pytest.raises(Mistake, match="no path was judged"):
        Given(draw(2), []).best()
    assert Sampled(draw(2), 5).front() == []


def test_without_deap_the_cure_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    found = searched(finder("nsga2", draw(4, 4), 20), weight, 6)
    monkeypatch.setitem(__import__("sys").modules, "deap", None)
    with pytest.raises(Mistake, match="pip install deap"):
        found.ask()
