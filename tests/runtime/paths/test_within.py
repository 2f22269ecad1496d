"""Single paths inside a sub-space: whatever is drawn, trained, mutated, judged or found is a member of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nasdsl import Program, Space, UserError
from nasdsl.opening import load
from nasdsl.runtime.paths.choices import Choices, key_of
from nasdsl.runtime.paths.finding import Finder, make_finder
from nasdsl.runtime.paths.results import ended
from nasdsl.runtime.paths.sampling import Draw, make_sampler
from nasdsl.subspace.files import members
from nasdsl.subspace.value import MAX_LISTED, Subspace

TEXT = """
space small {
  input image(1, 6, 6)
  LIMIT
  cell c(x) { a = x >> conv(1)
    n[1..2] = sum of choose 1..2 from (x, a, earlier) via choose { conv(3), relu }  return concat(n) }
  network {
    stem: conv(3, 4) >> bn
    deep: repeat choose { 1, 2, 3 } { conv(choose { 1, 3 }) }
    body: repeat 3 { choose { skip: id, conv: relu >> conv(3) >> bn, wide: relu >> conv(5) >> bn } }
    last: c
    head: global_pool >> linear(5)
  }
}
"""
MACS = "limit macs <= 60k"
KINDS = ("one", "few", "balls", "restriction", "both")
FINDERS = ("random", "evolution", "aging", "nsga2", "board")
SETTINGS: dict[str, Any] = {
    "paths": 4,
    "bin_low": 0.0,
    "bin_high": 100_000.0,
    "bins": 3,
    "evaluations": 20,
    "population": 6,
    "parents": 3,
    "mutation": 0.3,
}


@pytest.fixture(scope="module")
def spaces(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Space]:
    folder = tmp_path_factory.mktemp("within")

    @cache
    def made(limited: bool) -> Space:
        file = folder / f"small{limited}.nas"
        file.write_text(TEXT.replace("LIMIT", MACS if limited else ""))
        return load(file)

    return made


def sub_of(space: Space, kind: str, seed: int) -> Subspace:
    some = space.sample(12, seed=seed)
    body = space.restriction({"body[1].op": ["skip", "wide"], "body[3].op": ["conv"]})
    if kind == "one":
        return space.members(some[:1])
    if kind == "few":
        return space.members(some)
    if kind == "restriction":
        return body
    balls = space.balls([*some[:2], *space.within(body).sample(1, seed=seed)], 3)
    return balls if kind == "balls" else balls & body


def inside(program: Program, seed: int = 0) -> Draw:
    costs = program.space.costs("macs")
    decisions = program.supernet().DECISIONS
    return Draw(decisions, seed, costs.at, program.space.allows, program.space.draw_choices, program.inside)


def drive(found: Finder, judge: Callable[[Choices], float]) -> Finder:
    while (path := found.ask()) is not None:
        found.tell(judge(path))
    return found


@settings(max_examples=8)
@given(st.sampled_from(KINDS), st.booleans(), st.integers(0, 9))
def test_every_sampler_and_every_finder_hands_out_members_alone(
    spaces: Callable[[bool], Space], kind: str, limited: bool, seed: int
) -> None:
    space = spaces(limited)
    within = space.within(sub_of(space, kind, seed))
    program = within.compile("spos")
    made = inside(program, seed)
    for sampler in ("uniform", "bins", "sandwich"):
        for _ in range(3):
            for path in make_sampler({**SETTINGS, "sampler": sampler}, made).next():
                assert within.allows(path), sampler
                assert within.architecture(path).choices == path
    board = [made.one() for _ in range(3)]
    outside = [dict(a.choices) for a in space.sample(5, seed=seed) if not within.allows(a.choices)]
    for name in FINDERS:
        chosen = {**SETTINGS, "search": name}
        found = drive(make_finder(chosen, made, [*outside, *board]), lambda p: hash(key_of(p)) % 97 / 97)
        keys = {key_of(j.choices) for j in found.judged}
        assert len(keys) == len(found.judged) > 0
        assert all(within.allows(j.choices) for j in found.judged), name
        assert within.allows(found.best().choices)


@pytest.mark.parametrize("name", ["random", "evolution", "aging", "nsga2"])
def test_a_small_set_is_judged_to_its_last_member_and_the_search_says_that_it_ends(
    spaces: Callable[[bool], Space], name: str
) -> None:
    space = spaces(False)
    sub = space.members(space.sample(9, seed=4))
    program = space.within(sub).compile("spos")
    found = drive(make_finder({**SETTINGS, "search": name}, inside(program), []), lambda p: 0.5)
    assert {key_of(j.choices) for j in found.judged} == {
        key_of(sub.member(i)) for i in range(sub.tally().low)
    }
    assert f"all {len(found.judged)} members" in ended(found)
    whole = make_finder({**SETTINGS, "search": name}, inside(space.compile("spos")), [])
    assert ended(drive(whole, lambda p: 0.5)) == ""


@pytest.mark.parametrize("kind", ["few", "both"])
def test_members_are_drawn_alike_from_the_start(spaces: Callable[[bool], Space], kind: str) -> None:
    space = spaces(True)
    within = space.within(sub_of(space, kind, 2))
    count = within.count()
    made = inside(within.compile("spos"))
    seen = Counter(key_of(made.one()) for _ in range(20 * count))
    assert len(seen) <= count
    assert stats.chisquare([*seen.values(), *[0] * (count - len(seen))]).pvalue > 0.001


def test_a_draw_that_is_continued_draws_the_same(spaces: Callable[[bool], Space]) -> None:
    space = spaces(False)
    program = space.within(sub_of(space, "balls", 1)).compile("sandwich")
    one, two = inside(program), inside(program, seed=5)
    one.one()
    two.load_state_dict(one.state_dict())
    first = one.one()
    assert two.extreme(1) != {}  # looking for it draws nothing from the state
    assert two.one() == first


@pytest.mark.parametrize("kind", ["few", "balls"])
def test_largest_and_smallest_are_those_of_the_members(spaces: Callable[[bool], Space], kind: str) -> None:
    space = spaces(False)
    sub = sub_of(space, kind, 3)
    made = inside(space.within(sub).compile("sandwich"))
    costs = [made.cost(sub.member(i)) for i in range(sub.tally().low)]
    assert made.cost(made.extreme(1)) == max(costs)
    assert made.cost(made.extreme(-1)) == min(costs)
    first, *_, last = make_sampler({**SETTINGS, "sampler": "sandwich"}, made).next()
    assert (made.cost(first), made.cost(last)) == (max(costs), min(costs))


def test_of_more_members_than_can_be_listed_some_are_looked_at() -> None:
    space = load("cream", resolution=32, depths=[1, 2, 2, 2, 2], classes=10)
    sub = space.balls(space.sample(2, seed=0), 7)
    assert sub.tally().low > MAX_LISTED
    within = space.within(sub)
    made = inside(within.compile("sandwich"))
    assert made.cost(made.extreme(1)) > made.cost(made.extreme(-1))
    assert within.allows(made.extreme(1))
    assert make_finder({**SETTINGS, "search": "random"}, made, []).exhausted is False


def test_fair_trains_every_value_once_where_the_sub_space_is_a_product() -> None:
    space = load("nasbench201", N=1, C=4, resolution=8)
    product = space.within(space.restriction({d.path: d.values[1:4] for d in space.decisions}))
    paths = make_sampler({**SETTINGS, "sampler": "fair"}, inside(product.compile("fairnas"))).next()
    assert len(paths) == 3
    for decision in space.decisions:
        assert {p[decision.path] for p in paths} == set(decision.values[1:4])
    assert all(product.allows(p) for p in paths)
    few = space.within(space.members(space.sample(5, seed=0)))
    for method, chosen in (("fairnas", {}), ("spos", {"sampler": "fair"})):
        with pytest.raises(UserError, match=r"NAS505(.|\n)*does not go with this sub-space(.|\n)*uniform"):
            few.compile(method, settings=chosen)


def test_a_sub_space_without_a_member_within_the_limits_is_refused(
    spaces: Callable[[bool], Space],
) -> None:
    space, free = spaces(True), spaces(False)
    dear = max(free.sample(50, seed=0), key=lambda a: free.stats(a).macs)
    assert free.stats(dear).macs > 60_000
    with pytest.raises(UserError, match="NAS404"):
        space.within(members(space.checked, [dear.choices])).compile("spos")


def test_the_last_member_of_many_is_found() -> None:
    """Drawing it would take thousands of tries; it is looked for among all of them."""
    space = load("nasbench201", N=1, C=4, resolution=8)
    sub = space.members(space.sample(4000, seed=0))
    made = inside(space.within(sub).compile("evolution"))
    found = make_finder({**SETTINGS, "search": "aging", "evaluations": 10_000}, made, [])
    everyone = [sub.member(i) for i in range(sub.tally().low)]
    last = everyone.pop(1234)
    judged = [(choices, 0.5, 1) for choices in everyone]
    found.load_state_dict({"judged": judged, "queue": [], "draw": made.state_dict()})
    assert found.ask() == last
    found.tell(0.5)
    assert found.ask() is None
    assert found.exhausted
