"""A restricted space: every encoding of the support is one of it, and the same network; the rest is gone."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache

import pytest

import nasdsl
from nasdsl.cases import Choice
from nasdsl.codegen.variables import form_of as form_name
from nasdsl.diagnostics import Source, render
from nasdsl.identity.canonical import certificate, form_of
from nasdsl.identity.encodings import Encodings
from nasdsl.ir.cost import module_count
from nasdsl.ir.nodes import Gather, Select
from nasdsl.passes.specialise import Specialise
from nasdsl.space.architecture import check_choices
from nasdsl.space.checked import CheckedSpace, check_source
from nasdsl.subspace.files import members, restriction
from nasdsl.subspace.restrict import fixed_decisions, restricted
from tests.laws.common import SMALL, small

TEXTS = {
    "nested options": """space n { input image(3, 8)
      op deep = conv(3) >> choose { relu, swish, relu >> bn }
      network { stem: conv(3, 4)  body: repeat 2 { choose { id, deep, conv(3) } }
      head: global_pool >> linear(10) } }""",
    "depths": """space e { input image(3, 8)
      op block = sum(id, conv(choose { 1, 3 }))
      network { stem: conv(3, 8)  one: repeat choose { 0, 1, 2 } { block }  two: repeat choose { 1, 2 } { block }
      head: global_pool >> linear(10) } }""",
    "owners": """space t { input image(3, 8)
      op zero = none
      cell c(x) { a = x >> choose { conv(3, 4), relu, id }
        n[1..2] = sum of choose 1..2 from (x, a, earlier) via choose { conv(1, 4), relu, zero }  return sum(n) }
      network { stem: conv(3, 4)  first: independent c  second: independent c  last: independent c
        head: global_pool >> linear(10) } }""",
    "mixtures": """space m { input image(3, 8)
      cell c(x) { a = x >> conv(1)
        n[1..2] = sum of choose 1.. from (x, a, earlier) via choose { conv(3) >> choose { relu, swish }, relu }
        return concat(n) }
      network { stem: conv(3, 4)  body: c  head: global_pool >> linear(10) } }""",
}
NAMES = (*TEXTS, *SMALL)


@lru_cache
def space_of(name: str) -> CheckedSpace:
    if name in SMALL:
        return small(name).checked
    space, found = check_source(Source("small.nas", TEXTS[name]))
    assert space is not None, render(found.items)
    return space


def samples(space: CheckedSpace, count: int, seed: int) -> list[dict[str, Choice]]:
    encodings, rng = Encodings(space.table), random.Random(seed)
    return [encodings.sample(rng) for _ in range(count)]


def mixed(
    space: CheckedSpace, support: Mapping[str, Sequence[Choice]], seed: int
) -> dict[str, Choice] | None:
    """An encoding whose values are in the support, each drawn by itself; None where a decision has no value."""
    rng = random.Random(seed)
    at: dict[str, Choice] = {}
    for decision in space.table.decisions:
        if decision in space.table.active(at):
            if not support[decision.path]:
                return None
            at[decision.path] = rng.choice(list(support[decision.path]))
    return dict(check_choices(space.table, at))


def same_network(space: CheckedSpace, left: CheckedSpace, choices: Mapping[str, Choice]) -> None:
    assert check_choices(left.table, choices) == choices
    assert certificate(form_of(left.module, choices)) == certificate(form_of(space.module, choices))
    assert module_count(Specialise(choices)(left.module)) == module_count(Specialise(choices)(space.module))


@pytest.mark.parametrize("count", [1, 2, 6])
@pytest.mark.parametrize("name", NAMES)
def test_every_mixture_of_members_is_there_and_the_same_network(name: str, count: int) -> None:
    space = space_of(name)
    inside = samples(space, count, seed=count)
    support = members(space, inside).support()
    left = restricted(space, support)
    assert Encodings(left.table).count() <= Encodings(space.table).count()
    mixtures = [m for seed in range(2) if (m := mixed(space, support, seed)) is not None]
    for choices in (*inside[:2], *mixtures):
        same_network(space, left, choices)


@pytest.mark.parametrize("name", NAMES)
def test_what_no_member_takes_is_gone_everywhere(name: str) -> None:
    space = space_of(name)
    support = members(space, samples(space, 2, 5)).support()
    left, fixed = restricted(space, support), fixed_decisions(space)
    table = left.table.by_path
    for path, values in support.items():
        if values and path not in fixed:
            taken = {v for value in values for v in ((value,) if isinstance(value, str) else value)}
            assert set(table[path].options) == taken
        elif path in fixed and path in table:
            assert table[path].options == space.table.by_path[path].options
    for use in left.module.uses():
        for node in use.graph.nodes:
            if isinstance(node, (Select, Gather)):
                names = node.options if isinstance(node, Select) else node.names
                assert names == table[use.decision(node.decision)].options
    for decision in left.table.decisions:
        for guard in decision.when or ():
            assert all(e.option in table[e.decision].options for e in guard)


@pytest.mark.parametrize("name", NAMES)
def test_all_values_leave_the_space_as_it_is(name: str) -> None:
    space = space_of(name)
    left = restricted(space, {d.path: d.values for d in space.table.decisions})
    assert left.table == space.table
    same_network(space, left, samples(space, 1, 1)[0])


def test_owners_whose_decisions_differ_have_graphs_and_variables_of_their_own() -> None:
    space = space_of("owners")
    path = next(d.path for d in space.table.decisions if d.path.startswith("second") and d.kind == "op")
    left = restricted(space, restriction(space, {path: [space.table.by_path[path].options[0]]}).support())
    owners = {use.owner: form_name(use.graph) for use in left.module.uses() if use.owner}
    assert owners["first.c"] == owners["last.c"] != owners["second.c"]
    assert len({g.name for g in left.module.graphs}) == len(left.module.graphs)


def test_a_decision_that_no_member_makes_keeps_one_value_where_a_mixture_makes_it() -> None:
    space = space_of("nested options")
    support = {d.path: d.values for d in space.table.decisions if d.when is None}
    left = restricted(space, support)
    nested = [d for d in left.table.decisions if d.when is not None]
    assert nested
    assert all(d.values == space.table.by_path[d.path].values[:1] for d in nested)


def test_what_needs_an_option_that_is_gone_is_gone() -> None:
    space = space_of("nested options")
    outer = [d for d in space.table.decisions if d.when is None]
    left = restricted(space, {d.path: d.values[:1] for d in outer})
    assert [d.path for d in left.table.decisions] == [d.path for d in outer]


def test_restricting_a_published_space_makes_its_supernet_smaller() -> None:
    space = nasdsl.load("nasbench201", N=1, C=4, resolution=8)
    sub = space.restriction({d.path: ["nor_conv_3x3", "skip_connect"] for d in space.decisions})
    left = restricted(space.checked, sub.support())
    assert Encodings(left.table).count() == sub.tally().low == 2 ** len(space.decisions)
    assert sum(len(g.nodes) for g in left.module.graphs) < sum(
        len(g.nodes) for g in space.checked.module.graphs
    )
